;; Computes taxes with the rates of another component.
(component
  (import "acme:shop/rates@1.0.0" (instance $rates (export "percent" (func (result u32)))))
  (core func $percent (canon lower (func $rates "percent")))
  (core module $code
    (import "rates" "percent" (func $percent (result i32)))
    (func (export "of") (param i32) (result i32)
      (i32.div_u (i32.mul (local.get 0) (call $percent)) (i32.const 100))))
  (core instance $import (export "percent" (func $percent)))
  (core instance $instance (instantiate $code (with "rates" (instance $import))))
  (func $of (param "net" u32) (result u32) (canon lift (core func $instance "of")))
  (instance $tax (export "of" (func $of)))
  (export "acme:shop/tax@1.0.0" (instance $tax)))
