#!/usr/bin/env bash
# The host functions that jco links components to call stdin, stdout and stderr terminals, whatever they are.
#
# Version:  @bytecodealliance/preview2-shim 0.25.0 from npm, which `jco run` 1.35.0 links to, under Node.js.
# Input:    wasi:cli's get-terminal-stdin, -stdout and -stderr in a process whose stdin is empty and whose stdout and stderr
#           are files.
# Guess:    none is there: wasi:cli has an option so that it can be absent, and Wasmtime's are absent for files and pipes.
# Seen:     all three are there, so that a guest colours its output, or prompts, in a file. Whether a guest believes to have
#           a terminal has to be tried in the host that runs it.
#
# Fails if one of them is absent. Needs Node.js and npm; takes some seconds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cd "$folder"
timeout 300 npm install --silent --no-audit --no-fund @bytecodealliance/preview2-shim@0.25.0
cat >terminals.mjs <<'end'
import { terminalStdin, terminalStdout, terminalStderr } from '@bytecodealliance/preview2-shim/cli';
console.log('stdin', terminalStdin.getTerminalStdin() !== undefined, 'for Node.js', process.stdin.isTTY === true);
console.log('stdout', terminalStdout.getTerminalStdout() !== undefined, 'for Node.js', process.stdout.isTTY === true);
console.log('stderr', terminalStderr.getTerminalStderr() !== undefined, 'for Node.js', process.stderr.isTTY === true);
end
timeout 60 node terminals.mjs </dev/null >answer 2>errors
cat answer errors
[ "$(grep --count ' true for Node.js false' answer)" = 3 ] \
    || { echo "the shim looks at what its streams are by now" && exit 1; }
