;; A shop's till. It exports `gross`, which takes the net price, and imports the taxes from another component.
(component
  (import "acme:shop/tax@1.0.0" (instance $tax (export "of" (func (param "net" u32) (result u32)))))
  (core func $tax (canon lower (func $tax "of")))
  (core module $code
    (import "tax" "of" (func $tax (param i32) (result i32)))
    (func (export "gross") (param i32) (result i32)
      (i32.add (local.get 0) (call $tax (local.get 0)))))
  (core instance $import (export "of" (func $tax)))
  (core instance $instance (instantiate $code (with "tax" (instance $import))))
  (func (export "gross") (param "net" u32) (result u32) (canon lift (core func $instance "gross"))))
