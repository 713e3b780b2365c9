#!/usr/bin/env bash
# Builds the shim of another revision as another version, for tests of upgrades: build-other-version.sh REVISION
# Prints the path of the shim. What was built for it is kept in target/other.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] || die "no revision is given: make test-upgrade FROM=REVISION"
revision=$(git rev-parse --verify --quiet "$1^{commit}") || die "$1 is not a revision"
# Compiled code is that of a version. Revisions between two releases have the same.
version=0.0.1
source=target/other/source
shim=target/other/release/containerd-shim-wasmtime-v1
if [ "$(cat target/other/revision 2> /dev/null)" != "$revision" ]; then
    rm -rf "$source" target/other/revision
    mkdir -p "$source"
    # Cargo compares times: the files must be newer than what was built of another revision.
    git archive "$revision" | tar -x --touch -C "$source"
    sed -i "0,/^version = .*/s//version = \"$version\"/" "$source/Cargo.toml"
    (cd "$source" && cargo update --quiet --workspace)
    echo "$revision" > target/other/revision
fi
cargo build --release --locked --manifest-path "$source/Cargo.toml" --target-dir target/other --bin containerd-shim-wasmtime-v1 >&2
[ "$("$shim" -v)" = "containerd-shim-wasmtime-v1 $version" ] || die "the shim of $1 is another version than $version"
realpath "$shim"
