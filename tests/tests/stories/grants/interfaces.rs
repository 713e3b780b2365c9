//! Which optional interfaces a guest is offered.

use anyhow::Result;
use tests::containerd::repository;
use tests::{Container, config, on_each_containerd};

use super::policy::write_policy;
use super::{refusal, run, under_policy};
use crate::composing::{code, packed_with};

const INTERFACES: &str = "wasmtime.shim/interfaces";

#[test]
fn a_guest_that_imports_what_the_node_withholds_is_not_created_not_even_from_the_cache()
-> Result<()> {
    on_each_containerd(|node| {
        write_policy(
            node,
            "[ceiling]\ninterfaces = [\"wasi:http\", \"wasi:config\", \"wasi:logging\"]\n",
        )?;
        let image = node.image("hello-keyvalue")?;
        let before = code(node)?.len();
        let forbids = format!(
            "hello-keyvalue.wasm: cannot run the image's wasm: it imports wasi:keyvalue, which it is not offered; \
             [ceiling] in {} forbids that; its key interfaces allows wasi:http, wasi:config, wasi:logging",
            config::policy(node.folder()).display()
        );
        // The second time, its code is in the cache.
        for _ in 0..2 {
            let text = refusal(node, &image, &[])?;
            assert!(text.contains(&forbids), "{text}");
            assert_eq!(code(node)?.len(), before + 1);
        }
        let text = refusal(node, &image, &[(INTERFACES, "wasi:config, wasi:keyvalue")])?;
        assert!(text.contains("\"wasi:keyvalue\" is more than [ceiling] in"), "{text}");

        write_policy(node, "[ceiling]\ninterfaces = [\"wasi:keyvalue\"]\n")?;
        // It serves HTTP, and sends no requests.
        let pod = under_policy(node, &[])?;
        let server = pod.run(&Container::new("app", &image))?;
        let grants = server.exec(&["grants"])?.success()?.stdout;
        let line = format!("interfaces: wasi:keyvalue (node's file, {INTERFACES})\n");
        assert!(grants.contains(&line), "{grants}");
        let text = refusal(node, &node.image("hello-http")?, &[])?;
        assert!(text.contains("it imports wasi:http, which it is not offered"), "{text}");
        assert_eq!(code(node)?.len(), before + 2);
        Ok(())
    })
}

#[test]
fn a_pod_or_an_image_narrows_what_its_guests_are_offered_in_exec_too() -> Result<()> {
    on_each_containerd(|node| {
        write_policy(node, "")?;
        let wasm = repository().join("target/images/hello-config.wasm").display().to_string();
        let image = |name: &str, label: &[&str]| {
            packed_with(node, name, &[&[wasm.as_str()], label].concat())
        };
        let plain = image("plain", &[])?;
        let label = format!("{INTERFACES}=wasi:logging");
        let labelled = image("narrowed", &["--label", &label])?;
        let ask = |image: &str, annotations: &[(&str, &str)]| {
            let guest = Container::new("app", image).env("COLOUR", "blue").args(&["COLOUR"]);
            let (code, logs) = run(&under_policy(node, annotations)?, guest)?;
            assert_eq!((code, logs.stdout.as_str()), (0, "blue\n"), "{logs:?}");
            anyhow::Ok(())
        };
        ask(&plain, &[])?;
        ask(&plain, &[(INTERFACES, "wasi:config")])?;
        ask(&labelled, &[(INTERFACES, "wasi:config, wasi:logging")])?;
        let withheld = "it imports wasi:config, which it is not offered; ";
        for (image, value, who) in [
            (&plain, Some("wasi:logging"), "the annotation of the Pod offers wasi:logging"),
            (&plain, Some(""), "the annotation of the Pod offers nothing"),
            (&labelled, None, "the label of the image offers wasi:logging"),
        ] {
            let annotation = value.map(|value| (INTERFACES, value));
            let text = refusal(node, image, annotation.as_slice())?;
            assert!(
                text.contains(&format!("{withheld}{who}; {INTERFACES} \"wasi:config")),
                "{text}"
            );
        }

        let pod = under_policy(node, &[(INTERFACES, "")])?;
        let hello = Container::new("app", &node.image("hello")?).args(&["sleep", "60"]);
        let hello =
            pod.run(&hello.readonly_mount(&repository().join("target/images"), "/images"))?;
        let refused = hello.exec(&["/images/hello-config.wasm"]).expect_err("is refused");
        assert!(format!("{refused:#}").contains(withheld), "{refused:#}");
        Ok(())
    })
}
