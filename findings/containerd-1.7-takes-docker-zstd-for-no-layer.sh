#!/usr/bin/env bash
# containerd 1.7 takes Docker's media type of a layer compressed by zstd for none of a layer.
#
# Version:  github.com/containerd/containerd v1.7.35, its package images, from the Go module proxy.
# Input:    the media types that buildx writes with `compression=zstd`: with `oci-mediatypes=true`
#           application/vnd.oci.image.layer.v1.tar+zstd, and with `oci-mediatypes=false`
#           application/vnd.docker.image.rootfs.diff.tar.zstd.
# Guess:    images.IsLayerType says yes to both: 1.7 unpacks zstd, and knows Docker's types of layers.
# Seen:     yes to OCI's, no to Docker's. An image of such layers is refused, with "mismatched image rootfs and manifest
#           layers": its config counts layers that its manifest is taken not to have.
#
# Fails if the answers are others. Needs Go.
set -euo pipefail

version=v1.7.35
folder=$(mktemp -d)

finish() {
    chmod -R u+w "$folder"
    rm -rf "$folder"
}
trap finish EXIT

cat >"$folder/main.go" <<'EOF'
package main

import (
	"fmt"

	"github.com/containerd/containerd/images"
)

func main() {
	for _, mediaType := range []string{
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
	} {
		fmt.Println(mediaType, images.IsLayerType(mediaType))
	}
}
EOF
cd "$folder"
go mod init finding 2>/dev/null
timeout 200 go get "github.com/containerd/containerd/images@$version" 2>/dev/null
timeout 200 go run . | tee answers
diff answers - <<'EOF' || { echo "containerd answers in another way by now" && exit 1; }
application/vnd.oci.image.layer.v1.tar+zstd true
application/vnd.docker.image.rootfs.diff.tar.gzip true
application/vnd.docker.image.rootfs.diff.tar.zstd false
EOF
