#!/usr/bin/env bash
# containerd 2 starts no container in a user namespace whose runtime is not runc's and has options.
#
# Version:  github.com/containerd/containerd/v2 v2.4.2, its commands containerd and ctr, from the Go module proxy. (2.0.4 has no such
#           step, 2.0.5 has it.)
# Input:    `ctr run` of an empty root with a runtime io.containerd.other.v1, in a user namespace and not, with and without a
#           configuration file for the runtime, which is what a table of options becomes for every runtime but runc.
# Guess:    each ends with the same error, because no shim of that name is there. What the options mean is between the configuration
#           and that shim.
# Seen:     with both, the shim is not even looked for: the client wants to tell who owns the container's streams, which only
#           runc's options can say, and does not find these in the runtime's. So through CRI a Pod with `hostUsers: false` starts no
#           container if its handler has a table of options and another type than io.containerd.runc.v2. Its sandbox starts.
#
# Fails if the errors are others. Needs Go and root; takes some minutes the first time.
set -euo pipefail

version=v2.4.2
directory=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$directory"' EXIT
cd "$directory"

for command in containerd ctr; do
    GOBIN=$directory timeout 1200 go install -tags no_btrfs,no_devmapper,no_zfs \
        "github.com/containerd/containerd/v2/cmd/$command@$version" 2>/dev/null
done

cat >config.toml <<TOML
version = 3
root = "$directory/root"
state = "$directory/state"
disabled_plugins = ["io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri"]
[grpc]
  address = "$directory/containerd.sock"
[ttrpc]
  address = "$directory/containerd.sock.ttrpc"
TOML
mkdir rootfs
touch options.toml
./containerd --config config.toml >containerd.log 2>&1 &
timeout 20 sh -c "until ./ctr --address containerd.sock version >/dev/null 2>&1; do sleep 0.2; done"

# run NAME FLAG...: prints the error of a run with these flags.
run() {
    local name=$1 error
    shift
    error=$(timeout 60 ./ctr --address "$directory/containerd.sock" run --runtime io.containerd.other.v1 "$@" \
        --rootfs "$directory/rootfs" "${name// /-}" true 2>&1 >/dev/null || true)
    echo "$name: $(grep -oE "runtime \"io.containerd.other.v1\" binary not installed|can't unmarshal type .*" <<<"$error" || echo "$error")"
}

users=(--uidmap 0:100000:65536 --gidmap 0:100000:65536)
options=(--runtime-config-path "$directory/options.toml")
{
    run neither
    run options "${options[@]}"
    run users "${users[@]}"
    run both "${users[@]}" "${options[@]}"
} | tee seen
diff seen - <<'SEEN' || { echo "containerd does otherwise by now" && exit 1; }
neither: runtime "io.containerd.other.v1" binary not installed
options: runtime "io.containerd.other.v1" binary not installed
users: runtime "io.containerd.other.v1" binary not installed
both: can't unmarshal type "runtimeoptions.v1.Options" to output "containerd.runc.v1.Options"
SEEN
