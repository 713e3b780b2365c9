//! Images with several component layers, which are composed on the node.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::{repository, wasm_image};
use tests::node::KUBERNETES;
use tests::{Container, Node, Pod, on_each_containerd};

/// Packs components into an image and imports it; returns its reference.
pub fn packed(node: &Node, name: &str, entrypoint: &str, components: &[&Path]) -> Result<String> {
    let files: Vec<_> = components.iter().map(|file| file.display().to_string()).collect();
    let words = ["--entrypoint", entrypoint].into_iter().chain(files.iter().map(String::as_str));
    packed_with(node, name, &words.collect::<Vec<_>>())
}

/// Builds an image by `wasm-image build` with those arguments, and imports it; returns its reference.
pub fn packed_with(node: &Node, name: &str, words: &[&str]) -> Result<String> {
    let reference = format!("registry.example/{name}:1");
    let archive = node.volume("archives")?.join(format!("{name}.tar"));
    let output = archive.display().to_string();
    let fixed = ["build", "--tag", &reference, "--output", &output];
    command::run(wasm_image(), fixed.iter().chain(words))?.success()?;
    node.import_archive(KUBERNETES, &archive)?;
    node.until_known(&reference)?;
    Ok(reference)
}

/// The files with compiled code in the content store, by name and inode.
pub fn code(node: &Node) -> Result<Vec<(OsString, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(node.blobs())? {
        let entry = entry?;
        let mut head = [0; 4];
        let read = fs::File::open(entry.path()).and_then(|mut file| file.read_exact(&mut head));
        // The garbage collection may remove other content at the same time.
        if read.is_ok() && head == *b"\x7fELF" {
            found.push((entry.file_name(), entry.metadata()?.ino()));
        }
    }
    Ok(found)
}

#[test]
fn three_layers_answer_as_one_and_are_compiled_once() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("composed")?;
        let pod = node.run_pod(&Pod::new("shop"))?;
        let mut kept = Vec::new();
        for (name, net, gross) in [("one", "100", "119\n"), ("two", "1000", "1190\n")] {
            let container = pod.run(&Container::new(name, &image).args(&[net]))?;
            let exit = container.wait()?;
            let logs = container.logs()?;
            assert_eq!((exit.code, logs.stdout.as_str()), (0, gross), "{logs:?}");
            kept.push(code(node)?);
        }
        assert_eq!((kept[0].len(), &kept[0]), (1, &kept[1]), "not compiled once");
        Ok(())
    })
}

#[test]
fn two_images_that_differ_in_their_guests_alone_are_two() -> Result<()> {
    on_each_containerd(|node| {
        let text = |answer: u32| {
            format!(
                r#"(component (core module $m (func (export "f") (result i32) i32.const {answer}))
                    (core instance $i (instantiate $m))
                    (func (export "answer") (result u32) (canon lift (core func $i "f"))))"#
            )
        };
        let file = node.volume("components")?.join("app.wat");
        let mut images = Vec::new();
        for answer in [41, 42] {
            fs::write(&file, text(answer))?;
            images.push(packed(node, &format!("app{answer}"), "/app.wasm#answer", &[&file])?);
        }
        let pod = node.run_pod(&Pod::new("two"))?;
        for (image, answer) in images.iter().zip(["41\n", "42\n"]) {
            let container = pod.run(&Container::new(&format!("app{}", answer.trim()), image))?;
            container.wait()?;
            assert_eq!(container.logs()?.stdout, answer, "{image}");
        }
        Ok(())
    })
}

/// The reference of an image of which one import has two layers to choose from.
pub fn refused(node: &Node) -> Result<String> {
    let source = repository().join("images/composed");
    let [app, tax, rates] = ["app.wat", "tax.wat", "rates.wat"].map(|it| source.join(it));
    packed(node, "refused", "/app.wasm#gross", &[&app, &tax, &rates, &rates])
}

/// A command with another name.
const WRAPPER: &str = r#"(component
    (import "wasi:cli/run@0.2.0" (instance $run (export "run" (func (result (result))))))
    (export "wasi:cli/run@0.2.0" (instance $run)))"#;

#[test]
fn a_layer_in_rust_has_of_the_host_what_it_imports() -> Result<()> {
    on_each_containerd(|node| {
        let wrapper = node.volume("components")?.join("app.wat");
        fs::write(&wrapper, WRAPPER)?;
        let hello = repository().join("target/images/hello.wasm");
        let image = packed(node, "wrapped", "/app.wasm", &[&wrapper, &hello])?;
        let pod = node.run_pod(&Pod::new("wrapped"))?;
        let container = Container::new("app", &image).args(&["env", "COLOUR"]);
        let container = pod.run(&container.env("COLOUR", "green"))?;
        let exit = container.wait()?;
        let logs = container.logs()?;
        assert_eq!((exit.code, logs.stdout.as_str()), (0, "green\n"), "{logs:?}");
        Ok(())
    })
}

#[test]
fn an_import_that_no_layer_or_that_two_have_is_told_with_the_layers() -> Result<()> {
    on_each_containerd(|node| {
        let source = repository().join("images/composed");
        let [app, tax, rates] = ["app.wat", "tax.wat", "rates.wat"].map(|it| source.join(it));
        let other = node.volume("components")?.join("other.wat");
        fs::copy(&rates, &other)?;
        let text = fs::read_to_string(&other)?.replace("i32.const 19", "i32.const 7");
        fs::write(&other, text.replace("rates@1.1.0", "rates@1.2.0"))?;

        let pod = node.run_pod(&Pod::new("refused"))?;
        let refusal = |name: &str, components: &[&Path]| -> Result<String> {
            let image = packed(node, name, "/app.wasm#gross", components)?;
            let container = Container::new(name, &image).args(&["100"]);
            let error = pod.run(&container).err().with_context(|| format!("{name} was run"))?;
            Ok(format!("{error:#}"))
        };
        let missing = refusal("missing", &[&app, &tax])?;
        let expected = "tax.wat imports acme:shop/rates@1.0.0: neither the host nor another layer";
        assert!(missing.contains(expected), "{missing}");
        let ambiguous = refusal("ambiguous", &[&app, &tax, &rates, &other])?;
        for word in [
            "tax.wat imports acme:shop/rates@1.0.0, which several layers export: ",
            "rates.wat (acme:shop/rates@1.1.0), other.wat (acme:shop/rates@1.2.0)",
        ] {
            assert!(ambiguous.contains(word), "{ambiguous}");
        }
        Ok(())
    })
}
