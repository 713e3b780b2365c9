#!/usr/bin/env bash
# Builds what is shipped in two folders of different names, and fails if a program is not the same in both. PROFILE and PACKAGES
# are those of build-dist.sh: PACKAGES= leaves the installer alone, which takes a minute; all of it takes an hour.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for folder in one another/folder; do
    mkdir -p "$scratch/$folder"
    git archive HEAD | tar -x -C "$scratch/$folder"
    (cd "$scratch/$folder" && scripts/build-dist.sh)
done
for program in "$scratch/one/target/${PROFILE:-dist}"/*; do
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then
        continue
    fi
    cmp "$program" "$scratch/another/folder/target/${PROFILE:-dist}/$(basename "$program")"
    echo "the same in both: $(basename "$program")"
done
