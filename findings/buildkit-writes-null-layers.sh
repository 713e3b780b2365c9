#!/usr/bin/env bash
# BuildKit writes `"layers": null` for an image without layers.
#
# Version:  github.com/moby/buildkit v0.34.2, its commands buildkitd and buildctl, from the Go module proxy.
# Input:    a Dockerfile of `FROM scratch` and `ENTRYPOINT ["/app"]`, built into an OCI archive.
# Guess:    the manifest has an empty list, `"layers": []`: the image specification requires the property, an array.
# Seen:     `"layers": null`. Whoever reads a manifest has to take null for an empty list.
#
# Fails if BuildKit writes anything else. Needs root, Go and runc; takes some minutes the first time.
set -euo pipefail

version=v0.34.2
folder=$(mktemp -d)
daemon=

finish() {
    if [ -n "$daemon" ]; then
        kill "$daemon" || true
        wait "$daemon" || true
    fi
    chmod -R u+w "$folder"
    rm -rf "$folder"
}
trap finish EXIT

mkdir "$folder/module" "$folder/context" "$folder/image"
# `go install` refuses modules that exclude others.
cd "$folder/module"
go mod init finding 2>/dev/null
timeout 200 go get -tool "github.com/moby/buildkit/cmd/buildctl@$version" "github.com/moby/buildkit/cmd/buildkitd@$version" 2>/dev/null
timeout 900 go build -o "$folder/" tool

printf 'FROM scratch\nENTRYPOINT ["/app"]\n' >"$folder/context/Dockerfile"
timeout 120 "$folder/buildkitd" --root "$folder/root" --addr "unix://$folder/socket" --containerd-worker=false \
    --otel-socket-path "$folder/traces" --oci-worker-snapshotter native --oci-worker-net host >"$folder/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
    [ ! -S "$folder/socket" ] || break
    sleep 0.1
done
timeout 60 "$folder/buildctl" --addr "unix://$folder/socket" build --frontend dockerfile.v0 \
    --local "context=$folder/context" --local "dockerfile=$folder/context" \
    --output "type=oci,dest=$folder/image.tar" >/dev/null 2>&1
tar -xf "$folder/image.tar" -C "$folder/image"
manifest=$(sed -n 's/.*"manifests":\[{[^}]*"digest":"sha256:\([0-9a-f]*\)".*/\1/p' "$folder/image/index.json")
cat "$folder/image/blobs/sha256/$manifest"
echo
tr -d ' \n' <"$folder/image/blobs/sha256/$manifest" | grep --quiet '"layers":null' \
    || { echo "BuildKit writes its layers in another way by now" && exit 1; }
