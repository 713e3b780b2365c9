#!/usr/bin/env bash
# Builds images/hello-python, the heavy guest of the bench, and packs it as the image hello-python.
#
# componentize-py is installed from PyPI into target/tools, in the version that makes the largest component;
# `wasm-image` has to be in PATH.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
src=$root/images/hello-python
out=$root/target/images
guest=$root/target/guests/hello-python
tools=$root/target/tools/componentize-py
version=0.17.2

say() { printf '%s\n' "$*"; }

main() {
    [ -z "$(newer)" ] && return
    if [ ! -x "$tools/bin/componentize-py" ]; then
        say "componentize-py $version"
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet --disable-pip-version-check "componentize-py==$version"
    fi
    say "images/hello-python: Python ($version)"
    mkdir -p "$out"
    # A copy: Python writes what it compiled beside the source.
    mkdir -p "$guest"
    cp "$src"/* "$guest"
    (cd "$guest" && "$tools/bin/componentize-py" --quiet -d hello.wit -w hello componentize app \
        -o "$out/hello-python.wasm")
    say "target/images/hello-python.tar"
    wasm-image build -t registry.example/samples/hello-python:1 -o "$out/hello-python.tar" \
        "$out/hello-python.wasm" --entrypoint hello-python.wasm
}

# What the image is older than.
newer() {
    [ -e "$out/hello-python.tar" ] || { say "it is not there"; return; }
    find "$src" "${BASH_SOURCE[0]}" -type f -newer "$out/hello-python.tar" -print -quit
}

main "$@"
