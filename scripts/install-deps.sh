#!/usr/bin/env bash
# Installs what this machine lacks for building, the sample guests and the tests. With the word `cluster`, `critest`,
# `matrix`, `languages`, `bench`, `polyglot`, `manifests` or `arm64`, it also installs what that target needs.
#
# On Debian and Ubuntu it uses apt-get (with sudo if it does not run as root). Elsewhere it changes nothing, lists what
# is missing and fails. If everything is installed, it downloads and prints nothing.
set -euo pipefail

# shellcheck source=scripts/guest-tools.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-tools.sh"

missing=()  # descriptions of what is missing
packages=() # the Debian packages that contain it

main() {
    look_for_build_tools
    look_for_guest_tools
    look_for_test_tools
    case ${1:-} in
        cluster) look_for_cluster_tools ;;
        critest) look_for_critest_tools ;;
        matrix) look_for_image_tools ;;
        languages) look_for_language_tools ;;
        bench) look_for_bench_tools ;;
        polyglot | manifests) need_venv ;;
        arm64) look_for_arm64_tools ;;
    esac
    [ "${#missing[@]}" -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        explain
        exit 1
    fi
    install
}

# need WHAT PACKAGE...: records what is missing, and the Debian packages that contain it.
need() {
    missing+=("$1")
    shift
    packages+=("$@")
}

# need_command COMMAND PACKAGE...: records a missing command. Daemons may be outside of PATH.
need_command() {
    PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null || need "command $1" "${@:2}"
}

# ---- what is needed ------------------------------------------------------------------------------

look_for_build_tools() {
    need_command cc gcc libc6-dev
    need_command c++ g++
    need_command make make
    need_command git git
    need_command pkg-config pkg-config
    need_command protoc protobuf-compiler
    has_libseccomp || need "library libseccomp, with headers" libseccomp-dev
    command -v cargo >/dev/null || {
        say "error: cargo is missing; Rust comes from https://rustup.rs" >&2
        exit 1
    }
}

has_libseccomp() {
    printf '#include <seccomp.h>\n' | cc -E - >/dev/null 2>&1 \
        && printf 'int main(void) { return 0; }\n' | cc -x c - -lseccomp -o /dev/null 2>/dev/null
}

# A C compiler for wasm32-wasi, and Rust for WASI: rustup's target if it is available, otherwise a compiler with the
# source of its standard library.
look_for_guest_tools() {
    has_c_for_wasi || need "clang, lld, wasi-libc and clang's runtime for wasm32-wasi" \
        clang lld wasi-libc libclang-rt-dev-wasm32
    has_wasip2 || add_wasip2 || rustc_with_source >/dev/null \
        || need "Rust's target wasm32-wasip2, or rustc with the source of std" rustc-web rust-web-src clang lld wasi-libc
}

has_c_for_wasi() {
    local clang
    clang=$(newest_llvm clang) || return 1
    printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' \
        | "$clang" --target=wasm32-wasi -x c - -o /dev/null 2>/dev/null
}

# This is only tried if no fallback is installed, because a machine without access to rustup's server should not wait
# for it at every call.
add_wasip2() {
    command -v rustup >/dev/null || return 1
    ! rustc_with_source >/dev/null || return 1
    say "rustup target add wasm32-wasip2"
    rustup --quiet target add wasm32-wasip2 2>/dev/null
}

look_for_test_tools() {
    need_command containerd containerd
    need_command runc runc
    [ -x /usr/lib/cni/bridge ] || [ -x /opt/cni/bin/bridge ] || need "CNI plugins" containernetworking-plugins
    has_static_busybox || need "a static busybox" busybox-static
    need_command iptables iptables
    need_command ip iproute2
    need_command curl curl
    need_command shellcheck shellcheck
    need_command ps procps
    need_command mke2fs e2fsprogs
    need_command perl perl-base
    need_command docker-registry docker-registry
    need_command openssl openssl
    need_command redis-server redis-server
}

look_for_cluster_tools() {
    need_command etcd etcd-server
}

# A linker, libseccomp and, if rustup's target is not available, Debian's own std for aarch64.
look_for_arm64_tools() {
    need_command aarch64-linux-gnu-gcc crossbuild-essential-arm64
    dpkg --print-foreign-architectures | grep -x arm64 >/dev/null || as_root dpkg --add-architecture arm64
    [ -e /usr/lib/aarch64-linux-gnu/libseccomp.so ] || need "library libseccomp for arm64" libseccomp-dev:arm64
    rust_for_arm64 || need "Rust's target aarch64-unknown-linux-gnu" rustc-web libstd-rust-web-dev:arm64
    need_command qemu-aarch64-static qemu-user-static
}

rust_for_arm64() {
    local target=aarch64-unknown-linux-gnu
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || [ -d "/usr/lib/rustlib/$target" ] \
        || rustup --quiet target add "$target" 2>/dev/null
}

look_for_critest_tools() {
    need_command ipcmk util-linux
    need_command skopeo skopeo
}

# scripts/build-go-tools.sh builds the tools in Go.
look_for_image_tools() {
    need_command skopeo skopeo
    need_command buildah buildah
    need_command podman podman
}

# scripts/language-tools.sh installs the others.
look_for_language_tools() {
    need_command java default-jdk-headless
    need_command javac default-jdk-headless
    need_command mvn maven
    need_command nim nim
    need_venv
}

look_for_bench_tools() {
    need_command wrk wrk
    need_venv
}

# The tools for guests in Python and JavaScript come from PyPI, and so do the schemas of Kubernetes.
need_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || need "python3 with venv" python3 python3-venv
}

has_static_busybox() {
    local busybox
    busybox=$(command -v busybox) && ! ldd "$busybox" >/dev/null 2>&1
}

# ---- getting it ----------------------------------------------------------------------------------

# On systems other than Debian, lists what is missing, and Debian's package names.
explain() {
    {
        say "error: this machine lacks"
        printf '    %s\n' "${missing[@]}"
        say "Install them with the system's package manager; Debian's packages are called"
        printf '    %s\n' "${packages[@]}" | sort -u
        say "and Rust's target comes with \`rustup target add wasm32-wasip2\`."
    } >&2
}

install() {
    local available=() package name
    say "missing: $(printf '%s; ' "${missing[@]}")"
    as_root apt-get update -qq
    for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
        name=$(in_this_release "$package")
        available+=("$name")
    done
    say "apt-get install ${available[*]}"
    as_root apt-get install -y -qq --no-install-recommends "${available[@]}"
}

# in_this_release PACKAGE: prints its name in this release, which may contain a version or lack a suffix.
in_this_release() {
    local package=$1 candidate
    for candidate in "$package" $(alternatives "$package"); do
        if can_install "$candidate"; then
            say "$candidate"
            return
        fi
    done
    printf 'error: this release has no package %s\n' "$package" >&2
    return 1
}

# Rust must come before Debian's browser toolchain, and clang's runtime must have the version of clang.
alternatives() {
    case $1 in
        rustc-web) say rustc ;;
        rust-web-src) say rust-src ;;
        libclang-rt-dev-wasm32) say "libclang-rt-$(default_llvm)-dev-wasm32" ;;
        pkg-config) say pkgconf ;;
    esac
}

default_llvm() {
    apt-cache depends clang | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p' | head -n 1
}

can_install() {
    apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

main "$@"
