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

profile=${PROFILE:-dist}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
read -r -a packages <<< "${PACKAGES-containerd-shim-wasmtime-v1 wasm-image}"
out=target/$profile
[ "$target" = "$host" ] || out=target/$target/$profile

main() {
    [ "$target" = "$host" ] || cross
    if [ "${#packages[@]}" -gt 0 ]; then
        build target "$(paths)" "${packages[@]/#/--package=}"
    fi
    build target/static "$(paths) -Ctarget-feature=+crt-static" --package=node-installer --target "$target"
    # In target/release is the workspace's own.
    [ "$profile" = release ] || install -D "target/static/$target/$profile/node-installer" "$out/node-installer"
}

# build DIRECTORY FLAGS ARGUMENT...
build() {
    local directory=$1 flags=$2 arguments=("${@:3}")
    [ "$target" = "$host" ] || arguments+=(--target "$target")
    RUSTFLAGS=$flags cargo build --locked --profile "$profile" --target-dir "$directory" "${arguments[@]}"
}

# Where sources are on this machine is nobody's business.
paths() {
    printf '%s ' "--remap-path-prefix=$PWD=/build" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
}

# A linker and C compiler for the other machine, its libraries, and a compiler that has its std: rustup's, or Debian's.
cross() {
    local variable
    variable=$(tr 'a-z-' 'A-Z_' <<< "$target")
    export "CARGO_TARGET_${variable}_LINKER=aarch64-linux-gnu-gcc"
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
    export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
        export RUSTC=/usr/bin/rustc
    fi
}

main
