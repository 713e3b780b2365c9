;; Exports that open a path from the first directory, and return the error of WASI 0.1.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "file")
  (data (i32.const 16) "../etc/hosts")
  (func $try (param $path i32) (param $length i32) (param $flags i32) (param $rights i64) (result i32)
    (call $open (i32.const 3) (i32.const 1) (local.get $path) (local.get $length) (local.get $flags)
      (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 64)))
  (func (export "read") (result i32)
    (call $try (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 2)))
  ;; Empties it.
  (func (export "write") (result i32)
    (call $try (i32.const 0) (i32.const 4) (i32.const 8) (i64.const 64)))
  (func (export "climb") (result i32)
    (call $try (i32.const 16) (i32.const 12) (i32.const 0) (i64.const 2)))
  (func (export "loop") (loop $forever (br $forever)))
  (func (export "grow") (result i32)
    (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
    (memory.size))
  (func (export "_start") (loop $forever (br $forever))))
