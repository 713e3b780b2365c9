//! Tests of what a container runs, if its root file system and volumes decide it, and of the errors if containerd's socket
//! does not exist.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use image::{Component, Container, Error, Workload, resolve};
use oci_spec::runtime::{Mount, MountBuilder};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const NATIVE: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0";
const PRECOMPILED: &[u8] = b"\x7fELF\x02\x01\x01\xc8\0\0\0\0";

/// A container with only its files. containerd's socket does not exist.
struct Fixture {
    directory: tempfile::TempDir,
    mounts: Vec<Mount>,
}

impl Fixture {
    fn new(files: &[(&str, &[u8])]) -> Fixture {
        let fixture = Fixture { directory: tempfile::tempdir().unwrap(), mounts: Vec::new() };
        fs::create_dir(fixture.path("root")).unwrap();
        for (path, content) in files {
            let path = fixture.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fixture
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    async fn resolve(&self, entrypoint: &str) -> Result<Workload, Error> {
        self.resolve_with(&[entrypoint], Some(&self.path("c.sock"))).await
    }

    async fn resolve_with(
        &self,
        args: &[&str],
        containerd: Option<&Path>,
    ) -> Result<Workload, Error> {
        let args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
        resolve(&Container {
            containerd,
            namespace: "k8s.io",
            id: "c",
            rootfs: &self.path("root"),
            args: &args,
            cwd: Path::new("/work"),
            env: &["PATH=/usr/bin:/bin".into()],
            mounts: &self.mounts,
            preinit: None,
            layers: &[],
        })
        .await
    }

    async fn component(&self, entrypoint: &str) -> Component {
        match self.resolve(entrypoint).await {
            Ok(Workload::Guest(component)) => *component,
            other => panic!("{entrypoint}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_wasm_file_is_a_guest_and_containerd_is_not_asked() {
    let fixture = Fixture::new(&[
        ("root/app.wasm", MODULE),
        ("root/work/here.wat", b"(module)"),
        ("root/bin/plain", MODULE),
    ]);
    for (entrypoint, path, export) in [
        ("/app.wasm", "/app.wasm", None),
        ("/app.wasm#a:b/c@1.0.0#run", "/app.wasm", Some("a:b/c@1.0.0#run")),
        ("here.wat", "here.wat", None),
        ("./here.wat#run", "./here.wat", Some("run")),
        ("plain", "plain", None),
    ] {
        let component = fixture.component(entrypoint).await;
        assert_eq!(component.export.as_deref(), export);
        assert_eq!(component.args, [path]);
        let mut layers = component.layers().await.unwrap();
        assert_eq!(layers[0].stream_position().unwrap(), 0);
        let mut bytes = Vec::new();
        layers[0].read_to_end(&mut bytes).unwrap();
        assert!(!bytes.is_empty());
    }
}

#[tokio::test]
async fn a_program_is_left_to_linux_and_containerd_is_not_asked() {
    let fixture = Fixture::new(&[("root/bin/sh", NATIVE), ("root/bin/c#", b"#!/bin/sh\n")]);
    for entrypoint in ["sh", "/bin/sh", "/bin/c#", "c#"] {
        let workload = fixture.resolve(entrypoint).await.unwrap();
        assert!(matches!(workload, Workload::Program), "{entrypoint}");
    }
}

#[tokio::test]
async fn a_guest_on_a_volume_is_found() {
    let mut fixture = Fixture::new(&[("volume/app.wasm", MODULE)]);
    let volume = fixture.path("volume");
    let mount = MountBuilder::default().destination("/apps").typ("bind").source(volume);
    fixture.mounts.push(mount.build().unwrap());
    assert_eq!(fixture.component("/apps/app.wasm").await.layers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_changes_after_it_was_found_is_refused() {
    let fixture = Fixture::new(&[("root/app.wat", b"(module)")]);
    let component = fixture.component("/app.wat").await;
    for text in [b"(modula)", &b"(mod"[..]] {
        fs::write(fixture.path("root/app.wat"), text).unwrap();
        let error = component.layers().await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read /app.wat: it was changed while it was read");
    }
}

#[tokio::test]
async fn a_file_that_cannot_run_is_refused_with_its_name() {
    let fixture = Fixture::new(&[
        ("root/text.wasm", b"hello, world"),
        ("root/native.wasm", PRECOMPILED),
        ("root/directory.wasm/file", b""),
    ]);
    symlink("/etc/passwd", fixture.path("root/leak.wasm")).unwrap();
    for (entrypoint, words) in [
        ("/text.wasm", "is not wasm"),
        ("/native.wasm", "precompiled"),
        ("/directory.wasm", "is a directory"),
        ("/leak.wasm", "is not a file in the container"),
    ] {
        let error = fixture.resolve(entrypoint).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(entrypoint), "{text}");
        assert_eq!(error.exit_code(), 126);
    }
}

#[tokio::test]
async fn without_a_containerd_there_are_no_layers() {
    let fixture = Fixture::new(&[]);
    assert!(matches!(fixture.resolve_with(&["sh"], None).await.unwrap(), Workload::Program));
    assert!(matches!(fixture.resolve_with(&[], None).await.unwrap(), Workload::Program));
    for entrypoint in ["app.wasm", "app#run", "#run"] {
        let error = fixture.resolve_with(&[entrypoint], None).await.unwrap_err();
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().contains(entrypoint), "{error}");
    }
    let error = fixture.resolve_with(&["app.wasm"], None).await.unwrap_err();
    assert!(error.to_string().contains("no app.wasm in /work nor in PATH (/usr/bin:/bin)"));
}

#[tokio::test]
async fn a_missing_containerd_is_named() {
    let fixture = Fixture::new(&[]);
    let error = fixture.resolve("/app.wasm").await.unwrap_err();
    let socket = fixture.path("c.sock").display().to_string();
    for words in [&socket, "/app.wasm", "No such file or directory"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(error.exit_code(), 126);
}
