#!/usr/bin/env bash
# The npm package `@ruby/3.4-wasm-wasi` has no module that a WASI runtime can run.
#
# Version:  @ruby/3.4-wasm-wasi 2.10.1 from npm.
# Input:    the imports and exports of each .wasm of the package.
# Guess:    at least one is a WASI command: its name has "wasi", and Ruby itself supports WASI since 3.2.
# Seen:     none exports `_start`, and each imports functions of a JavaScript host (`rb-js-abi-host`) beside those of WASI 0.1.
#           They are for the package's own loader in a browser or Node.js. A runtime without JavaScript refuses them because
#           of those imports.
#
# Fails if one of them becomes a command. Needs Node.js and npm; takes some seconds, and 60 MB.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

timeout 300 npm install --silent --no-audit --no-fund --ignore-scripts @ruby/3.4-wasm-wasi@2.10.1
cat >look.mjs <<'end'
import { readFileSync } from 'node:fs';
let commands = 0;
for (const file of process.argv.slice(2)) {
  const module = new WebAssembly.Module(readFileSync(file));
  const from = new Set(WebAssembly.Module.imports(module).map(({ module }) => module));
  const isCommand = WebAssembly.Module.exports(module).some(({ name }) => name === '_start');
  commands += isCommand && [...from].every((name) => name.startsWith('wasi'));
  console.log(file.split('/').pop(), isCommand ? 'has _start' : 'has no _start', 'imports', [...from].join(' '));
}
process.exitCode = commands === 0 ? 0 : 1;
end
timeout 120 node look.mjs node_modules/@ruby/3.4-wasm-wasi/dist/*.wasm
