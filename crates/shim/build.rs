//! Links the shim at a fixed address.
//!
//! The shim is executed three times per Pod, and forks each guest. If a program may be loaded at any address, a hundred
//! thousand pointers are written at each of its starts, to a megabyte and a half of pages, and Pods cannot share those
//! pages. The kernel still chooses the addresses of stack, heap, libraries and compiled guests (ASLR).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
