;; Provides the rate, in a newer version of its interface than the other component imports.
(component
  (core module $code (func (export "percent") (result i32) (i32.const 19)))
  (core instance $instance (instantiate $code))
  (func $percent (result u32) (canon lift (core func $instance "percent")))
  (instance $rates (export "percent" (func $percent)))
  (export "acme:shop/rates@1.1.0" (instance $rates)))
