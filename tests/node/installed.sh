#!/bin/bash
# On the node: the shim is installed for its own containerd, and taken away. Between, containers live through a restart of
# containerd by systemd, and nothing of them is left after a reboot. The step is $1: `install`, or `after-reboot`.
set -euo pipefail
cd /programs/project
installer=target/release/node-installer
image=registry.example/samples

step() { echo "== $*"; }

fail() { echo "error: $*"; exit 1; }

run() {
    local each=(ctr run --detach --runtime io.containerd.wasmtime.v1)
    "${each[@]}" --cgroup "tests.slice:ctr:guest$1" "$image/hello:1" "guest$1" /hello.wasm sleep 1000
    "${each[@]}" --cgroup "tests.slice:ctr:program$1" "$image/linux:1" "program$1" sleep 1000
    ctr tasks list
    all_run "$1"
    systemctl is-active "ctr-guest$1.scope" "ctr-program$1.scope"
}

all_run() {
    [ "$(ctr tasks list | grep -c "$1 .*RUNNING")" = 2 ] || fail "they do not run: $(ctr tasks list)"
}

# Ends what `run` has begun, and looks for what is left of it.
end() {
    local id
    for id in "guest$1" "program$1"; do
        ctr tasks kill --signal SIGKILL "$id"
        for _ in $(seq 60); do ctr tasks list | grep "$id .*STOPPED" >/dev/null && break; sleep 1; done
        ctr tasks delete "$id" || true
        ctr containers delete "$id"
    done
    nothing_left "$1"
}

nothing_left() {
    local found
    found=$(pgrep -af "containerd-shim.* -id (guest|program)$1 " || true; find /sys/fs/cgroup /run/containerd -name "*guest$1*" -o -name "*program$1*"
        grep -E "(guest|program)$1" /proc/self/mountinfo || true; systemctl list-units --all --plain --no-legend "ctr-*$1.scope")
    [ -z "$found" ] || fail "left behind: $found"
}

installed() {
    mkdir -p /var/tests
    step "the node's own containerd, as Debian has it"
    systemctl enable --now containerd
    cp -a /etc/containerd /var/tests/before
    step "install"
    "$installer" install --shim target/release/containerd-shim-wasmtime-v1
    "$installer" status
    systemctl is-active containerd
    for each in hello linux; do ctr images import --all-platforms --no-unpack "target/images/$each.tar" > /dev/null; done
    step "containers live through a restart of containerd"
    run 1
    systemctl restart containerd
    all_run 1
    ctr tasks exec --exec-id e1 program1 ls /
    ctr tasks exec --exec-id e2 guest1 ls /
    end 1
    step "and are there when the node is rebooted"
    run 2
    sync
}

after_reboot() {
    step "nothing of them is left but their records"
    systemctl is-active containerd
    ctr tasks list
    ! ctr tasks list | grep RUNNING >/dev/null || fail "something runs"
    ctr containers delete guest2 program2
    nothing_left 2
    step "others run"
    run 3
    end 3
    step "uninstall"
    "$installer" uninstall
    systemctl is-active containerd
    diff -r /var/tests/before /etc/containerd || fail "the configuration is not what it was"
    ! command -v containerd-shim-wasmtime-v1 || fail "the shim is still there"
}

case ${1:-install} in
    install) installed ;;
    after-reboot) after_reboot ;;
    *) fail "step $1: allowed are install and after-reboot" ;;
esac
echo "== done"
