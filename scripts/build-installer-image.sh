#!/usr/bin/env bash
# Packs the image of the chart's DaemonSet. It contains the static installer, the shim that it puts on the node, and a
# guest for `helm test`.
#
#   build-installer-image.sh                      target/images/node-installer.tar, from what `make build` has built
#   build-installer-image.sh dist                 the same from what `make dist` has built
#   build-installer-image.sh dist arm64           target/images/node-installer-arm64.tar, from `make dist-arm64`
set -euo pipefail

# shellcheck source=scripts/guest-steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-steps.sh"

version=$(sed -n 's/^version = "\(.*\)"/\1/p; T; q' "$root/Cargo.toml")
profile=${1:-release}
architecture=${2:-}
name=node-installer${architecture:+-$architecture}
programs=$root/target/$profile
[ "$architecture" != arm64 ] || programs=$root/target/aarch64-unknown-linux-gnu/$profile
shim=$programs/containerd-shim-wasmtime-v1
installer=$programs/node-installer
rootfs=$out/$name-rootfs

main() {
    packer
    # `make dist` has built a static installer. The other one is built for the tests.
    [ "$profile" != release ] || static
    [ -e "$shim" ] || die "$shim is not built: make build or make dist"
    fresh "$out/$name.tar" "$installer" "$shim" "$out/hello.wasm" "$wasm_image" && return
    rm -rf "$rootfs"
    mkdir -p "$rootfs/tmp" "$rootfs/proc" "$rootfs/sys" "$rootfs/dev"
    cp "$installer" "$shim" "$out/hello.wasm" "$rootfs/"
    say "target/images/$name.tar"
    "$wasm_image" build -t "registry.example/wasmtime-shim/node-installer:$version" -o "$out/$name.tar" \
        --rootfs "$rootfs" --entrypoint /node-installer ${architecture:+--platform "linux/$architecture"} >/dev/null
}

static() {
    installer=$root/target/static/$(rustc -vV | sed -n 's/^host: //p')/release/node-installer
    say "crates/node-installer, static"
    (cd "$root" && PROFILE=release PACKAGES='' scripts/build-dist.sh)
}

main
