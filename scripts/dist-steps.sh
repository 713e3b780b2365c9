# shellcheck shell=bash
# Common steps of the scripts that build the shipped programs: the machine, the directory, and the compilers. It is
# sourced, not executed. TARGET must be set to a target of cargo. PROFILE (default: dist) selects another profile.

profile=${PROFILE:-dist}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
# Directory of the programs of this target.
# shellcheck disable=SC2034
programs=target/$profile
# shellcheck disable=SC2034
[ "$target" = "$host" ] || programs=target/$target/$profile

# cargo_for_target DIRECTORY FLAGS COMMAND ARGUMENT...: runs cargo for the target, with flags for rustc.
cargo_for_target() {
    local directory=$1 flags=$2 command=$3 arguments=("${@:4}")
    [ "$target" = "$host" ] || arguments+=(--target "$target")
    RUSTFLAGS=$flags cargo "$command" --locked --profile "$profile" --target-dir "$directory" "${arguments[@]}"
}

# The shipped programs must not contain the paths of the sources.
paths() {
    printf '%s ' "--remap-path-prefix=$PWD=/build" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
}

# Prints the oldest glibc of each program. Fails if it is newer than is supported.
floors() {
    local program floor
    for program in containerd-shim-wasmtime-v1 wasm-image node-installer; do
        floor=$(scripts/glibc-floor.sh "$programs/$program")
        echo "$program: glibc $floor"
    done
    [ "$floor" = static ] || { echo "error: node-installer is not static" >&2; exit 1; }
}

# Selects a linker and C compiler for the other machine, its libraries, and a compiler with its std: rustup's, or
# Debian's.
cross() {
    local variable
    [ "$target" != "$host" ] || return 0
    variable=$(tr 'a-z-' 'A-Z_' <<< "$target")
    export "CARGO_TARGET_${variable}_LINKER=aarch64-linux-gnu-gcc"
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
    export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
        export RUSTC=/usr/bin/rustc
    fi
}
