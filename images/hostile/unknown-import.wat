;; A component that imports acme:db/query, which nothing provides.
(component
  (import "acme:db/query@1.0.0" (instance $db
    (export "query" (func (param "sql" string) (result string)))))

  (core module $main
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $main (instantiate $main))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $run (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $run)))
