#!/usr/bin/env bash
# containerd throws away what a fetch that failed has received within seconds, and keeps what it had received when it was killed.
#
# Version:  github.com/containerd/containerd/v2 v2.4.2, its commands containerd and ctr, from the Go module proxy.
# Input:    an image with a layer of 4 MiB, from a registry that sends the first 3 MiB of the layer and then resets the connection
#           (SO_LINGER of 0), as a router does that has lost its state, or sends no more until containerd is killed with SIGKILL and
#           started again. `ctr content fetch`, and again ten seconds later.
# Guess:    the second fetch asks for the rest of the layer with a Range in both cases. Content that is being received is under a lease,
#           which expires after a day, and the fetch goes on with what is in the directory of unfinished content.
# Seen:     after the reset it asks for all of it: the failed fetch has given its lease back, and the garbage collector has removed
#           the 3 MiB. Nobody gives back the lease of a killed containerd, so that after its restart the rest is asked for. kubelet
#           tries again after ten seconds at the earliest: over a link that resets connections, a layer arrives through one
#           connection or not at all.
#
# Fails if the requests are others. Needs Go, Python 3 and root; takes some minutes the first time.
set -euo pipefail

version=v2.4.2
directory=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$directory"' EXIT
cd "$directory"

for command in containerd ctr; do
    GOBIN=$directory timeout 1200 go install -tags no_btrfs,no_devmapper,no_zfs \
        "github.com/containerd/containerd/v2/cmd/$command@$version" 2>/dev/null
done

cat >registry.py <<'PYTHON'
import fcntl, hashlib, json, socket, struct, sys, termios, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

how, blobs, broken = sys.argv[1], {}, []


def blob(kind, data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    blobs[digest] = (kind, data)
    return {"mediaType": kind, "digest": digest, "size": len(data)}


OCI = "application/vnd.oci.image."
large = how.encode().ljust(32) * 131072
layer = blob(OCI + "layer.v1.tar", large)
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
config = blob(OCI + "config.v1+json", json.dumps(config).encode())
manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": config, "layers": [layer]}
blobs["1"] = blobs[blob(OCI + "manifest.v1+json", json.dumps(manifest).encode())["digest"]]


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        kind, data = blobs.get(self.path.split("/")[-1], (None, b""))
        asked = self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(404 if kind is None else 206 if begin else 200)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(data).hexdigest())
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        if self.command == "HEAD":
            return
        if data is large:
            print(f"{how}: asked for", asked or "all", flush=True)
            if not broken:
                broken.append(True)
                return self.break_off(data[: 3 << 20])
        self.wfile.write(data[begin:])

    def break_off(self, data):
        self.wfile.write(data)
        # Until all of it is there: a reset would throw away what is still on its way.
        while struct.unpack("i", fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.05)
        time.sleep(1)
        self.close_connection = True
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        open("stopped", "w").close()
        self.connection.recv(1)


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
with open("port", "w") as file:
    file.write(str(server.server_port))
server.serve_forever()
PYTHON

cat >config.toml <<TOML
version = 3
root = "$directory/root"
state = "$directory/state"
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]
[grpc]
  address = "$directory/c.sock"
[ttrpc]
  address = "$directory/t.sock"
TOML

start() {
    timeout 300 ./containerd --config config.toml >>containerd.log 2>&1 &
    containerd=$!
    for _ in $(seq 100); do ./ctr --address "$directory/c.sock" version >/dev/null 2>&1 && return; sleep 0.2; done
}

client() { timeout 60 ./ctr --address "$directory/c.sock" "$@"; }

fetch() { client content fetch --plain-http "127.0.0.1:$(cat port)/sample:1" >fetch.log 2>&1; }

until_there() { for _ in $(seq 300); do [ -e "$1" ] && return; sleep 0.1; done; }

# twice HOW: a fetch that is broken off in that way, and another ten seconds later.
twice() {
    local registry fetching
    rm -f port stopped
    timeout 200 python3 registry.py "$1" &
    registry=$!
    until_there port
    if [ "$1" = reset ]; then
        if fetch; then return 1; fi
        grep -q "connection reset by peer" fetch.log
    else
        fetch & fetching=$!
        until_there stopped
        pkill -KILL -P "$containerd"
        kill "$fetching"
        wait "$containerd" 2>/dev/null || true
        start
    fi
    sleep 10
    fetch
    kill "$registry"
}

start
{
    twice reset
    twice killed
} 2>/dev/null | tee seen
diff seen - <<'SEEN' || { echo "containerd does it in another way by now" && exit 1; }
reset: asked for all
reset: asked for all
killed: asked for all
killed: asked for bytes=3145728-
SEEN
