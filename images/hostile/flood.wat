;; Writes lines of 64 bytes to stdout as fast as it can. The export `loop` does nothing, for ever.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\01\00\00\00\80\00\00")
  (func (export "_start") (local $at i32)
    ;; 512 lines, at 256.
    (loop $fill
      (i32.store8
        (i32.add (i32.const 256) (local.get $at))
        (select (i32.const 10) (i32.const 120)
          (i32.eq (i32.and (local.get $at) (i32.const 63)) (i32.const 63))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 32768))))
    (loop $flood
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (br $flood)))
  (func (export "loop") (loop $forever (br $forever))))
