#!/usr/bin/env bash
# Runs rustc with what libFuzzer needs to see which code an input reaches. As cargo's RUSTC_WORKSPACE_WRAPPER it is for the
# crates of this workspace alone, so that Wasmtime and the other libraries are not built again.
set -euo pipefail
exec "$@" -Ccodegen-units=1 -Cdebug-assertions -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
