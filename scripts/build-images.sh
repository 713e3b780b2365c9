#!/usr/bin/env bash
# Builds the sample guests of images/ and packs them as OCI image archives. With names as arguments, it only builds
# those.
#
#   target/images/<name>.wasm   the guests (pause: a static Linux program)
#   target/images/<name>.tar    archives for `ctr image import`, as registry.example/samples/<name>:1
#
# Only what is older than its sources is built again. If there is nothing to do, nothing is printed. WASM_IMAGE names an
# existing packer; without it, the workspace's own is built. For another machine, OUT is the directory, PLATFORM that of
# OCI, CC a C compiler and BUSYBOX a static busybox.
set -euo pipefail

# shellcheck source=scripts/guest-steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-steps.sh"
# shellcheck source=scripts/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

all=(hello hello-layer hello-artifact hello-http hello-p3 hello-http-p3 hello-config hello-logging hello-keyvalue
    keyvalue-loop hello-tls hello-c hello-go hello-wat hello-module calc composed unknown-import trap exports not-wasm truncated corrupt precompiled pause planted linux critest)

main() {
    local name
    [ "$#" -gt 0 ] || set -- "${all[@]}"
    mkdir -p "$out"
    packer
    for name in "$@"; do
        image "$name"
    done
}

# image NAME: builds the contents of the image, and packs it.
image() {
    local name=$1
    case $name in
        hello)
            rust_guest hello bin
            pack_file hello "$out/hello.wasm" /hello.wasm
            ;;
        hello-layer)
            rust_guest hello bin
            pack_layer hello-layer "$out/hello.wasm"
            ;;
        hello-artifact)
            rust_guest hello bin
            pack hello-artifact "$out/hello.wasm" --artifact "$out/hello.wasm"
            ;;
        hello-config | hello-logging | hello-tls)
            rust_guest "$name" bin
            pack_layer "$name" "$out/$name.wasm"
            ;;
        keyvalue-loop)
            rust_guest keyvalue-loop bin "$src/hello-keyvalue/wit"
            pack_layer keyvalue-loop "$out/keyvalue-loop.wasm"
            ;;
        hello-http | hello-http-p3 | hello-keyvalue)
            rust_guest "$name" lib
            pack_layer "$name" "$out/$name.wasm"
            ;;
        hello-p3)
            rust_guest hello-p3 lib
            pack_file hello-p3 "$out/hello-p3.wasm" /hello-p3.wasm
            ;;
        hello-c)
            c_guest
            pack_file hello-c "$out/hello-c.wasm" /hello-c.wasm
            ;;
        hello-go)
            go_guest
            [ ! -e "$out/hello-go.wasm" ] || pack_file hello-go "$out/hello-go.wasm" /hello-go.wasm
            ;;
        hello-wat) pack_file hello-wat "$src/hello-wat/hello.wat" /hello.wat ;;
        hello-module)
            text_guest hello-module "$src/hello-wat/hello.wat"
            pack_layer hello-module "$out/hello-module.wasm" hello-module.wasm
            ;;
        calc) pack_file calc "$src/calc/calc.wat" /calc.wat ;;
        composed) pack composed "$src/composed" "$src"/composed/{app,tax,rates}.wat --entrypoint '/app.wasm#gross' ;;
        unknown-import | trap | exports)
            text_guest "$name" "$src/hostile/$name.wat"
            pack_file "$name" "$out/$name.wasm" /app.wasm
            ;;
        not-wasm | truncated | corrupt | precompiled)
            rust_guest hello bin
            broken_guests
            pack_file "$name" "$out/$name.wasm" /app.wasm
            ;;
        pause)
            pause_program
            pack_file pause "$out/pause" /pause
            ;;
        planted) planted_library ;;
        linux)
            linux_rootfs
            pack_linux linux "$out/linux-rootfs" --rootfs "$out/linux-rootfs" --cmd /bin/sh --env PATH=/bin
            ;;
        critest)
            linux_rootfs
            critest_rootfs
            ;;
        *) die "there is no $name among ${all[*]}" ;;
    esac
}

# ---- guests in C and in text ---------------------------------------------------------------------

c_guest() {
    local source=$src/hello-c/hello.c clang
    fresh "$out/hello-c.wasm" "$source" && return
    if ! clang=$(newest_llvm clang) || [ ! -e "$wasi_libc/libc.a" ]; then
        die "images/hello-c is written in C and needs clang, lld, wasi-libc and clang's runtime" \
            "for wasm32; scripts/install-deps.sh gets them"
    fi
    say "images/hello-c: C, target wasm32-wasi ($("$clang" -dumpversion))"
    "$clang" --target=wasm32-wasi -O2 -Wall -Wextra -Werror "$source" -o "$out/hello-c.wasm"
}

go_guest() {
    fresh "$out/hello-go.wasm" "$src/hello-go" && return
    if ! go_is_new_enough; then
        say "images/hello-go is not built: Go 1.21 or newer is missing"
        return
    fi
    say "images/hello-go: Go, target wasip1 ($(go env GOVERSION))"
    GOOS=wasip1 GOARCH=wasm go build -C "$src/hello-go" -trimpath -ldflags '-s -w' -o "$out/hello-go.wasm" .
}

# text_guest NAME SOURCE: builds a guest in binary form from WebAssembly text.
text_guest() {
    fresh "$out/$1.wasm" "$2" && return
    say "${2#"$root/"}: WebAssembly text"
    "$wasm_image" wat "$2" -o "$out/$1.wasm"
}

# Files that a registry or a broken disk could give to a node instead of a guest.
broken_guests() {
    local good=$out/hello.wasm code=32768
    fresh "$out/corrupt.wasm" "$good" && return
    printf 'This is not WebAssembly.\n' > "$out/not-wasm.wasm"
    head -c 1000 "$good" > "$out/truncated.wasm"
    # Compiled code as Wasmtime writes it: an ELF file whose OS/ABI is 200. It must never be loaded.
    { printf '\177ELF\002\001\001\310' && head -c 4088 /dev/zero; } > "$out/precompiled.wasm"
    # These 64 bytes are no instructions, and are well within the code.
    {
        head -c "$code" "$good"
        head -c 64 /dev/zero | tr '\0' '\377'
        tail -c "+$((code + 65))" "$good"
    } > "$out/corrupt.wasm"
}

# ---- Linux programs ------------------------------------------------------------------------------

pause_program() {
    fresh "$out/pause" "$src/pause/pause.c" && return
    say "images/pause: C, static"
    linux_c pause/pause.c "$out/pause" "${program[@]}"
}

# The tests plant it in an image.
planted_library() {
    fresh "$out/planted.so" "$src/hostile/planted.c" && return
    say "images/hostile/planted.c: C"
    linux_c hostile/planted.c "$out/planted.so" -shared -fPIC
}

# Flags of a program that needs nothing beside it.
program=(-static -Os -s)

# linux_c SOURCE OUTPUT FLAG...: compiles C for Linux.
linux_c() {
    local source=$1 output=$2 cc=${CC:-cc}
    shift 2
    command -v "$cc" >/dev/null || die "images/$source is written in C for Linux, and $cc is not there"
    "$cc" "$@" -Wall -Wextra -Werror "$src/$source" -o "$output"
}

# Makes the files of images/linux/rootfs, busybox, and a link for each of its programs.
linux_rootfs() {
    local rootfs=$out/linux-rootfs busybox applet applets
    busybox=${BUSYBOX:-$(command -v busybox)} || die "images/linux needs busybox (Debian: busybox-static)"
    fresh "$rootfs/bin/busybox" "$src/linux" "$busybox" && return
    if ldd "$busybox" >/dev/null 2>&1; then
        die "images/linux needs a static busybox (Debian: busybox-static); $busybox is not one"
    fi
    say "images/linux: busybox"
    rm -rf "$rootfs"
    mkdir -p "$rootfs"/{bin,dev,proc,root,sys,tmp,usr,var}
    chmod 1777 "$rootfs/tmp"
    cp -r "$src"/linux/rootfs/. "$rootfs"
    # BUSYBOX is the same for another machine.
    applets=$(busybox --list)
    for applet in $applets; do
        ln -sf busybox "$rootfs/bin/$applet"
    done
    rm -f "$rootfs/bin/busybox"
    ln -s ../bin "$rootfs/usr/bin"
    cp "$busybox" "$rootfs/bin/busybox"
}

# Makes the root of the images that critest requests: that of images/linux, the files of images/critest/rootfs, and a
# setuid program. `ls` is a file of its own, because a test masks it.
critest_rootfs() {
    local rootfs=$out/critest-rootfs
    fresh "$rootfs/bin/nnp" "$src/critest" "$out/linux-rootfs/bin/busybox" && return
    say "images/critest: busybox and C"
    rm -rf "$rootfs"
    cp -r "$out/linux-rootfs" "$rootfs"
    rm "$rootfs/bin/ls"
    cp "$rootfs/bin/busybox" "$rootfs/bin/ls"
    cp -r "$src"/critest/rootfs/. "$rootfs"
    linux_c critest/nnp.c "$rootfs/bin/nnp" "${program[@]}"
    chmod u+s "$rootfs/bin/nnp"
}

main "$@"
