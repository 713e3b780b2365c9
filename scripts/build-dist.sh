#!/usr/bin/env bash
# Builds what is shipped: the shim and `wasm-image` with LTO, and the installer as a static program.
#
#   build-dist.sh                            into target/dist
#   build-dist.sh aarch64-unknown-linux-gnu  into target/aarch64-unknown-linux-gnu/dist, by crossbuild-essential-arm64
#
# PROFILE (dist) and PACKAGES (shim and wasm-image) choose otherwise. No path of the machine comes into the programs, so that two
# builds in two folders are the same bytes.
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
# In target/release is the workspace's own.
[ "$profile" = release ] || install -D "target/static/$target/$profile/node-installer" "$programs/node-installer"
