#!/usr/bin/env bash
# crane calls an image invalid that has a layer of wasm.
#
# Version:  github.com/google/go-containerregistry v0.22.1, its command crane, from the Go module proxy.
# Input:    an image of one layer, application/wasm, with the layer's digest in the config's diff_ids; `crane validate`, and
#           `crane append` of a layer of files to it, which copies both.
# Guess:    the image is valid: the image specification leaves it to the reader what to make of other types of layers.
# Seen:     crane appends to the image and keeps the wasm layer with its diff_id, and calls it invalid before and after:
#           "mismatched number of diffids". It compares the number of all diff_ids with that of the layers that are tar
#           archives. An image of the layer of files alone is valid. A pipeline with `crane validate` in it stops at an
#           image of wasm.
#
# Fails if crane calls one of the first two valid, or the last invalid. Needs Go, Python and curl; takes a minute or two the
# first time.
set -euo pipefail

version=v0.22.1
directory=$(mktemp -d)
address=127.0.0.1:5445
server=

finish() {
    [ -z "$server" ] || kill "$server" || true
    rm -rf "$directory"
}
trap finish EXIT

GOBIN=$directory timeout 500 go install "github.com/google/go-containerregistry/cmd/crane@$version" 2>/dev/null
crane() { timeout 30 "$directory/crane" "$@" --insecure; }

cat >"$directory/image.py" <<'PYTHON'
import hashlib, json, pathlib, sys

layout = pathlib.Path(sys.argv[1])
(layout / "blobs/sha256").mkdir(parents=True)

def blob(media_type, content):
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": "sha256:" + digest, "size": len(content)}

def document(media_type, **content):
    return blob(media_type, json.dumps(content).encode())

oci = "application/vnd.oci.image."
layer = blob("application/wasm", b"\0asm\1\0\0\0")
rootfs = {"type": "layers", "diff_ids": [layer["digest"]]}
config = document(oci + "config.v1+json", os="linux", architecture="amd64", config={}, rootfs=rootfs)
manifest_type = oci + "manifest.v1+json"
manifest = document(manifest_type, schemaVersion=2, mediaType=manifest_type, config=config, layers=[layer])
(layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
(layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
PYTHON
python3 "$directory/image.py" "$directory/layout"
tar -cf "$directory/files.tar" -C "$directory/layout" oci-layout

timeout 120 "$directory/crane" registry serve --address "$address" >"$directory/log" 2>&1 &
server=$!
curl --silent --noproxy '*' --retry 20 --retry-delay 1 --retry-connrefused --output /dev/null "http://$address/v2/"

crane push "$directory/layout" "$address/app:1" >/dev/null 2>&1
crane append --base "$address/app:1" --new_layer "$directory/files.tar" --new_tag "$address/app:2" >/dev/null 2>&1
crane append --new_layer "$directory/files.tar" --new_tag "$address/app:3" >/dev/null 2>&1
for tag in 1 2; do
    printf 'app:%s has %s diff_ids\n' "$tag" "$(crane config "$address/app:$tag" | grep --only-matching 'sha256:' | wc -l)"
    if crane validate --remote "$address/app:$tag" >"$directory/seen" 2>&1; then
        echo "crane calls the image valid by now"
        exit 1
    fi
    grep '^FAIL.*mismatched number of diffids' "$directory/seen"
done
crane validate --remote "$address/app:3"
