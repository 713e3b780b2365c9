# One behaviour for each first argument.
import std/[os, times]

proc files() =
  writeFile("/data/out.txt", "written\n")
  stdout.write readFile("/data/out.txt")
  for _, path in walkDir("/data"):
    echo path.extractFilename

case paramStr(1)
of "args":
  for i in 2 .. paramCount():
    echo paramStr(i)
of "env": echo getEnv("GREETING")
of "files": files()
of "clock": echo getTime().toUnix
of "exit": quit(7)
of "stdin": stdout.write stdin.readAll
of "panic": raise newException(ValueError, "no such luck")
of "cwd": stdout.write readFile("in.txt")
