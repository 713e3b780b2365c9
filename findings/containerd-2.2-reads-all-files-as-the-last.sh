#!/usr/bin/env bash
# containerd 2.2 takes the version of the last configuration file that it imports for that of all.
#
# Version:  github.com/containerd/containerd/v2 v2.2.9, its command containerd, from the Go module proxy.
# Input:    a configuration of version 2 that sets the image of Pods' sandboxes and imports a file that adds a runtime, once
#           of version 2 and once of version 3; `containerd config dump`.
# Guess:    both have the image and the runtime: 2.2 reads either version, and each file states its own.
# Seen:     with the file of version 2, both. With the one of version 3 the image is the default again: files are merged as
#           they are, the whole is taken for version 3, and what version 2 names otherwise is ignored. It logs warnings of
#           unknown keys. A file that is added to a node must be of the version that is there.
#
# Fails if the image is another. Needs Go; takes some minutes the first time.
set -euo pipefail

version=v2.2.9
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

GOBIN=$directory timeout 900 go install -tags no_btrfs,no_devmapper,no_zfs \
    "github.com/containerd/containerd/v2/cmd/containerd@$version" 2>/dev/null

cat >"$directory/config.toml" <<TOML
version = 2
imports = ["$directory/runtime.toml"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.example/pause:1"
TOML

# with VERSION PLUGIN: prints the sandbox's image and the added runtime's type, where the added file is so.
with() {
    cat >"$directory/runtime.toml" <<TOML
version = $1
[plugins."$2".containerd.runtimes.added]
  runtime_type = "io.containerd.added.v1"
TOML
    timeout 30 "$directory/containerd" --config "$directory/config.toml" config dump 2>/dev/null \
        | sed -n "s/^ *sandbox = /$1: /p; s/^ *runtime_type = 'io.containerd.added/$1: &/p" | tr -s ' '
}

{ with 2 io.containerd.grpc.v1.cri && with 3 io.containerd.cri.v1.runtime; } | tee "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "containerd reads them in another way by now" && exit 1; }
2: 'registry.example/pause:1'
2: runtime_type = 'io.containerd.added.v1'
3: 'registry.k8s.io/pause:3.10.1'
3: runtime_type = 'io.containerd.added.v1'
SEEN
