"""The heavy guest: a whole Python in one component. It says what images/hello says; with the argument `wait` it then
waits for the end of its input."""

import sys

from wit_world import exports
from wit_world.imports import environment


class Run(exports.Run):
    def run(self) -> None:
        print("hello from wasi", flush=True)
        if "wait" in environment.get_arguments():
            sys.stdin.read()
