#!/usr/bin/env bash
# Calling hypot makes a program need glibc 2.35, if it is linked with that or a newer one.
#
# Version:  the symbols of glibc 2.34 to 2.41 in ziglang 0.17.1 from PyPI.
# Input:    a C program that calls hypot, hypotf, cbrt and strtod, linked for each of these glibcs. Rust's f64::hypot calls the
#           same function.
# Guess:    a function that C has had since 1999, and that still does the same, keeps the version that it was first given.
#           So all four have the oldest version of the machine, GLIBC_2.2.5.
# Seen:     cbrt and strtod have. hypot and hypotf have GLIBC_2.35 from 2.35 on, where glibc stopped looking at the old
#           switch _LIB_VERSION in them. So a program that is built on Debian 12 does not start on RHEL 9 or Amazon Linux
#           2023, once a library of it takes the length of a complex number. No compiler says so; readelf does.
#
# Fails if a version differs from these. Needs Python with venv, and readelf; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
cat >program.c <<'end'
#include <math.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    double x = strtod(argv[argc - 1], NULL);
    return hypot(x, argc) + hypotf((float)x, (float)argc) + cbrt(x) > 0;
}
end
python3 -m venv venv
timeout 300 venv/bin/pip install --quiet --disable-pip-version-check ziglang==0.17.1

old=GLIBC_2.2.5
for glibc in 2.34 2.35 2.36 2.41; do
    ZIG_GLOBAL_CACHE_DIR=$directory/global ZIG_LOCAL_CACHE_DIR=$directory/local \
        timeout 600 venv/bin/python -m ziglang cc -target "x86_64-linux-gnu.$glibc" program.c -o program -lm
    seen=$(readelf --dyn-syms --wide program | grep -oE '\<(hypotf?|cbrt|strtod)@GLIBC_[0-9.]+' | sort | paste -sd ' ')
    echo "linked with glibc $glibc: $seen"
    hypot=GLIBC_2.35
    [ "$glibc" != 2.34 ] || hypot=$old
    [ "$seen" = "cbrt@$old hypot@$hypot hypotf@$hypot strtod@$old" ] || { echo "these versions have changed"; exit 1; }
done
