#!/usr/bin/env bash
# regctl reports a new tag that it has not made, where an image is already as it is to be.
#
# Version:  github.com/regclient/regclient v0.11.7, its command regctl, from the Go module proxy.
# Input:    an image, and `regctl image mod … --label a=b --create` of a tag beside it, twice: from the image without the
#           label, and from the one with it; then once more into another directory.
# Guess:    all three tags are there; the second is that of the same image as the first.
# Seen:     each time regctl prints the new image's name and exits with 0. The second tag is not there, because nothing has
#           changed, and so nothing is written to the directory that the image is from (or repository: a registry's as well).
#           In a pipeline that sets labels, the second run for the same label passes, and its tag is missing afterwards.
#
# Fails if the second tag is there. Needs Go; takes a minute the first time.
set -euo pipefail

version=v0.11.7
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

GOBIN=$directory timeout 500 go install "github.com/regclient/regclient/cmd/regctl@$version" 2>/dev/null
export REGCTL_CONFIG=$directory/config.json

# The directories are named as regctl is to print them.
cd "$directory"
regctl() { timeout 30 ./regctl "$@"; }
{
    regctl image create ocidir://images:1 --platform linux/amd64
    regctl image mod ocidir://images:1 --label a=b --create ocidir://images:2
    regctl image mod ocidir://images:2 --label a=b --create ocidir://images:3
    regctl image mod ocidir://images:2 --label a=b --create ocidir://others:3
    printf 'images has %s\n' "$(regctl tag ls ocidir://images | tr '\n' ' ')"
    printf 'others has %s\n' "$(regctl tag ls ocidir://others | tr '\n' ' ')"
} | sed 's/ *$//' | tee seen
diff seen - <<'SEEN' || { echo "regctl treats an image without changes in another way by now" && exit 1; }
ocidir://images:2
ocidir://images:3
ocidir://others:3
images has 1 2
others has 3
SEEN
