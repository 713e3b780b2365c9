#!/usr/bin/env bash
# Builds the shim of another revision as another version, for tests of upgrades: build-other-version.sh REVISION
# Prints the path of the shim. It is kept in target/other until another revision is asked for.
set -euo pipefail
cd "$(dirname "$0")/.."

revision=$(git rev-parse --verify --quiet "${1:?a revision is missing}^{commit}") ||
    { echo "error: $1 is not a revision" >&2; exit 1; }
# Compiled code is that of a version. Revisions between two releases have the same.
version=0.0.1
source=target/other/source
if [ "$(cat target/other/revision 2> /dev/null)" != "$revision" ]; then
    rm -rf "$source" target/other/revision
    mkdir -p "$source"
    git archive "$revision" | tar -x -C "$source"
    sed -i "0,/^version = .*/s//version = \"$version\"/" "$source/Cargo.toml"
    echo "$revision" > target/other/revision
fi
# The lock file follows the version, and nothing else.
cargo build --release --manifest-path "$source/Cargo.toml" --target-dir target/other --bin containerd-shim-wasmtime-v1 >&2
realpath target/other/release/containerd-shim-wasmtime-v1
