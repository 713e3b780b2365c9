#!/usr/bin/env bash
# Builds the tool `wkg` of a pinned version into target/tools/wkg/bin, where it is not there already. The matrix of images
# tries it; takes some minutes the first time.
set -euo pipefail

version=0.16.1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/tools/wkg

if [ "$("$root/bin/wkg" --version 2>/dev/null)" = "wkg $version" ]; then
    exit
fi
printf 'building wkg %s into target/tools/wkg (some minutes)\n' "$version"
# Without optimisation, which takes longer than all that it is used for.
cargo install --locked --debug --quiet --version "$version" --root "$root" --target-dir "$root/build" wkg
rm -rf "$root/build"
