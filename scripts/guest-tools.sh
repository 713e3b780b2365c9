# shellcheck shell=bash
# Finds the compilers of the sample guests. It is sourced, not executed.

say() { printf '%s\n' "$*"; }

# newest_llvm PROGRAM: prints its path in the newest LLVM of the distribution, or else in PATH.
newest_llvm() {
    local found
    found=$(printf '%s\n' /usr/lib/llvm-*/bin/"$1" | sort -V | tail -n 1)
    if [ -x "$found" ]; then say "$found"; else command -v "$1"; fi
}

# Succeeds if the compiler has WASI 0.2 installed, with the linker that emits components.
has_wasip2() {
    local libdir
    libdir=$(rustc --print target-libdir --target wasm32-wasip2 2>/dev/null) || return 1
    compgen -G "$libdir/libstd-*.rlib" >/dev/null || return 1
    command -v wasm-component-ld >/dev/null \
        || compgen -G "$(rustc --print sysroot)/lib/rustlib/*/bin/wasm-component-ld" >/dev/null
}

# Finds a compiler that has the source of the standard library.
rustc_with_source() {
    local rustc sysroot
    for rustc in "$(command -v rustc || true)" /usr/bin/rustc; do
        sysroot=$("$rustc" --print sysroot 2>/dev/null) || continue
        if [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ]; then
            say "$rustc"
            return
        fi
    done
    return 1
}
