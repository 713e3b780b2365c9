#!/usr/bin/env bash
# containerd 2 starts no container in a user namespace whose runtime is not runc's and has options.
#
# Version:  github.com/containerd/containerd/v2 v2.4.2, its commands containerd and ctr, from the Go module proxy. (By its
#           source, 2.0.4 replaces the options by runc's without an error, and 2.0.5 reads them.)
# Input:    `ctr run` of an empty root with a runtime io.containerd.other.v1, in a user namespace and not, with and without a
#           configuration file for the runtime, which is what a table of options becomes for every runtime but runc.
# Guess:    each ends with the same error, because no shim of that name is there. What the options mean is between the configuration
#           and that shim.
# Seen:     with both, the shim is not even looked for: the client must set the owner of the container's streams, which only
#           runc's options can name, and cannot read the runtime's as those. So through CRI a Pod with `hostUsers: false` starts no
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
# spec LINUX: prints a container's configuration, with that in its section "linux".
spec() {
    cat <<JSON
{"ociVersion": "1.0.2", "process": {"args": ["true"], "cwd": "/"}, "root": {"path": "$directory/rootfs"}, "linux": {$1}}
JSON
}
mapping='[{"containerID": 0, "hostID": 100000, "size": 65536}]'
spec '' >plain.json
spec "\"namespaces\": [{\"type\": \"user\"}], \"uidMappings\": $mapping, \"gidMappings\": $mapping" >users.json
./containerd --config config.toml >containerd.log 2>&1 &
timeout 60 sh -c "until ./ctr --address '$directory/containerd.sock' version >/dev/null 2>&1; do sleep 0.2; done" \
    || { tail -n 5 containerd.log && exit 1; }

# run NAME SPEC FLAG...: prints the error of a run of that spec with these flags.
run() {
    local name=$1 spec=$2 error
    shift 2
    error=$(timeout 60 ./ctr --address "$directory/containerd.sock" run --runtime io.containerd.other.v1 "$@" \
        --config "$directory/$spec.json" "$name" 2>&1 >/dev/null || true)
    echo "$name: $(grep -oE "runtime \"[a-z0-9.]*\" binary not installed|can't unmarshal type .*" <<<"$error" || echo "$error")"
}

options=(--runtime-config-path "$directory/options.toml")
{
    run neither plain
    run options plain "${options[@]}"
    run users users
    run both users "${options[@]}"
} | tee seen
diff seen - <<'SEEN' || { echo "containerd does otherwise by now" && exit 1; }
neither: runtime "io.containerd.other.v1" binary not installed
options: runtime "io.containerd.other.v1" binary not installed
users: runtime "io.containerd.other.v1" binary not installed
both: can't unmarshal type "runtimeoptions.v1.Options" to output "containerd.runc.v1.Options"
SEEN
