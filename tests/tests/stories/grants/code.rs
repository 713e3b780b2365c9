//! How a guest's code is made: proposals of WebAssembly, and fuel.

use std::fs;

use anyhow::Result;
use tests::{Container, Node, config, on_each_containerd};

use super::policy::write_policy;
use super::{refusal, run, under_policy};
use crate::composing::{code, packed_with};

const FEATURES: &str = "wasmtime.shim/features";
const FUEL: &str = "wasmtime.shim/fuel";

/// A module that exits with a product of 128 bits.
const WIDE: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $low i64)
        (i64.mul_wide_u (i64.const 6) (i64.const 7))
        drop
        (local.set $low)
        (call $exit (i32.wrap_i64 (local.get $low)))))"#;

/// A module that calls the last function of its own as its last step, and one that never ends.
const TAIL: &str = r#"(module (memory (export "memory") 1) (func $f (export "_start") (return_call $g)) (func $g))"#;
const ENDLESS: &str =
    r#"(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))"#;

/// Builds the image of a module in text form, with one wasm layer.
fn image(node: &Node, name: &str, module: &str, more: &[&str]) -> Result<String> {
    let file = node.volume("modules")?.join(format!("{name}.wat"));
    fs::write(&file, module)?;
    let file = file.display().to_string();
    packed_with(node, name, &[&[file.as_str()], more].concat())
}

/// Exit code of the image in a Pod with these annotations.
fn exit(node: &Node, image: &str, annotations: &[(&str, &str)]) -> Result<i32> {
    Ok(run(&under_policy(node, annotations)?, Container::new("app", image))?.0)
}

#[test]
fn what_a_guest_needs_of_webassembly_is_named_and_allowed_by_the_pod_the_image_or_not_at_all()
-> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "")?;
        let wide = image(node, "wide", WIDE, &[])?;
        let text = refusal(node, &wide, &[])?;
        let remedy = format!("{FEATURES} \"wasm3, wide-arithmetic\" would allow that");
        for part in ["parts of WebAssembly that are off: wide-arithmetic", &remedy] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert_eq!(exit(node, &wide, &[(FEATURES, "wasm3, wide-arithmetic")])?, 42);
        let label = format!("{FEATURES}=wide-arithmetic");
        let labelled = image(node, "labelled", WIDE, &["--label", &label])?;
        assert_eq!(exit(node, &labelled, &[])?, 42);

        write_policy(node, "[ceiling]\nfeatures = [\"tail-call\", \"gc\"]\n")?;
        let path = config::policy(node.folder()).display().to_string();
        let text = refusal(node, &wide, &[])?;
        let forbids =
            format!("[ceiling] in {path} forbids that; its key features allows tail-call, gc");
        assert!(text.contains(&forbids), "{text}");
        let text = refusal(node, &wide, &[(FEATURES, "wide-arithmetic")])?;
        let more =
            format!("annotation {FEATURES}: \"wide-arithmetic\" is more than [ceiling] in {path}");
        assert!(text.contains(&more), "{text}");
        let text = refusal(node, &labelled, &[])?;
        assert!(text.contains(&format!("image label {FEATURES}: \"wide-arithmetic\"")), "{text}");
        let tail = image(node, "tail", TAIL, &[])?;
        assert_eq!(exit(node, &tail, &[])?, 0);
        write_policy(node, "[ceiling]\nfeatures = []\n")?;
        let text = refusal(node, &tail, &[])?;
        assert!(text.contains("that are off: tail-call"), "{text}");
        Ok(())
    })
}

#[test]
fn code_that_is_made_in_different_ways_is_kept_side_by_side() -> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "")?;
        let tail = image(node, "aside", TAIL, &[])?;
        let ways: [&[(&str, &str)]; 4] = [
            &[],
            &[(FEATURES, "tail-call")],
            &[(FUEL, "1000000")],
            &[(FEATURES, "wasm3, custom-page-sizes")],
        ];
        let before = code(node)?.len();
        for (number, way) in ways.iter().enumerate() {
            assert_eq!(exit(node, &tail, way)?, 0, "{way:?}");
            assert_eq!(code(node)?.len(), before + number + 1, "{way:?}");
        }
        let mut kept = code(node)?;
        // Each finds its own again. How much fuel there is does not matter.
        for way in ways.into_iter().chain([&[(FUEL, "2000000")][..]]) {
            assert_eq!(exit(node, &tail, way)?, 0, "{way:?}");
        }
        let mut now = code(node)?;
        kept.sort();
        now.sort();
        assert_eq!(now, kept);
        Ok(())
    })
}

#[test]
fn a_guest_without_fuel_ends_with_124_and_so_does_one_beyond_the_nodes() -> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "[ceiling]\nfuel = 50000000\n")?;
        let endless = image(node, "endless", ENDLESS, &[])?;
        for annotations in [&[][..], &[(FUEL, "1000000")]] {
            let (code, logs) =
                run(&under_policy(node, annotations)?, Container::new("app", &endless))?;
            assert_eq!(code, 124, "{logs:?}");
            assert!(
                logs.stderr.contains("used up its fuel") && logs.stderr.contains(FUEL),
                "{logs:?}"
            );
        }
        let text = refusal(node, &endless, &[(FUEL, "50000001")])?;
        assert!(text.contains("allowed is 50000000 or less"), "{text}");

        let pod = under_policy(node, &[(FUEL, "40000000")])?;
        let hello =
            pod.run(&Container::new("app", &node.image("hello")?).args(&["sleep", "60"]))?;
        let grants = hello.exec(&["grants"])?.success()?.stdout;
        assert!(
            grants.contains(&format!("fuel: at most 40000000 (annotation of the Pod, {FUEL})\n")),
            "{grants}"
        );
        Ok(())
    })
}
