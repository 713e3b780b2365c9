# shellcheck shell=bash
# What the scripts share that build for shipping: for which machine, into which directory, and with which compilers; sourced, not
# executed. TARGET is set by then, of cargo; PROFILE (dist) chooses another.

profile=${PROFILE:-dist}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
# Where the programs of this target are.
# shellcheck disable=SC2034
programs=target/$profile
# shellcheck disable=SC2034
[ "$target" = "$host" ] || programs=target/$target/$profile

# The oldest glibc of the distributions that are supported: that of RHEL 9. Debian 12 has 2.36, Ubuntu 22.04 2.35.
GLIBC=${GLIBC:-2.34}

# cargo_for_target DIRECTORY FLAGS COMMAND ARGUMENT...: runs cargo for the target, with flags for rustc.
cargo_for_target() {
    local directory=$1 flags=$2 command=$3 arguments=("${@:4}")
    [ "$target" = "$host" ] || arguments+=(--target "$target")
    RUSTFLAGS=$flags cargo "$command" --locked --profile "$profile" --target-dir "$directory" "${arguments[@]}"
}

# What is shipped does not say where the sources were.
paths() {
    printf '%s ' "--remap-path-prefix=$PWD=/build" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
}

# A linker and C compiler for the other machine, its libraries, and a compiler that has its std: rustup's, or Debian's.
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
