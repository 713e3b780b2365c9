#!/usr/bin/env bash
# wit-bindgen takes a package that is nested in the world's own text for one whose bindings are elsewhere.
#
# Version:  crate wit-bindgen 0.62.0.
# Input:    one text of WIT, which has a package with a world and, nested in it, a package whose interface the world imports;
#           given to the macro generate! as it is.
# Guess:    bindings for all of it: there is no other place where those of the nested package could come from.
# Seen:     "missing one of: `generate_all` option", and two forms of `with`. Interfaces of the world's own package are
#           generated, those of every other package are not unless one asks, in whichever file they are.
#
# Fails if the first succeeds, or generate_all does not. Needs Cargo; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/src"

cat >"$directory/Cargo.toml" <<'TOML'
[package]
name = "nested"
version = "0.1.0"
edition = "2021"

[dependencies]
wit-bindgen = "=0.62.0"
TOML

# check OPTION: compiles a crate that gives the macro the text and that option.
check() {
    cat >"$directory/src/lib.rs" <<RUST
wit_bindgen::generate!({
    inline: "
        package example:app;

        package example:log@1.0.0 {
            interface sink {
                write: func(line: string);
            }
        }

        world app {
            import example:log/sink@1.0.0;
        }
    ",
    $1
});
RUST
    timeout 500 cargo check --quiet --manifest-path "$directory/Cargo.toml" 2>"$directory/seen"
}

if check ""; then
    echo "wit-bindgen generates nested packages by now"
    exit 1
fi
grep '^error: missing one of' -A 6 "$directory/seen"
check "generate_all"
