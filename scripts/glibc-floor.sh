#!/usr/bin/env bash
# The oldest glibc that a program runs with, whatever machine it is for: the newest version of a symbol that it asks for. A static
# one has none.
#
#   glibc-floor.sh PROGRAM [LIMIT]    prints it, and fails if it is newer than LIMIT
set -euo pipefail
symbols=$(readelf --dyn-syms --wide "$1")
floor=$(sed -n 's/.*@GLIBC_\([0-9.]*\).*/\1/p' <<< "$symbols" | sort -uV | tail -n 1)
echo "${floor:-static}"
if [ -n "${2:-}" ] && [ -n "$floor" ] && [ "$(printf '%s\n' "$floor" "$2" | sort -V | tail -n 1)" != "$2" ]; then
    echo "error: $1 wants glibc $floor; $2 is promised" >&2
    exit 1
fi
