#!/usr/bin/env bash
# Prints the oldest glibc with which a program runs, for any machine: the newest version of a symbol that it uses. A
# static program has none.
#
#   glibc-floor.sh PROGRAM [LIMIT]    prints it, and fails if it is newer than LIMIT
set -euo pipefail
symbols=$(readelf --dyn-syms --wide "$1")
floor=$(sed -n 's/.*@GLIBC_\([0-9.]*\).*/\1/p' <<< "$symbols" | sort -uV | tail -n 1)
echo "${floor:-static}"
if [ -n "${2:-}" ] && [ -n "$floor" ] && [ "$(printf '%s\n' "$floor" "$2" | sort -V | tail -n 1)" != "$2" ]; then
    echo "error: $1 needs glibc $floor; allowed is at most $2" >&2
    exit 1
fi
