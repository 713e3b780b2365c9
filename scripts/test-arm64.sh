#!/usr/bin/env bash
# Runs what `make dist-arm64` has built on this machine, with qemu-user. The programs print their versions, `wasm-image`
# packs and judges a guest, the installer puts the shim into a tree of files, and the engine's tests compile guests to
# code for aarch64 and run them.
#
# The parts of a container (clone3, namespaces, cgroups, seccomp) are not tested, because qemu-user does not support all
# of them.
#
# Processes that the programs start must be emulated as well. So everything runs in a user namespace with a binfmt_misc
# of its own, separate from the machine's (Linux 6.7).
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=aarch64-unknown-linux-gnu
# shellcheck source=scripts/dist-steps.sh
. scripts/dist-steps.sh
version=$(sed -n 's/^version = "\(.*\)"/\1/p; T; q' Cargo.toml)
shim=$programs/containerd-shim-wasmtime-v1

main() {
    case ${1:-} in
        "")
            machines
            floors
            engine_tests
            unshare --user --map-root-user --mount scripts/test-arm64.sh emulated "$engine_tests"
            ;;
        emulated)
            emulate
            scratch=$(mktemp -d)
            trap 'rm -rf "$scratch"' EXIT
            names
            image
            installer
            guests "$2"
            ;;
    esac
}

machines() {
    local program
    for program in "$programs"/{containerd-shim-wasmtime-v1,wasm-image,node-installer}; do
        [[ $(readelf --file-header "$program") == *AArch64* ]] || die "$program is not for aarch64"
    done
}

# The engine's tests are built without LTO, with the profile of what `make test-node` builds for aarch64.
engine_tests() {
    local built
    cross
    built=$(profile=release; cargo_for_target target "$(paths)" test --no-run --message-format=json --package=engine --test run)
    engine_tests=$(sed -n 's/.*"executable":"\([^"]*\/run-[^"]*\)".*/\1/p' <<< "$built")
    [ -x "$engine_tests" ] || die "the engine's tests are not built"
}

# Makes the kernel start programs for aarch64 with qemu. They are recognised by this header (elf(5)).
emulate() {
    local head='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    printf '%s' ":aarch64:M::$head:$mask:$(command -v qemu-aarch64-static):F" > /proc/sys/fs/binfmt_misc/register
}

names() {
    is "$("$shim" -v)" "containerd-shim-wasmtime-v1 $version"
    is "$("$programs/wasm-image" --version)" "wasm-image $version"
    is "$("$programs/node-installer" --version)" "node-installer $version"
    has "$("$shim" -info < /dev/null | tr -d '\0')" io.containerd.wasmtime.v1
}

image() {
    "$programs/wasm-image" build images/hello-wat/hello.wat -t registry.example/hello:1 -o "$scratch/hello.tar" > /dev/null
    has "$("$programs/wasm-image" inspect "$scratch/hello.tar")" runs
    say "wasm-image: packs a guest, and says that it runs"
}

installer() {
    local tree=$scratch/node
    cp -r crates/node-installer/tests/golden/kubeadm-2.1/root "$tree"
    mkdir -p "$tree/var/lib" "$tree/usr/local/bin"
    cp -r "$tree" "$scratch/before"
    installer_on "$tree" install --shim "$shim"
    is "$("$tree/usr/local/bin/containerd-shim-wasmtime-v1" -v)" "containerd-shim-wasmtime-v1 $version"
    installer_on "$tree" uninstall
    diff -r "$scratch/before" "$tree" || die "the installer does not restore the tree"
    say "node-installer: installs and uninstalls"
}

installer_on() {
    "$programs/node-installer" "${@:2}" --root "$1" --containerd-version 2.1.4 > /dev/null
}

# These guests end by themselves. qemu does not support everything that the others need.
guests() {
    "$1" command::
}

is() { [ "$1" = "$2" ] || die "it says \"$1\" instead of \"$2\""; say "$1"; }
has() { [[ $1 == *$2* ]] || die "it says \"$1\", without \"$2\""; }
say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

main "$@"
