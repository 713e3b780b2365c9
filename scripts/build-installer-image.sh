#!/usr/bin/env bash
# Packs the image of the chart's DaemonSet, target/images/node-installer.tar: the installer, which is static, the shim that it
# puts on the node, and a guest for `helm test`.
#
#   build-installer-image.sh [PROFILE]    of cargo: release (by default) or dist
#
# The installer is built for the same machine by name, with flags of its own, so that nothing else is built anew.
set -euo pipefail

# shellcheck source=scripts/guest-steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-steps.sh"

profile=${1:-release}
target=$(rustc -vV | sed -n 's/^host: //p')
installer=$root/target/static/$target/$profile/node-installer
shim=$root/target/$profile/containerd-shim-wasmtime-v1
rootfs=$out/node-installer-rootfs

main() {
    packer
    say "crates/node-installer, static ($profile)"
    build
    [ -e "$shim" ] || die "$shim is not built: make build or make dist"
    fresh "$out/node-installer.tar" "$installer" "$shim" "$out/hello.wasm" "$wasm_image" && return
    rm -rf "$rootfs"
    mkdir -p "$rootfs/tmp" "$rootfs/proc" "$rootfs/sys" "$rootfs/dev"
    cp "$installer" "$shim" "$out/hello.wasm" "$rootfs/"
    say "target/images/node-installer.tar"
    "$wasm_image" build -t registry.example/wasmtime-shim/node-installer:0.1.0 -o "$out/node-installer.tar" \
        --rootfs "$rootfs" --entrypoint /node-installer >/dev/null
}

build() {
    local variable
    variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<< "$target")_RUSTFLAGS
    (cd "$root" && env "$variable=-Ctarget-feature=+crt-static" cargo build --quiet --locked --profile "$profile" \
        --package node-installer --target "$target" --target-dir target/static)
}

main "$@"
