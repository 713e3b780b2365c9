// Compiles what is in `vendor` and main.c with clang, which is here itself a guest that Node.js runs.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { runClang } from "@yowasp/clang";

const lua = "vendor/lua-src/lua-5.4.9";
const paths = ["main.c", ...readdirSync(lua).map((it) => `${lua}/${it}`)].filter((it) => /\.[ch]$/.test(it));
const files = Object.fromEntries(paths.map((it) => [it.split("/").at(-1), readFileSync(it)]));
const sources = Object.keys(files).filter((it) => it.endsWith(".c"));
// setjmp is made of WebAssembly's exceptions. By default, clang makes those of an older draft.
const setjmp = ["-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false", "-lsetjmp"];
const emulated = ["-D_WASI_EMULATED_SIGNAL", "-lwasi-emulated-signal", "-D_WASI_EMULATED_PROCESS_CLOCKS",
  "-lwasi-emulated-process-clocks"];
// WASI has neither temporary files nor programs to execute.
const absent = ["-DL_tmpnam=20", "-w"];
const made = await runClang(["clang", "-O2", ...setjmp, ...emulated, ...absent, ...sources, "-o", "guest.wasm"], files);
writeFileSync("guest.wasm", made["guest.wasm"]);
