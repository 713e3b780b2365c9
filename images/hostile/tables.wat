;; Grows a table until that is refused, and then a memory, and exits with 9.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (table $table 0 funcref)
  (func (export "_start")
    (loop $more
      (br_if $more (i32.ge_s (table.grow $table (ref.null func) (i32.const 65536)) (i32.const 0))))
    (loop $more
      (br_if $more (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
    (call $exit (i32.const 9))))
