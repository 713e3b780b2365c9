;; A command that traps two calls deep, with names for the backtrace.
(module
  (memory (export "memory") 1)
  (func $start (export "_start") (call $outer))
  (func $outer (call $inner))
  (func $inner (unreachable)))
