//! Links the shim at a fixed address.
//!
//! It is executed three times per Pod, and forks each guest: of a program that is loaded anywhere, some ten thousand
//! pointers are written at each start, to a megabyte and a half of pages that no two Pods then share. Stack, heap,
//! libraries and compiled guests stay where the kernel likes (ASLR).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
