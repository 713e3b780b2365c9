"""The heavy guest: a whole Python in one component. It says what images/hello says, and ends with its input."""

import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        print("hello from wasi", flush=True)
        sys.stdin.read()
