# shellcheck shell=bash
# Finds Go. It is sourced, not executed.

# Succeeds if Go is 1.21 or newer. It is the first that compiles for WASI, and that downloads the version that a go.mod
# requires.
go_is_new_enough() {
    local version
    version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
    printf '%s\n' go1.21 "${version%%[- ]*}" | sort -V -C
}
