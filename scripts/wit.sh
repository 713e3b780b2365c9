# shellcheck shell=bash
# Finds the WIT of WASI 0.2. It is sourced after scripts/guest-steps.sh, not executed.

# wasi_wit: prints the directory with the WIT of WASI 0.2, from the crate with which images/hello-http is built.
# shellcheck disable=SC2154 # src is of guest-steps.sh
wasi_wit() {
    local wit
    command -v cargo >/dev/null || die "the WIT of WASI comes from cargo, which is missing"
    wit=$(cargo metadata --locked --format-version 1 --manifest-path "$src/hello-http/Cargo.toml" \
        | sed -nE 's|.*"manifest_path":"([^"]*/wasip2[^"/]*)/Cargo.toml".*|\1/wit|p')
    [ -d "$wit/deps" ] || die "images/hello-http uses no version of the crate wasip2 that has the WIT of WASI"
    say "$wit"
}
