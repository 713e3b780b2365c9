;; A guest with much work before its first answer: `wizer-initialize` counts the primes below two million.
(component
  (core module $code
    (memory 31)
    (global $runs (mut i32) (i32.const 0))
    (global $primes (mut i32) (i32.const 0))
    ;; The sieve of Eratosthenes, with one byte for each number.
    (func (export "initialise")
      (local $number i32) (local $multiple i32)
      (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
      (local.set $number (i32.const 2))
      (loop $next
        (if (i32.eqz (i32.load8_u (local.get $number)))
          (then
            (global.set $primes (i32.add (global.get $primes) (i32.const 1)))
            (local.set $multiple (i32.add (local.get $number) (local.get $number)))
            (block $done
              (loop $strike
                (br_if $done (i32.ge_u (local.get $multiple) (i32.const 2000000)))
                (i32.store8 (local.get $multiple) (i32.const 1))
                (local.set $multiple (i32.add (local.get $multiple) (local.get $number)))
                (br $strike)))))
        (local.set $number (i32.add (local.get $number) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $number) (i32.const 2000000)))))
    (func (export "runs") (result i32) (global.get $runs))
    (func (export "primes") (result i32) (global.get $primes))
    (func (export "is-prime") (param i32) (result i32) (i32.eqz (i32.load8_u (local.get 0)))))
  (core instance $instance (instantiate $code))
  (func (export "wizer-initialize") (canon lift (core func $instance "initialise")))
  ;; Number of initialisations, as this instance has it.
  (func (export "runs") (result u32) (canon lift (core func $instance "runs")))
  (func (export "primes") (result u32) (canon lift (core func $instance "primes")))
  (func (export "is-prime") (param "number" u32) (result bool) (canon lift (core func $instance "is-prime"))))
