// One behaviour for each first argument.
const args = process.argv.slice(1);
const name = args.shift();

if (name == "args") {
  for (let i = 0; i < args.length; i++) console.log(args[i]);
} else if (name == "env") {
  console.log(process.env.get("GREETING"));
} else if (name == "clock") {
  console.log((Date.now() / 1000).toString());
} else if (name == "exit") {
  process.exit(7);
} else if (name == "stdin") {
  const buffer = new ArrayBuffer(4096);
  for (let n = process.stdin.read(buffer); n > 0; n = process.stdin.read(buffer)) {
    process.stdout.write(buffer.slice(0, n));
  }
} else if (name == "panic") {
  throw new Error("no such luck");
} else {
  throw new Error("unknown case " + name);
}
