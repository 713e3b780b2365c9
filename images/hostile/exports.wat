;; A module with another entry than _start: `greet` prints as well, and takes no parameters.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param $fd i32) (param $iovs i32) (param $count i32) (param $written i32)
      (result i32)))
  (memory (export "memory") 1)

  ;; Two iovecs, at 0 and 8. The number of bytes written goes to 16.
  (data (i32.const 0) "\20\00\00\00\12\00\00\00")
  (data (i32.const 8) "\40\00\00\00\11\00\00\00")
  (data (i32.const 32) "hello from _start\n")
  (data (i32.const 64) "hello from greet\n")

  (func $print (param $iovec i32)
    (drop (call $fd_write (i32.const 1) (local.get $iovec) (i32.const 1) (i32.const 16))))
  (func (export "_start") (call $print (i32.const 0)))
  (func (export "greet") (call $print (i32.const 8)))
  ;; This export cannot be called by its name alone, because it takes a number.
  (func (export "add-one") (param i32) (result i32)
    (i32.add (local.get 0) (i32.const 1))))
