#!/usr/bin/env bash
# Builds the containerd 2 that the tests run beside the distribution's, from tests/containerd/go.mod:
#
#   target/containerd2/{containerd,ctr,…}
#
# Takes some minutes the first time and nothing when up to date. Without Go it says so and succeeds:
# then only the distribution's containerd is tested.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
module=$root/tests/containerd
out=$root/target/containerd2

main() {
    if up_to_date; then
        return
    fi
    if ! go_is_new_enough; then
        printf 'containerd 2 is not built (Go 1.21 or newer is missing): only the distribution'\''s is tested\n'
        return
    fi
    printf 'building containerd 2 into target/containerd2 (some minutes the first time)\n'
    mkdir -p "$out"
    # Older Go fetches the version that go.mod asks for.
    GOTOOLCHAIN=auto go build -C "$module" -trimpath -o "$out/" tool
}

# Whether every tool of the module is newer than the module's own files.
up_to_date() {
    local tool
    for tool in $(tools); do
        [ "$out/$tool" -nt "$module/go.mod" ] && [ "$out/$tool" -nt "$module/go.sum" ] || return 1
    done
}

# The last part of each path in go.mod's block of tools.
tools() {
    sed -n '/^tool (/,/^)/ s|^\t.*/||p' "$module/go.mod"
}

# `go build -C` and switching toolchains came with 1.20 and 1.21.
go_is_new_enough() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    printf '%s\n' go1.21 "${version%%[- ]*}" | sort -V -C
}

main "$@"
