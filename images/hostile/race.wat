;; Reads `swap/name` in its first directory until it has been there and been refused 100 times each. Exits with 1 if the
;; file that it has read begins with an `o`, and with 2 if it was not there, or not refused, often enough.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "swap/name")
  ;; One byte, at 64.
  (data (i32.const 16) "\40\00\00\00\01\00\00\00")
  (func (export "_start") (local $tries i32) (local $reads i32) (local $refusals i32)
    (loop $more
      (if (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 9) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 32))
        (then (local.set $refusals (i32.add (local.get $refusals) (i32.const 1))))
        (else
          (drop (call $read (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 40)))
          (drop (call $close (i32.load (i32.const 32))))
          (if (i32.eq (i32.load8_u (i32.const 64)) (i32.const 111))
            (then (call $exit (i32.const 1))))
          (local.set $reads (i32.add (local.get $reads) (i32.const 1)))))
      (local.set $tries (i32.add (local.get $tries) (i32.const 1)))
      (if (i32.gt_u (local.get $tries) (i32.const 2000000)) (then (call $exit (i32.const 2))))
      (br_if $more (i32.or
        (i32.lt_u (local.get $reads) (i32.const 100))
        (i32.lt_u (local.get $refusals) (i32.const 100)))))))
