#!/usr/bin/env bash
# Builds the shipped programs: the shim and `wasm-image` with LTO, and the installer as a static program.
#
#   build-dist.sh                            into target/dist
#   build-dist.sh aarch64-unknown-linux-gnu  into target/aarch64-unknown-linux-gnu/dist, with crossbuild-essential-arm64
#
# PROFILE (default: dist) and PACKAGES (default: shim and wasm-image) select something else. The programs contain no
# path of the machine, so that builds in two directories give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

TARGET=${1:-}
# shellcheck source=scripts/dist-steps.sh
. scripts/dist-steps.sh
read -r -a packages <<< "${PACKAGES-containerd-shim-wasmtime-v1 wasm-image}"

cross
if [ "${#packages[@]}" -gt 0 ]; then
    cargo_for_target target "$(paths)" build "${packages[@]/#/--package=}"
fi
cargo_for_target target/static "$(paths) -Ctarget-feature=+crt-static" build --package=node-installer --target "$target"
# target/release has the workspace's own `wasm-image`.
[ "$profile" = release ] || install -D "target/static/$target/$profile/node-installer" "$programs/node-installer"
