# shellcheck shell=bash
# Starts the emulated node, runs scripts on it and ends it. Sourced by those who set `here` and `root`.
# Some variables are set by who sources this, or used there.
# shellcheck disable=SC2016,SC2034,SC2154

target=${NODE_TARGET:-$root/target/node}
results=$target/results
arch=${ARCH:-$(dpkg --print-architecture)}
memory=${MEMORY:-2048}
cpus=${CPUS:-2}
# What the emulator does with the node's writes (qemu(1)): by default nothing is kept for later.
cache=unsafe

# How long the node may take to start and to end, in seconds: more than twice what a busy machine needs.
start_limit=600
stop_limit=60

# Boots the node and waits for it; with arguments of the emulator, as a console, stays until it has ended.
start_node() {
    need "qemu-system-$(machine)" "qemu-system-${arch/amd64/x86}"
    need qemu-img qemu-utils
    image=$("$here/image.sh")
    work=$(mktemp -d "$target/node-XXXXXX")
    trap end_node EXIT
    trap 'exit 130' INT TERM HUP
    pack_programs
    qemu-img create -q -f qcow2 -F raw -b "$image/root.img" "$work/root.qcow2"
    boot_node "$image" "$@"
}

# Boots what is in $work.
boot_node() {
    local image=$1
    shift
    port=$(free_port)
    echo "== boot the node: Debian for $arch, $memory MiB, $cpus processors" >&2
    if [ $# -gt 0 ]; then
        emulate "$image" "$@" <&0 &
        emulator=$!
        wait "$emulator"
        return
    fi
    emulate "$image" -serial "file:$work/console.log" < /dev/null &
    emulator=$!
    wait_for_node
}

emulate() {
    local image=$1 console=ttyS0 machine=(-machine q35 -cpu max)
    shift
    if [ "$arch" = arm64 ]; then
        console=ttyAMA0 machine=(-machine virt -cpu cortex-a76)
    fi
    # It ends with this process, however that ends. The kernel divides the processors between sessions (sched(7), autogroup), of
    # which builds beside the node come first.
    # shellcheck disable=SC2016
    exec setsid bash -c 'echo 5 2> /dev/null > /proc/self/autogroup; exec "$@"' - \
        setpriv --pdeathsig KILL "qemu-system-$(machine)" "${machine[@]}" -accel tcg,thread=multi -smp "$cpus" -m "$memory" \
        -nodefaults -display none -no-user-config "$@" \
        -kernel "$image/vmlinuz" -initrd "$image/initrd.img" \
        -append "root=/dev/vda rw console=$console panic=-1 mitigations=off no_timer_check systemd.show_status=0 modprobe.blacklist=kvm_amd,kvm_intel,powernow_k8" \
        -drive "if=virtio,format=qcow2,cache=$cache,file=$work/root.qcow2" \
        -drive "if=virtio,format=raw,readonly=on,file=$work/programs.img" \
        -netdev "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:$port-:2222" -device virtio-net-pci,netdev=net
}

machine() {
    case $arch in
        amd64) echo x86_64 ;;
        arm64) echo aarch64 ;;
        *) echo "error: ARCH=$arch: allowed are amd64 and arm64" >&2; exit 1 ;;
    esac
}

free_port() {
    local port
    for port in $(shuf -i 20000-29999 -n 50); do
        if ! (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            echo "$port"
            return
        fi
    done
}

# Waits until it answers, after a reboot with another id than before.
wait_for_node() {
    local end=$((SECONDS + start_limit)) before=${1:-} now
    while now=$(boot_id); [ -z "$now" ] || [ "$now" = "$before" ]; do
        if [ $SECONDS -gt $end ] || ! kill -0 "$emulator" 2> /dev/null; then
            echo "error: the node is not up after $start_limit s, or has ended; its console:" >&2
            tail -n 30 "$work/console.log" >&2
            exit 1
        fi
        sleep 2
    done
    echo "== the node is up" >&2
}

# Nothing where it does not answer.
boot_id() {
    timeout 20 bash -c '. "$0"; port=$1 on_node <<< "cat /proc/sys/kernel/random/boot_id"' "$here/talk.sh" "$port" 2> /dev/null || true
}

reboot_node() {
    local before
    before=$(boot_id)
    echo "== reboot the node" >&2
    on_node <<< 'systemctl reboot' > /dev/null || true
    wait_for_node "$before"
}

# shellcheck source=tests/node/talk.sh
. "$here/talk.sh"
# shellcheck source=tests/node/programs.sh
. "$here/programs.sh"

# Asks it to power off.
stop_node() {
    local end=$((SECONDS + stop_limit))
    on_node <<< 'systemctl poweroff' > /dev/null || true
    while kill -0 "$emulator" 2> /dev/null && [ $SECONDS -lt $end ]; do sleep 1; done
}

# A power cut, and the end of what was made for it.
end_node() {
    if [ -n "${emulator:-}" ] && kill -KILL "$emulator" 2> /dev/null; then
        wait "$emulator" 2> /dev/null || true
    fi
    [ -z "${work:-}" ] || rm -rf "$work"
}

need() {
    command -v "$1" > /dev/null || { echo "error: no $1 here: apt-get install $2" >&2; exit 1; }
}
