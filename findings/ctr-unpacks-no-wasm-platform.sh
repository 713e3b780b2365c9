#!/usr/bin/env bash
# ctr of containerd 2.4 pulls an image of the platform that it is told, unless that is one of WebAssembly.
#
# Version:  github.com/containerd/containerd/v2 v2.4.2, its commands containerd and ctr, from the Go module proxy; a
#           registry to pull from is that of github.com/google/go-containerregistry v0.22.1, its command crane.
# Input:    an image for wasi/wasm of one layer of files, and `ctr images pull --platform wasi/wasm`.
# Guess:    it is pulled and unpacked, as containerd 1.7 does and as an image for a processor that the node does not have
#           is, such as linux/riscv64.
# Seen:     `ctr: unable to initialize unpacker: no unpack platforms defined: invalid argument`. The transfer service, by
#           which ctr pulls, unpacks for the platforms of its configuration; with --local, ctr unpacks it by itself.
#
# Fails if the first succeeds, or --local does not. Needs root, Go and curl; takes some minutes the first time.
set -euo pipefail

containerd=v2.4.2
crane=v0.22.1
folder=$(mktemp -d)
address=127.0.0.1:5444
daemons=()

finish() {
    for daemon in "${daemons[@]}"; do
        kill "$daemon" || true
        wait "$daemon" || true
    done
    chmod -R u+w "$folder"
    rm -rf "$folder"
}
trap finish EXIT

export GOBIN=$folder
timeout 900 go install "github.com/containerd/containerd/v2/cmd/containerd@$containerd" \
    "github.com/containerd/containerd/v2/cmd/ctr@$containerd"
timeout 500 go install "github.com/google/go-containerregistry/cmd/crane@$crane"

timeout 120 "$folder/crane" registry serve --address "$address" >"$folder/registry.log" 2>&1 &
daemons+=($!)
cat >"$folder/config.toml" <<EOF
version = 3
root = "$folder/root"
state = "$folder/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri",
]
[grpc]
  address = "$folder/socket"
EOF
timeout 120 "$folder/containerd" --config "$folder/config.toml" >"$folder/containerd.log" 2>&1 &
daemons+=($!)
curl --silent --noproxy '*' --retry 20 --retry-delay 1 --retry-connrefused --output /dev/null "http://$address/v2/"
for _ in $(seq 100); do
    [ ! -S "$folder/socket" ] || break
    sleep 0.1
done

# image PLATFORM TAG: pushes an image of one file for that platform.
image() {
    printf '%s\n' "$1" >"$folder/platform"
    tar -cf "$folder/layer.tar" -C "$folder" platform
    timeout 30 "$folder/crane" append --insecure --new_layer "$folder/layer.tar" --new_tag "$address/app:$2" \
        --set-base-image-annotations=false >/dev/null 2>&1
    timeout 30 "$folder/crane" mutate --insecure --set-platform "$1" "$address/app:$2" --tag "$address/app:$2" >/dev/null 2>&1
}

pull() { timeout 30 "$folder/ctr" --address "$folder/socket" images pull --plain-http "$@" >"$folder/out" 2>&1; }

image wasi/wasm wasm
image linux/riscv64 riscv
pull --platform linux/riscv64 "$address/app:riscv"
if pull --platform wasi/wasm "$address/app:wasm"; then
    echo "ctr unpacks a platform of WebAssembly by now"
    exit 1
fi
grep 'no unpack platforms defined' "$folder/out"
pull --local --platform wasi/wasm "$address/app:wasm"
