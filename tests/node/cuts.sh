#!/bin/bash
# On the node: the power is cut while it does `work`; `check` says what must hold when it is back. $1 is one of them.
set -euo pipefail
cd /programs/project
installer=target/release/node-installer
kept=/var/lib/wasmtime-shim/cache
blobs=/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256
# A guest whose code is kept in the content store, and one whose code is a file.
images=(hello-layer hello)

step() { echo "== $*"; }

fail() { echo "error: $*"; exit 1; }

reference() { echo "registry.example/samples/$1:1"; }

# What a guest prints. $2 is a name for it.
run() {
    timeout 120 ctr run --rm --platform "$(platform "$1")" --runtime io.containerd.wasmtime.v1 "$(reference "$1")" "$2"
}

platform() {
    [ "$1" = hello ] && echo "linux/$(dpkg --print-architecture)" || echo wasip2/wasm
}

import() {
    ctr images import --all-platforms --no-unpack "target/images/$1.tar" > /dev/null
}

is_there() { [ -n "$(ctr images list --quiet "name==$(reference "$1")")" ]; }

# The shim, and another file that does the same: what an upgrade installs.
shims() {
    mkdir -p /var/tests
    [ -s /var/tests/other ] || { cp target/release/containerd-shim-wasmtime-v1 /var/tests/new && echo >> /var/tests/new && sync /var/tests/new && mv /var/tests/new /var/tests/other; }
    echo target/release/containerd-shim-wasmtime-v1 /var/tests/other
}

work() {
    local round shim id image each
    for round in $(seq 1000); do
        for shim in $(shims); do
            step "install $round"
            "$installer" install --shim "$shim" > /dev/null
            for image in "${images[@]}"; do
                step "import $round"
                ctr images remove --sync "$(reference "$image")" > /dev/null
                import "$image"
                step "compile $round"
                rm -rf "$kept"
                run "$image" "first-$image-$round" > /dev/null
                step "start $round"
                for each in 1 2 3; do
                    id=start-$image-$round-$each
                    run "$image" "$id" > /dev/null
                done
            done
        done
        step "uninstall $round"
        "$installer" uninstall > /dev/null
    done
}

check() {
    local image said id
    systemctl enable --quiet --now containerd
    "$installer" install --shim target/release/containerd-shim-wasmtime-v1 > /dev/null
    "$installer" status > /dev/null
    systemctl is-active --quiet containerd
    cmp /usr/local/bin/containerd-shim-wasmtime-v1 target/release/containerd-shim-wasmtime-v1
    for id in $(ctr tasks list --quiet); do fail "$id runs"; done
    for id in $(ctr containers list --quiet); do ctr containers delete "$id"; done
    whole
    for image in "${images[@]}"; do
        is_there "$image" || import "$image"
        again_if_damaged "$image"
        for id in check again; do
            said=$(run "$image" "$id" 2>&1) || true
            [ "$said" = "hello from wasi" ] || fail "$image says: $said"
        done
    done
    whole
    "$installer" uninstall > /dev/null
    "$installer" install --shim target/release/containerd-shim-wasmtime-v1 > /dev/null
}

# containerd may record an image before its content is on disk. After a cut, a blob or a directory that it unpacked may then be missing,
# or files there may be empty. What is not whole must not run. The image must be of use again once it is removed and imported.
again_if_damaged() {
    local said reason
    if said=$(run "$1" looks 2>&1); then
        [ "$said" = "hello from wasi" ] || fail "$1 says: $said"
        return
    fi
    reason=$(grep -oE 'is not wasm: it is empty|blob not found|failed to stat parent' <<< "$said") || fail "$1 says: $said"
    echo "damaged image: $1: ${reason%%$'\n'*}"
    ctr containers delete looks 2> /dev/null || true
    ctr images remove --sync "$(reference "$1")" > /dev/null
    import "$1"
}

# Each file of the content store is what its name says.
whole() {
    local sums
    sums=$(find "$blobs" -type f -printf '%f  %p\n' 2> /dev/null || true)
    [ -z "$sums" ] || sha256sum --quiet --check - <<< "$sums"
}

case ${1:-} in
    work) work ;;
    check) check; echo "== done" ;;
    *) fail "$1: allowed are work and check" ;;
esac
