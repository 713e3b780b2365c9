#!/usr/bin/env bash
# Runs rustc with the options by which libFuzzer sees which code an input reaches. cargo uses it as
# RUSTC_WORKSPACE_WRAPPER, so only the crates of this workspace get them, and Wasmtime and the other libraries are not
# built again.
set -euo pipefail
exec "$@" -Ccodegen-units=1 -Cdebug-assertions -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
