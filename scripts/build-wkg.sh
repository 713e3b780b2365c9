#!/usr/bin/env bash
# Builds a pinned version of the tool `wkg` into target/tools/wkg/bin if it does not exist. The matrix of images uses
# it. The first build takes some minutes.
set -euo pipefail

version=0.16.1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/tools/wkg

if [ "$("$root/bin/wkg" --version 2>/dev/null)" = "wkg $version" ]; then
    exit
fi
printf 'building wkg %s into target/tools/wkg (some minutes)\n' "$version"
# It is built without optimisation, which would take longer than all uses of the tool.
cargo install --locked --debug --quiet --version "$version" --root "$root" --target-dir "$root/build" wkg
rm -rf "$root/build"
