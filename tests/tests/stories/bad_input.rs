//! Images that cannot be run: the error is where the user looks and helps, and nothing is left.

use std::fs;

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

/// Runs a container that must fail to start, and expects each of `words` in the error.
fn is_refused(container: impl Fn(&str) -> Container, image: &str, words: &[&str]) -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("refused"))?;
        let error = match pod.run(&container(&node.image(image)?)) {
            Err(error) => format!("{error:#}"),
            Ok(started) => {
                let (exit, logs) = (started.wait()?, started.logs()?);
                panic!("{image} was started: {exit:?}, {logs:?}");
            }
        };
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        // The Pod still works.
        let good = pod.run(&Container::new("good", &node.image("hello")?))?;
        assert_eq!(good.wait()?.code, 0, "{:?}", good.logs()?);
        Ok(())
    })
}

fn plain(image: &str) -> Container {
    Container::new("bad", image)
}

#[test]
fn a_file_that_is_not_wasm_is_refused() -> Result<()> {
    is_refused(plain, "not-wasm", &["/app.wasm is not wasm"])
}

#[test]
fn a_truncated_component_is_refused() -> Result<()> {
    is_refused(plain, "truncated", &["/app.wasm", "not valid", "unexpected end"])
}

#[test]
fn a_corrupt_component_is_refused() -> Result<()> {
    is_refused(plain, "corrupt", &["/app.wasm", "not valid", "offset"])
}

#[test]
fn an_import_that_nobody_provides_is_named() -> Result<()> {
    is_refused(plain, "unknown-import", &["acme:db/query@1.0.0"])
}

#[test]
fn an_entrypoint_that_is_not_there_is_named() -> Result<()> {
    is_refused(|image| plain(image).command(&["/missing.wasm"]), "hello", &["/missing.wasm"])
}

#[test]
fn an_export_that_is_not_there_is_named_and_those_that_are() -> Result<()> {
    is_refused(|image| plain(image).command(&["/app.wasm#nope"]), "exports", &["nope", "greet"])
}

#[test]
fn compiled_code_from_an_image_is_refused() -> Result<()> {
    is_refused(plain, "precompiled", &["/app.wasm", "precompiled"])
}

#[test]
fn what_is_valid_and_not_supported_is_named() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("proposals"))?;
        let (image, volume) = (node.image("hello")?, node.volume("guests")?);
        for (name, module, reason) in [
            (
                "exceptions",
                "(func try catch_all end)",
                "WebAssembly that are not supported: legacy-exceptions",
            ),
            ("threads", "(memory 1 1 shared)", "shared memory, which is for threads"),
        ] {
            let module = format!(r#"(module {module} (func (export "_start")))"#);
            fs::write(volume.join(format!("{name}.wat")), module)?;
            let guest = Container::new(name, &image).command(&[&format!("/guests/{name}.wat")]);
            let error = pod.run(&guest.readonly_mount(&volume, "/guests"));
            let error = format!("{:#}", error.expect_err("is refused"));
            assert!(error.contains(name) && error.contains(reason), "{error}");
            assert!(!error.contains("not valid"), "{error}");
        }
        Ok(())
    })
}

#[test]
fn an_export_is_called_by_its_name() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("export"))?;
        let image = node.image("exports")?;
        let greet = pod.run(&Container::new("greet", &image).command(&["/app.wasm#greet"]))?;
        assert_eq!(greet.wait()?.code, 0, "{:?}", greet.logs()?);
        assert_eq!(greet.logs()?.stdout, "hello from greet\n");
        Ok(())
    })
}
