#!/usr/bin/env bash
# crane drops what it does not know of an image's config when it changes a label.
#
# Version:  github.com/google/go-containerregistry v0.22.1, its command crane, from the Go module proxy.
# Input:    an image whose config has a field that the image specification does not define ("layerDigests", as the config
#           of a CNCF Wasm artifact has it).
# Guess:    crane mutate --label changes the label, and leaves the rest of the config as it is.
# Seen:     the new config has the label and no layerDigests: it is written from crane's own type of a config. Two images
#           that differed in that field alone have the same config afterwards.
#
# Fails if crane keeps the field. Needs Go and curl; takes a minute or two the first time.
set -euo pipefail

version=v0.22.1
folder=$(mktemp -d)
address=127.0.0.1:5443
server=

finish() {
    [ -z "$server" ] || kill "$server" || true
    chmod -R u+w "$folder"
    rm -rf "$folder"
}
trap finish EXIT

GOBIN=$folder timeout 500 go install "github.com/google/go-containerregistry/cmd/crane@$version"
crane() { timeout 30 "$folder/crane" "$@" --insecure; }

# blob FILE: puts it into the layout, and prints its descriptor but for the type.
blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    cp "$1" "$folder/layout/blobs/sha256/$digest"
    printf '"digest":"sha256:%s","size":%s' "$digest" "$(stat --format %s "$1")"
}

mkdir -p "$folder/layout/blobs/sha256"
printf '{"imageLayoutVersion":"1.0.0"}' >"$folder/layout/oci-layout"
printf '{"os":"linux","architecture":"amd64","config":{},"layerDigests":["sha256:%064d"],"rootfs":{"type":"layers","diff_ids":[]}}' \
    1 >"$folder/config"
oci=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json",%s},"layers":[]}' \
    "$oci" "$oci" "$(blob "$folder/config")" >"$folder/manifest"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json",%s}]}' \
    "$oci" "$(blob "$folder/manifest")" >"$folder/layout/index.json"

timeout 120 "$folder/crane" registry serve --address "$address" >"$folder/log" 2>&1 &
server=$!
curl --silent --noproxy '*' --retry 20 --retry-delay 1 --retry-connrefused --output /dev/null "http://$address/v2/"

crane push "$folder/layout" "$address/app:1" >/dev/null
crane mutate "$address/app:1" --label a=b --tag "$address/app:2" >/dev/null 2>&1
before=$(crane config "$address/app:1")
after=$(crane config "$address/app:2")
printf 'before: %s\nafter:  %s\n' "$before" "$after"
case $before in *layerDigests*) ;; *) echo "the image was not pushed as it is" && exit 1 ;; esac
case $after in *'"a":"b"'*) ;; *) echo "the label is not there" && exit 1 ;; esac
case $after in *layerDigests*) echo "crane keeps layerDigests: it behaves in another way by now" && exit 1 ;; esac
