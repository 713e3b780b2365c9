#!/usr/bin/env bash
# An emulated node with systemd and cgroup v2, and what is built here in it.
#
#   node.sh build             builds what the node gets beside the images and containerd of this machine; everything where ARCH is
#                             another
#   node.sh test [STORY...]   the stories whose names begin so (default: tests/node/stories.txt), with systemd's cgroups and with
#                             cgroupfs; what they print is in target/node/results
#   node.sh gateway           the stories of a node with 512 MiB
#   node.sh installed         the installer on the node's own containerd, a restart of that and a reboot with containers
#   node.sh cuts [NUMBER]     cuts the power so often (default: 100) while the shim is installed, images are imported and compiled, and
#                             guests start; after each the node must come up and be whole
#   node.sh run SCRIPT...     a shell script on the node
#   node.sh shell             a console as root; `poweroff` or ctrl-A x end it
#
# ARCH (Debian's name), MEMORY (MiB) and CPUS describe the node. It is emulated, ten to thirty times slower than the machine, and has
# no network but a port of 127.0.0.1. It runs as long as this command, and what it writes is lost.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=tests/node/emulator.sh
. "$here/emulator.sh"

main() {
    local action=${1:-}
    [ $# -eq 0 ] || shift
    case $action in
        build) build_programs ;;
        test) test_stories "$@" ;;
        run) start_node && cat -- "$@" | on_node ;;
        gateway) memory=512 NODE_CGROUPS=systemd results=$results/gateway; test_stories gateway:: ;;
        installed) try_installed ;;
        cuts) cut_power "${1:-100}" ;;
        shell) start_node -serial mon:stdio ;;
        *) sed -n '2,/^set /{/^#/s/^# \?//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
}

# What `wait` of the tests is multiplied by: an emulated processor is that much slower.
patience=8

test_stories() {
    local stories=("$@") cgroups failed=0
    [ $# -gt 0 ] || mapfile -t stories < <(grep -v '^#' "$here/stories.txt")
    mkdir -p "$results"
    start_node
    for cgroups in ${NODE_CGROUPS:-systemd cgroupfs}; do
        echo "== stories with $cgroups (an hour and more for all): ${stories[*]}"
        run_stories "$cgroups" "${stories[@]}" | tee "$results/$cgroups.log" || failed=1
    done
    collect > "$results/node.log" || true
    stop_node
    [ $failed -eq 0 ] || echo "error: see target/node/results" >&2
    return $failed
}

# Each group by itself: a node that is short of memory keeps no more than one in /tmp. systemd:: has systemd executed anew, which
# nothing else is to run beside.
run_stories() {
    local cgroups=$1
    shift
    on_node << END
export WASMTIME_SHIM_TEST_CGROUPS=$cgroups WASMTIME_SHIM_TEST_PATIENCE=$patience
export WASMTIME_SHIM_TEST_CONTAINERD="${WASMTIME_SHIM_TEST_CONTAINERD:-2}"
cd '$root/tests'
failed=0
for group in ${*@Q}; do
    threads=$cpus
    case \$group in
        systemd::*) [ $cgroups = systemd ] || continue; threads=1 ;;
    esac
    echo "== \$group"
    '$root/target/release/stories' --include-ignored --test-threads=\$threads "\$group" || failed=1
done
exit \$failed
END
}

try_installed() {
    start_node
    act installed.sh install
    reboot_node
    act installed.sh after-reboot
    stop_node
}

# The longest that the node works before a cut, in seconds: a round of that work, here.
round=60

# All on one disk, whose damage would add up. The node loses what it has not yet written to its disk. The emulator loses little of
# what the node has written and not flushed: the places of new blocks.
cut_power() {
    local number=$1 cut doing job
    cache=writeback
    start_node
    act cuts.sh check
    for cut in $(seq "$number"); do
        act cuts.sh work > "$work/doing" &
        job=$!
        sleep "$((RANDOM % round)).$((RANDOM % 1000))"
        kill -0 "$job" 2> /dev/null || { cat "$work/doing" >&2; exit 1; }
        kill -KILL "$emulator"
        wait 2> /dev/null || true
        doing=$(tail -n 1 "$work/doing")
        doing=${doing#== }
        boot_node "$image"
        act cuts.sh check > "$work/checked" || {
            echo "error: after cut $cut, during ${doing:-the start}:" >&2
            cat "$work/checked" >&2
            exit 1
        }
        echo "cut $cut during ${doing:-the start}: $(grep damaged "$work/checked" || echo whole)"
    done
    stop_node
}

# act SCRIPT ACTION: runs the script from here on the node, with the action as its argument.
act() {
    { echo "set -- $2" && cat "$here/$1"; } | on_node
}

collect() {
    on_node << 'END'
journalctl --no-pager --priority=warning --lines=400
systemctl --no-pager list-units --failed
END
}

main "$@"; exit
