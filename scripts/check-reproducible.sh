#!/usr/bin/env bash
# Builds the shipped programs in two directories of different names, and fails if a program differs. PACKAGES is that of
# build-dist.sh: with PACKAGES=, it only builds the installer, which takes a minute. Everything takes an hour.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for directory in one another/directory; do
    mkdir -p "$scratch/$directory"
    git archive HEAD | tar -x -C "$scratch/$directory"
    (cd "$scratch/$directory" && PROFILE=dist scripts/build-dist.sh)
done
compared=0
for program in "$scratch"/one/target/dist/*; do
    if [ -f "$program" ] && [ -x "$program" ]; then
        cmp "$program" "$scratch/another/directory/target/dist/$(basename "$program")"
        echo "the same in both: $(basename "$program")"
        compared=$((compared + 1))
    fi
done
[ "$compared" -gt 0 ] || { echo "error: nothing was built" >&2; exit 1; }
