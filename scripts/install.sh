#!/usr/bin/env bash
# Puts the shim of this build on this machine, as root, and runs a guest as a check.
#
#   install.sh [ARGUMENT...]    arguments of `node-installer install`, if containerd is not in its usual place;
#                               set CONTAINERD_ADDRESS to its socket for ctr
set -euo pipefail
cd "$(dirname "$0")/.."
built=target/release
image=registry.example/samples/hello:1

if [ "$(id -u)" -ne 0 ]; then
    echo "error: installing needs root: sudo make install" >&2
    exit 1
fi
"$built/node-installer" install --shim "$built/containerd-shim-wasmtime-v1" "$@"
status=()
for argument in "$@"; do
    # Arguments that `status` accepts as well.
    case $argument in --bin-dir=* | --replace | --env=* | --shim=*) ;; *) status+=("$argument") ;; esac
done
shim=$("$built/node-installer" status "${status[@]}" | sed -n 's/^file: *\([^ ]*containerd-shim-wasmtime-v1\).*/\1/p')
for ctr in "${CTR:-ctr}" /var/lib/rancher/k3s/data/current/bin/ctr; do
    command -v "$ctr" >/dev/null && break
done
echo "== a guest"
"$ctr" images import target/images/hello.tar >/dev/null
"$ctr" run --rm --runtime "${shim:-io.containerd.wasmtime.v1}" "$image" "hello-$$"
