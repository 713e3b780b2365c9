#!/usr/bin/env bash
# Builds the tools of a Go module, tests/<name>/go.mod, for the tests:
#
#   build-go-tools.sh containerd    target/go/containerd/{containerd,ctr,…}, beside the distribution's
#   build-go-tools.sh cluster       target/go/cluster/{kube-apiserver,kubelet,kubectl,…}
#   build-go-tools.sh charts        target/go/charts/{helm,actionlint}
#   build-go-tools.sh h2spec        target/go/h2spec/h2spec
#   build-go-tools.sh critest       target/go/critest/{critest,ginkgo}
#   build-go-tools.sh images        target/go/images/{crane,oras,regctl}
#   build-go-tools.sh buildkit      target/go/buildkit/{buildctl,buildkitd,buildx}
#   build-go-tools.sh cosign        target/go/cosign/cosign
#   build-go-tools.sh moby          target/go/moby/{docker,dockerd}
#   build-go-tools.sh containerd-1.7, containerd-2.2
#                                   as containerd, for tests of what differs by version
#
# OUT is another directory than target/go, for the tools of another machine (GOARCH).
#
# The first build takes some minutes. If everything is up to date, nothing is built. Without Go, the script says so and
# succeeds; what needs the tools is then left out, or names them.
set -euo pipefail

# shellcheck source=scripts/go.sh
. "$(dirname "${BASH_SOURCE[0]}")/go.sh"

name=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
module=$root/tests/$name
out=${OUT:-$root/target/go}/$name

main() {
    if up_to_date; then
        return
    fi
    if ! go_is_new_enough; then
        printf 'tests/%s is not built: Go 1.21 or newer is missing\n' "$name"
        return
    fi
    printf 'building tests/%s into %s (some minutes the first time)\n' "$name" "${out#"$root/"}"
    mkdir -p "$out"
    # Older Go downloads the version that go.mod requires.
    export GOTOOLCHAIN=auto
    # docker's client has no go.mod. Without one, Go compiles it as Go 1.16, but it is written in a newer version.
    go build -C "$module" -trimpath -ldflags "-s -w $(versions)" -gcflags=github.com/docker/cli/...=-lang=go1.25 \
        -o "$out/" tool
    build_test_packages
}

# A tool that is a package of tests only, such as critest, because `go build` ignores such a package.
build_test_packages() {
    local package
    for package in $(go list -C "$module" -f '{{if not .GoFiles}}{{.ImportPath}}{{end}}' tool); do
        go test -C "$module" -c -trimpath -ldflags "-s -w" -o "$out/${package##*/}" "$package"
    done
}

# Sets the version that Kubernetes reports. Other modules have no such variable.
versions() {
    local version
    version=$(sed -n 's|^.*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p; T; q' "$module/go.mod")
    [ -z "$version" ] || printf '%s\n' "-X k8s.io/component-base/version.gitVersion=$version"
}

# Succeeds if every tool of the module is newer than the module's own files.
up_to_date() {
    local tool
    for tool in $(tools); do
        [ "$out/$tool" -nt "$module/go.mod" ] && [ "$out/$tool" -nt "$module/go.sum" ] || return 1
    done
}

# Prints the last part of each path in go.mod's block of tools.
tools() {
    sed -n '/^tool (/,/^)/ s|^\t.*/||p' "$module/go.mod"
}

main "$@"
