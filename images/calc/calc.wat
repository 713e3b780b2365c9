;; A component with functions to call while it runs. As a command, it runs until it is stopped.
(component
  (core module $code
    (func (export "run") (result i32)
      (loop $again (br $again))
      i32.const 0)
    (func (export "add") (param i32 i32) (result i32)
      local.get 0
      local.get 1
      i32.add)
    ;; result<u32, u32>: half of an even number; an odd number is the error.
    (memory (export "memory") 1)
    (func (export "halve") (param i32) (result i32)
      (i32.store (i32.const 0) (i32.and (local.get 0) (i32.const 1)))
      (i32.store (i32.const 4)
        (if (result i32) (i32.and (local.get 0) (i32.const 1))
          (then (local.get 0))
          (else (i32.shr_u (local.get 0) (i32.const 1)))))
      i32.const 0))
  (core instance $instance (instantiate $code))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32)
    (canon lift (core func $instance "add")))
  (func (export "halve") (param "number" u32) (result (result u32 (error u32)))
    (canon lift (core func $instance "halve") (memory (core memory $instance "memory")))))
