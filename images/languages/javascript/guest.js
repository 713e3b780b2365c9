// One behaviour for each first argument.
import { getArguments, getEnvironment } from "wasi:cli/environment@0.2.12";
import { getStdin } from "wasi:cli/stdin@0.2.12";
import { getStdout } from "wasi:cli/stdout@0.2.12";
import { now } from "wasi:clocks/wall-clock@0.2.12";
import { getDirectories } from "wasi:filesystem/preopens@0.2.12";

export const run = {
  run() {
    const [name, ...args] = getArguments().slice(1);
    switch (name) {
      case "args":
        return args.forEach((arg) => print(`${arg}\n`));
      case "env":
        return print(`${new Map(getEnvironment()).get("GREETING")}\n`);
      case "files":
        return files();
      case "clock":
        return print(`${now().seconds}\n`);
      case "stdin":
        return getStdout().blockingWriteAndFlush(getStdin().blockingRead(4096));
      case "panic":
        throw new Error("no such luck");
      default:
        throw new Error(`unknown case ${name}`);
    }
  },
};

// There is neither console nor TextEncoder.
function print(text) {
  const bytes = unescape(encodeURIComponent(text)).split("").map((it) => it.charCodeAt(0));
  getStdout().blockingWriteAndFlush(new Uint8Array(bytes));
}

function files() {
  const [[root]] = getDirectories();
  const data = root.openAt({}, "data", { directory: true }, { read: true, mutateDirectory: true });
  const written = new Uint8Array([..."written\n"].map((it) => it.charCodeAt(0)));
  data.openAt({}, "out.txt", { create: true }, { write: true }).write(written, 0);
  const [read] = data.openAt({}, "out.txt", {}, { read: true }).read(4096, 0);
  print(String.fromCharCode(...read));
  const entries = data.readDirectory();
  for (let entry; (entry = entries.readDirectoryEntry()); ) print(`${entry.name}\n`);
}
