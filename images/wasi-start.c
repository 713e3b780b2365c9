/* Starts and ends a command, for wasi-libc older than 2023 in a component.
 *
 * That libc leaves the constructors to the linker, which then runs them around every export. The
 * component model calls `cabi_realloc` during other calls, in which a constructor must not
 * call out: "cannot leave component instance". Newer versions of wasi-libc start like this.
 */
extern void __wasm_call_ctors(void);
extern void __wasm_call_dtors(void);
extern int __main_void(void);
_Noreturn extern void exit_with(int code)
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit")));

__attribute__((export_name("_start"))) void _start(void) {
    __wasm_call_ctors();
    int code = __main_void();
    __wasm_call_dtors();
    if (code != 0) {
        exit_with(code);
    }
}
