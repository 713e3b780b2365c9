#!/usr/bin/env bash
# Prints the oldest glibc with which a program runs, for any machine: the newest version of a symbol that it uses. A
# static program has none. Fails if it is newer than GLIBC (default: that of RHEL 9, the oldest of the supported
# distributions; Debian 12 has 2.36, Ubuntu 22.04 2.35).
#
#   glibc-floor.sh PROGRAM
set -euo pipefail
limit=${GLIBC:-2.34}
symbols=$(readelf --dyn-syms --wide "$1")
floor=$(sed -n 's/.*@GLIBC_\([0-9.]*\).*/\1/p' <<< "$symbols" | sort -uV | tail -n 1)
echo "${floor:-static}"
if [ -n "$floor" ] && [ "$(printf '%s\n' "$floor" "$limit" | sort -V | tail -n 1)" != "$limit" ]; then
    echo "error: $1 needs glibc $floor; allowed is at most $limit" >&2
    exit 1
fi
