"""One behaviour for each first argument."""

import os
import sys
import time

from wit_world import exports
from wit_world.imports import environment, exit


class Run(exports.Run):
    def run(self) -> None:
        # The interpreter was started when the component was built, so that sys.argv and os.environ are of that time.
        name, *args = environment.get_arguments()[1:]
        match name:
            case "args":
                for arg in args:
                    print(arg)
            case "env":
                print(dict(environment.get_environment())["GREETING"])
            case "files":
                files()
            case "clock":
                print(int(time.time()))
            case "exit":
                exit.exit_with_code(7)
            case "stdin":
                sys.stdout.write(sys.stdin.read())
            case "panic":
                raise RuntimeError("no such luck")
            case "cwd":
                with open("in.txt") as file:
                    print(file.read(), end="")


def files() -> None:
    with open("/data/out.txt", "w") as file:
        file.write("written\n")
    with open("/data/out.txt") as file:
        print(file.read(), end="")
    for name in os.listdir("/data"):
        print(name)
