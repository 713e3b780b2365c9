#!/usr/bin/env bash
# Checks what users apply against the schemas of the supported Kubernetes releases. Helm renders the chart for each
# release, beginning with the one in its kubeVersion. The plain YAML, the policy and the samples are the same text for all
# releases, beginning with OLDEST. A field that a release does not know is an error, as it is for kubectl.
#
# The schemas come from the PyPI package kubernetes-validate. Helm is built by `build-go-tools.sh charts` if Go is
# installed. Without Helm, the chart is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# shellcheck source=scripts/pypi.sh
. scripts/pypi.sh

# This version has the schemas of all releases up to its own number.
validate=1.37.0
# This release introduced appArmorProfile, which installer.yaml uses, and preStop.sleep, which a sample uses.
OLDEST=1.30
chart=charts/wasmtime-shim
helm=target/go/charts/helm

main() {
    local release first
    versions
    from_pypi kubernetes-validate "$validate"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for release in $(releases "$OLDEST"); do
        check "$release" manifests/installer.yaml manifests/runtimeclass.yaml manifests/policy/*.yaml \
            manifests/samples/*.yaml
    done
    echo "plain YAML, policy and samples: valid for Kubernetes $OLDEST to ${validate%.*}"
    if [ ! -x "$helm" ]; then
        echo "the chart is left out: $helm is not built"
        return
    fi
    first=$(sed -n 's/^kubeVersion: ">=\([0-9]*\.[0-9]*\)\..*/\1/p' "$chart/Chart.yaml")
    for release in $(releases "$first"); do
        render "$release" > "$scratch/chart.yaml"
        check "$release" "$scratch/chart.yaml"
    done
    finds_fields_of_later_releases "$first"
    echo "chart: valid for Kubernetes $first to ${validate%.*}"
}

# The chart must install the image of its own version.
versions() {
    local version key file
    version=$(sed -n 's/^version = "\(.*\)"/\1/p; T; q' Cargo.toml)
    for key in version appVersion newTag; do
        file=$chart/Chart.yaml
        [ "$key" != newTag ] || file=manifests/kustomization.yaml
        if ! grep -q "^ *$key: $version\$" "$file"; then
            printf 'error: %s in %s is not %s, the version in Cargo.toml\n' "$key" "$file" "$version" >&2
            return 1
        fi
    done
}

# releases FIRST: prints the releases from FIRST to the newest that has schemas.
releases() {
    local minor
    for ((minor = ${1#1.}; minor <= $(cut -d. -f2 <<< "$validate"); minor++)); do
        echo "1.$minor"
    done
}

render() {
    "$helm" template shim "$chart" --kube-version "$1.0" --set settings.WASMTIME_SHIM_COMPILE_TIME=120s
}

# check RELEASE FILE...: fails if the tool prints anything: an error, or a warning that an object has no schema.
check() {
    local complaints
    complaints=$(complaints "$@")
    if [ -n "$complaints" ]; then
        printf 'error: not valid for Kubernetes %s:\n%s\n' "$1" "$complaints" >&2
        return 1
    fi
}

complaints() {
    "$tools/kubernetes-validate/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$1" "${@:2}" 2>&1 || true
}

# A check that never finds anything would be useless. The oldest release must refuse appArmorProfile.
finds_fields_of_later_releases() {
    render "$OLDEST" > "$scratch/chart.yaml"
    if [[ $(complaints "$1" "$scratch/chart.yaml") != *appArmorProfile* ]]; then
        echo "error: the schemas of Kubernetes $1 accept fields that came later" >&2
        return 1
    fi
}

main
