#!/usr/bin/env bash
# Runs tests of containerd's own, of the release that tests/containerd names, with this shim as the runtime on a private
# containerd: those of signals to stop by, of user namespaces, and of what a runtime reports.
#
# They ask for images of ghcr.io. Stand-ins of busybox are imported, and come from a registry of that name in a network
# namespace that has nothing but its loopback device.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tests=$root/target/go/containerd-tests
by_cri='^(TestContainerStopSignals|TestDefaultContainerStopSignal)$'
by_client='^(TestUserNamespaces|TestRuntimeInfo)$'
export PATH=$root/target/release:$root/target/go/containerd:$PATH

main() {
    build
    folder=$(mktemp -d /tmp/wst-XXXXXX)
    # A user namespace's root has to get through.
    chmod 755 "$folder"
    trap clean_up EXIT
    trap 'exit 130' INT TERM
    cd "$folder"
    configure
    make_images
    start_containerd
    printf '== by CRI\n'
    timeout 300 "$tests/integration.test" -cri-endpoint "unix://$folder/c.sock" -runtime-handler wasmtime \
        -test.run "$by_cri" -test.v
    printf '== by the client\n'
    export -f pull_and_test
    export tests by_client
    timeout 300 unshare --net --mount bash -euc pull_and_test
}

# The module of containerd has its tests, and go.sum what they need.
build() {
    local version module
    version=$(sed -n 's|^.*github.com/containerd/containerd/v2 \(v[0-9.]*\).*|\1|p; T; q' "$root/tests/containerd/go.mod")
    [ -x "$tests/client.test" ] && [ "$tests/client.test" -nt "$root/tests/containerd/go.mod" ] && return
    printf 'building the tests of containerd %s (some minutes the first time)\n' "$version"
    mkdir -p "$tests"
    module=$(GOTOOLCHAIN=auto go env GOMODCACHE)/github.com/containerd/containerd/v2@$version
    GOTOOLCHAIN=auto go test -C "$module" -mod=readonly -c -o "$tests/" ./integration ./integration/client
}

configure() {
    mkdir cni
    cat >config.toml <<END
version = 3
root = "$folder/root"
state = "$folder/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "$folder/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$folder/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.example/samples/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    conf_dir = "$folder/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wasmtime]
  runtime_type = "io.containerd.wasmtime.v1"
END
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out ca.pem -days 2 \
        -subj /CN=ghcr.io -addext subjectAltName=DNS:ghcr.io 2>openssl.log
    cat >registry.yml <<END
version: 0.1
storage: { filesystem: { rootdirectory: $folder/registry } }
http: { addr: "127.0.0.1:443", tls: { certificate: $folder/ca.pem, key: $folder/key.pem } }
END
    printf '127.0.0.1 localhost ghcr.io\n' >hosts
}

# The second has a shell named bash, a program that lends rights, and the user whom the tests take.
make_images() {
    cp -a "$root/target/images/linux-rootfs" rootfs
    image busybox:1.36 busybox.tar
    rm -f rootfs/bin/bash rootfs/usr/bin/passwd
    mkdir -p rootfs/run rootfs/usr/bin
    # shellcheck disable=SC2016 # The shell of the image expands it.
    printf '#!/bin/sh\nexec /bin/sh "$@"\n' >rootfs/bin/bash
    cp rootfs/bin/sh rootfs/usr/bin/passwd
    chmod 755 rootfs/bin/bash
    chmod 4755 rootfs/usr/bin/passwd
    printf 'backup:x:34:34::/:/bin/sh\n' >>rootfs/etc/passwd
    image volume-ownership:2.1 volume-ownership.tar
}

image() {
    wasm-image build --tag "ghcr.io/containerd/$1" --output "$2" --rootfs rootfs --env PATH=/bin --cmd sh >images.log
}

start_containerd() {
    WASMTIME_SHIM_CACHE=$folder/cache containerd --config config.toml >containerd.log 2>&1 &
    containerd=$!
    local tries=0 archive
    until ctr --address "$folder/c.sock" version >ctr.log 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { printf 'containerd does not start: %s\n' "$(tail -n 3 containerd.log)" >&2; exit 1; }
        sleep 0.2
    done
    for archive in "$root/target/images/pause.tar" busybox.tar; do
        ctr --address "$folder/c.sock" --namespace k8s.io images import --all-platforms "$archive" >ctr.log 2>&1
    done
    # CRI learns of images by events.
    sleep 1
}

# In namespaces of its own: what is mounted and started here ends with it.
pull_and_test() {
    ip link set lo up
    mount --bind hosts /etc/hosts
    docker-registry serve registry.yml >registry.log 2>&1 &
    trap 'kill %1' EXIT
    sleep 1
    for image in busybox:1.36 volume-ownership:2.1; do
        skopeo copy --quiet --dest-tls-verify=false "oci-archive:${image%:*}.tar" "docker://ghcr.io/containerd/$image"
    done
    SSL_CERT_FILE=ca.pem TEST_RUNTIME=io.containerd.wasmtime.v1 "$tests/client.test" -test.root -address "$PWD/c.sock" \
        -no-daemon -no-criu -test.run "$by_client" -test.v
}

clean_up() {
    local pid mount
    cd /
    [ -z "${containerd:-}" ] || { kill "$containerd" && wait "$containerd"; } 2>/dev/null || true
    # Shims and what they run have the directory in their command line; nothing is left of tests that passed.
    for pid in $(pgrep -f -- "$folder" || true); do
        [ "$pid" = $$ ] || kill -9 "$pid" 2>/dev/null || true
    done
    for mount in $(awk -v folder="$folder/" 'index($5, folder) == 1 { print $5 }' /proc/self/mountinfo | tac); do
        umount -l "$mount" 2>/dev/null || true
    done
    # Parents of the tests' cgroups, which are named after containerd's namespaces.
    rmdir /sys/fs/cgroup/{,*/}{testing,k8s.io} 2>/dev/null || true
    rm -rf "$folder"
}

main "$@"
