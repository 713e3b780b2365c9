// One behaviour for each first argument.
@file:OptIn(ExperimentalWasmInterop::class, UnsafeWasmMemoryApi::class)

import kotlin.time.Clock
import kotlin.wasm.ExperimentalWasmInterop
import kotlin.wasm.WasmImport
import kotlin.wasm.unsafe.Pointer
import kotlin.wasm.unsafe.UnsafeWasmMemoryApi
import kotlin.wasm.unsafe.withScopedMemoryAllocator

fun main() {
    val args = strings(::argsSizesGet, ::argsGet).drop(1)
    when (args[0]) {
        "args" -> args.drop(1).forEach(::println)
        "env" -> {
            val env = strings(::environSizesGet, ::environGet)
            println(env.first { it.startsWith("GREETING=") }.substringAfter('='))
        }
        "clock" -> println(Clock.System.now().epochSeconds)
        "exit" -> procExit(7)
        "stdin" -> generateSequence(::readlnOrNull).forEach(::println)
        "panic" -> error("no such luck")
        else -> error("unknown case ${args[0]}")
    }
}

// The standard library has neither arguments nor environment, so WASI's own functions are imported.

@WasmImport("wasi_snapshot_preview1", "args_sizes_get")
private external fun argsSizesGet(count: Int, size: Int): Int

@WasmImport("wasi_snapshot_preview1", "args_get")
private external fun argsGet(pointers: Int, text: Int): Int

@WasmImport("wasi_snapshot_preview1", "environ_sizes_get")
private external fun environSizesGet(count: Int, size: Int): Int

@WasmImport("wasi_snapshot_preview1", "environ_get")
private external fun environGet(pointers: Int, text: Int): Int

@WasmImport("wasi_snapshot_preview1", "proc_exit")
private external fun procExit(code: Int)

private fun strings(sizes: (Int, Int) -> Int, get: (Int, Int) -> Int): List<String> =
    withScopedMemoryAllocator { memory ->
        val (count, size) = memory.allocate(4) to memory.allocate(4)
        check(sizes(count.address.toInt(), size.address.toInt()) == 0)
        val pointers = memory.allocate(4 * count.loadInt())
        val text = memory.allocate(size.loadInt())
        check(get(pointers.address.toInt(), text.address.toInt()) == 0)
        List(count.loadInt()) { string(Pointer((pointers + 4 * it).loadInt().toUInt())) }
    }

private fun string(start: Pointer): String {
    val bytes = generateSequence(start) { it + 1 }.map { it.loadByte() }
    return bytes.takeWhile { it != 0.toByte() }.toList().toByteArray().decodeToString()
}
