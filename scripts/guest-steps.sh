# shellcheck shell=bash
# Common steps of the scripts that build the sample images: paths, freshness, guests in Rust, and packing. It is
# sourced, not executed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
src=$root/images
# OUT, with PLATFORM, CC and BUSYBOX, is for the images of another machine.
out=${OUT:-$root/target/images}
guests=$root/target/guests
wasi_libc=${WASI_LIBC:-/usr/lib/wasm32-wasi}

# shellcheck source=scripts/guest-tools.sh
. "$root/scripts/guest-tools.sh"

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# fresh OUTPUT SOURCE...: succeeds if the output is newer than the running scripts and all sources.
fresh() {
    local output=$1
    shift
    [ -e "$output" ] || return 1
    [ -z "$(find "$@" "${BASH_SOURCE[@]}" -newer "$output" -print -quit)" ]
}

packer() {
    if [ -n "${WASM_IMAGE:-}" ]; then
        wasm_image=$WASM_IMAGE
        return
    fi
    wasm_image=${CARGO_TARGET_DIR:-$root/target}/release/wasm-image
    # cargo would wait for any other build that is running.
    [ ! -e "$wasm_image" ] || [ -n "$(find "$root/crates/wasm-image" -newer "$wasm_image" -print -quit)" ] \
        || return 0
    say "crates/wasm-image: the packer"
    (cd "$root" && cargo build --quiet --release --package wasm-image)
}

# ---- guests in Rust ------------------------------------------------------------------------------

# rust_guest NAME bin|lib [SOURCE...]: builds images/NAME as a component, also from those sources. Its package has that
# name, with dashes instead of slashes.
rust_guest() {
    local name=$1 kind=$2
    fresh "$out/$name.wasm" "$src/$name" "$src/wasi-start.c" "${@:3}" && return
    command -v cargo >/dev/null || die "images/$name is written in Rust, and cargo is missing"
    mkdir -p "$(dirname "$out/$name")"
    if has_wasip2; then
        rust_with_wasip2 "$name" "$kind"
    else
        rust_with_own_std "$name" "$kind"
    fi
}

rust_with_wasip2() {
    local name=$1 kind=$2
    say "images/$name: Rust, target wasm32-wasip2"
    (cd "$src/$name" && CARGO_TARGET_DIR=$guests cargo build --locked --quiet --release --target wasm32-wasip2)
    cp "$guests/wasm32-wasip2/release/$(artifact "$name" "$kind")" "$out/$name.wasm.new"
    mv "$out/$name.wasm.new" "$out/$name.wasm"
}

# If the target's standard library is missing, builds it from source for WASI 0.1. The packer then makes a component of
# the module.
rust_with_own_std() {
    local name=$1 kind=$2 rustc linker clang start flags
    if ! rustc=$(rustc_with_source) || ! linker=$(newest_llvm wasm-ld) || ! clang=$(newest_llvm clang) \
        || [ ! -e "$wasi_libc/libc.a" ]; then
        die "images/$name is written in Rust and needs either the target wasm32-wasip2" \
            "(rustup target add wasm32-wasip2) or rustc with the source of std, clang, lld and wasi-libc" \
            "(Debian: rustc-web rust-web-src clang lld wasi-libc); scripts/install-deps.sh gets them"
    fi
    say "images/$name: Rust, target wasm32-wasip1 with std from source ($("$rustc" --version))"
    start=$wasi_libc/crt1-reactor.o
    if [ "$kind" = bin ]; then
        start=$guests/wasi-start.o
        mkdir -p "$guests"
        "$clang" --target=wasm32-wasi -O2 -Wall -Wextra -Werror -c "$src/wasi-start.c" -o "$start"
    fi
    flags="-Clink-self-contained=no -Clinker=$linker -L$wasi_libc"
    (
        cd "$src/$name" || exit
        export RUSTC=$rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags CARGO_TARGET_DIR=$guests
        cargo rustc --locked --quiet --release -Zbuild-std=std,panic_abort --target wasm32-wasip1 -- \
            -Clink-arg="$start"
    )
    "$wasm_image" componentize "$guests/wasm32-wasip1/release/$(artifact "$name" "$kind")" -o "$out/$name.wasm"
}

# artifact NAME bin|lib: prints cargo's name of the file.
artifact() {
    local package=${1//\//-}
    [ "$2" = bin ] || package=${package//-/_}
    say "$package.wasm"
}

# ---- images --------------------------------------------------------------------------------------

# pack NAME SOURCE OPTION...: packs an archive if it is older than SOURCE or the packer.
pack() {
    local name=$1 source=$2
    shift 2
    fresh "$out/$name.tar" "$source" "$wasm_image" && return
    say "target/images/$name.tar"
    "$wasm_image" build -t "registry.example/samples/$name:1" -o "$out/$name.tar" "$@" >/dev/null
}

# pack_linux NAME SOURCE OPTION...: as pack, an ordinary Linux image.
pack_linux() {
    pack "$@" ${PLATFORM:+--platform "$PLATFORM"}
}

# pack_file NAME SOURCE DEST: packs an ordinary Linux image with one file, which is the entrypoint.
pack_file() {
    pack_linux "$1" "$2" --file "$2:$3" --entrypoint "$3"
}

# pack_layer NAME SOURCE: packs an image whose layer is the guest. The guest's name is the entrypoint.
pack_layer() {
    pack "$1" "$2" "$2"
}
