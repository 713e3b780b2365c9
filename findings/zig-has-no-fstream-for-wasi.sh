#!/usr/bin/env bash
# Zig's C++ compiler has no file streams for WASI, although its C library has files there.
#
# Version:  ziglang 0.17.1 from PyPI, which contains clang, libc++ and wasi-libc.
# Input:    a C++ program that copies a file to standard output with std::ifstream, for wasm32-wasi and for the machine
#           itself; the same with fopen for wasm32-wasi.
# Guess:    all three compile: WASI has files, and wasi-libc has fopen.
# Seen:     the libc++ for WASI is configured without file streams, so that std::ifstream is declared and never defined. The
#           error is about an "undefined template", and says nothing of WASI. The other two compile. C++ programs for WASI
#           have to read and write files with the functions of C.
#
# Fails if the first one compiles or another one does not. Needs Python with venv; takes a minute or two.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export ZIG_GLOBAL_CACHE_DIR=$folder/global ZIG_LOCAL_CACHE_DIR=$folder/local

python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check ziglang==0.17.1
cat >stream.cpp <<'end'
#include <fstream>
#include <iostream>
int main() { std::ifstream in("/data/in"); std::cout << in.rdbuf(); }
end
cat >plain.cpp <<'end'
#include <cstdio>
int main() { FILE *in = std::fopen("/data/in", "r"); for (int c; in && (c = std::fgetc(in)) != EOF;) std::putchar(c); }
end
zig() { timeout 600 venv/bin/python -m ziglang c++ "$@"; }

zig stream.cpp -o stream && echo "std::ifstream for this machine: compiles"
zig --target=wasm32-wasi plain.cpp -o plain.wasm && echo "fopen for wasm32-wasi: compiles"
zig --target=wasm32-wasi stream.cpp -o stream.wasm 2>errors && echo "std::ifstream compiles for WASI by now" && exit 1
echo "std::ifstream for wasm32-wasi:"
grep --max-count 1 'undefined template' errors
