//! Agreement of `wasm-image inspect` with a node, for random images: each is pushed to a registry, pulled by CRI and run.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::command;
use tests::containerd::wasm_image;
use tests::layout::{self, CONFIG, EMPTY, Layout, TAR, WASM};
use tests::registry::Registry;
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

/// The registry's name for the nodes.
const HOST: &str = "registry.tests";

/// Number of images for each containerd, and the seed that they are made from.
const IMAGES: u64 = 60;
const SEED: u64 = 0xbeef_0003;

/// The system and processor of this machine.
const HERE: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

const COMMAND: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;
const NO_ENTRY: &[u8] = br#"(module (func (export "greet")))"#;
const UNPROVIDED: &[u8] = br#"(module (import "acme:db" "get" (func)) (func (export "_start")))"#;
const ODD_PAGES: &[u8] = br#"(module (memory 1 (pagesize 1)) (func (export "_start")))"#;

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[(self.next() % choices.len() as u64) as usize].clone()
    }
}

/// Entries of a layer of files.
type Entries = Vec<(&'static str, &'static [u8])>;

/// An image, before it is put together.
#[derive(Clone)]
struct Sample {
    entrypoint: Vec<&'static str>,
    platform: &'static str,
    config_type: &'static str,
    /// Layers of files, the lowest first, and how they are compressed.
    files: Vec<Entries>,
    compression: &'static str,
    /// Wasm layers.
    wasm: Vec<&'static [u8]>,
    wasm_type: &'static str,
    /// How many layers too many the config counts.
    miscounted: usize,
    /// The platforms of the index around it, of which the last is the image's own; none for none.
    index: Vec<&'static str>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |it: &Entries| it.iter().map(|(path, _)| *path).collect::<Vec<_>>();
        let files: Vec<_> = self.files.iter().map(names).collect();
        let wasm = self.wasm.iter().map(|it| String::from_utf8_lossy(it)).collect::<Vec<_>>();
        write!(
            f,
            "{:?} for {} ({}), files {files:?} ({}), {} {wasm:?}, {} too many, index {:?}",
            self.entrypoint,
            self.platform,
            self.config_type,
            self.compression,
            self.wasm_type,
            self.miscounted,
            self.index
        )
    }
}

/// Entrypoints of samples; some are there several times, to be more likely.
const ENTRYPOINTS: [&[&str]; 12] = [
    &["/app.wasm"],
    &["/app.wasm"],
    &["/app.wasm"],
    &["/app.wasm"],
    &["/app.wasm"],
    &["app.wasm"],
    &["app.wasm"],
    &["/usr/bin/app.wasm"],
    &["/bin/sh", "-c", "/app.wasm"],
    &["/app.wasm#greet"],
    &["/bin/run"],
    &[],
];

impl Sample {
    fn random(random: &mut Random) -> Self {
        let guest = match random.of(&[true, true, true, false]) {
            true => COMMAND,
            false => random.of(&[NO_ENTRY, UNPROVIDED, ODD_PAGES, b"hi"]),
        };
        let files: Vec<Entries> = random.of(&[
            vec![],
            vec![],
            vec![vec![("app.wasm", guest)]],
            vec![vec![("opt/real.wasm", guest), ("app.wasm -> opt/real.wasm", b"")]],
            vec![vec![("opt/real.wasm", guest), ("app.wasm => opt/real.wasm", b"")]],
            vec![vec![("app.wasm -> b", b""), ("b -> app.wasm", b"")]],
            vec![vec![("app.wasm/", b"")]],
            vec![vec![("app.wasm", guest)], vec![(".wh.app.wasm", b"")]],
            vec![vec![("usr/bin/app.wasm", guest)], vec![("usr/bin/.wh..wh..opq", b"")]],
            vec![vec![("usr/bin/", b""), ("bin -> usr/bin", b"")], vec![("bin/app.wasm", guest)]],
            vec![vec![("usr/bin/", b""), ("bin -> usr/bin", b""), ("bin/app.wasm", guest)]],
            vec![vec![("opt/real.wasm", guest)], vec![("app.wasm => opt/real.wasm", b"")]],
            vec![vec![("bin/run", b"#!/bin/sh\n"), ("app.wasm", guest)]],
        ]);
        let wasm = match random.of(&[false, false, true]) || files.is_empty() {
            true => random.of(&[vec![], vec![guest], vec![COMMAND]]),
            false => vec![],
        };
        let has_files = !files.is_empty();
        let platform = match has_files {
            true => random.of(&[HERE, HERE, HERE, HERE, HERE, "wasi/wasm", "linux/riscv64"]),
            false => random.of(&[HERE, "wasip1/wasm"]),
        };
        let indexes: [&[&str]; 9] = [
            &[],
            &[],
            &[],
            &[],
            &[],
            &[],
            &["unknown/unknown", platform],
            &["wasip1/wasm", HERE],
            &["linux/s390x", "wasi/wasm"],
        ];
        Self {
            entrypoint: random.of(&ENTRYPOINTS).to_vec(),
            platform,
            config_type: random.of(&[CONFIG, CONFIG, CONFIG, CONFIG, CONFIG, CONFIG, EMPTY]),
            compression: random.of(&["", "gzip", "gzip", "zstd"]),
            files,
            wasm,
            wasm_type: random.of(&[WASM, WASM, WASM, "application/wasm+gzip"]),
            miscounted: random.of(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            index: random.of(&indexes).to_vec(),
        }
    }

    /// Puts it together in a layout of that name.
    fn write(&self, layout: &Layout, name: &str) -> Result<()> {
        let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
        for entries in &self.files {
            // So that no layer is on the node already, from another image.
            let own = [entries.clone(), vec![(name, b"")]].concat();
            let tar = layout::tar(&own)?;
            diff_ids.push(layout::digest(&tar));
            layers.push(match self.compression {
                "gzip" => layout.blob(&format!("{TAR}+gzip"), &layout::gzip(&tar)?)?,
                "zstd" => layout.blob(&format!("{TAR}+zstd"), &layout::zstd(&tar)?)?,
                _ => layout.blob(TAR, &tar)?,
            });
        }
        for wasm in &self.wasm {
            layers.push(layout.blob(self.wasm_type, wasm)?);
        }
        diff_ids.extend(vec![layout::digest(b""); self.miscounted]);
        let image = layout.image(
            self.config_type,
            &self.config(self.platform, &diff_ids),
            json!(layers),
        )?;
        let Some((own, others)) = self.index.split_last() else {
            return layout.finish(name, image);
        };
        let mut entries = Vec::new();
        for platform in others {
            let other = self.config(platform, &[]);
            entries.push((*platform, layout.image(CONFIG, &other, json!([]))?));
        }
        entries.push((*own, image));
        let index = layout.index(&entries)?;
        layout.finish(name, index)
    }

    fn config(&self, platform: &str, diff_ids: &[String]) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap_or_default();
        json!({
            "os": os, "architecture": architecture, "config": { "Entrypoint": self.entrypoint },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            // So that no two images have the same id.
            "comment": format!("{self}"),
        })
    }
}

/// Result of `inspect` for this node: `None` if the image runs, or the reason why not.
fn inspected(node: &Node, folder: &str) -> Result<Option<String>> {
    let version = &node.containerd.version;
    let words = ["inspect", folder, "--node", HERE, "--containerd", version, "--format", "json"];
    let done = command::run(wasm_image(), words)?;
    if done.stdout.is_empty() {
        return Ok(Some(done.stderr));
    }
    let report: Value = serde_json::from_str(&done.stdout)?;
    Ok(match (&report["reason"], &report["needsCommand"]) {
        (Value::String(reason), _) => Some(reason.clone()),
        (_, Value::Bool(true)) => Some("it needs a command".into()),
        _ => None,
    })
}

/// Result on the node: `None` if the image runs, or the error.
fn ran(pod: &RunningPod<'_>, node: &Node, image: &str, count: u64) -> Option<String> {
    let run = || -> Result<()> {
        let id = node.cri.pull(image, None)?;
        let container = Container::new(&format!("app-{count}"), &id).written(image);
        pod.run(&container)?.wait().map(drop)
    };
    run().err().map(|error| format!("{error:#}"))
}

#[test]
fn what_inspect_says_is_what_the_node_does() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        let pod = node.run_pod(&Pod::new("inspected"))?;
        let mut random = Random(SEED);
        let (mut wrong, mut yes) = (Vec::new(), 0);
        for count in 0..IMAGES {
            let sample = Sample::random(&mut random);
            let folder = node.volume(&format!("sample-{count}"))?;
            let name = format!("sample:{count}");
            sample.write(&Layout::new(&folder)?, &format!("{HOST}/{name}"))?;
            let path = folder.display().to_string();
            let push = ["push", &path, &format!("{}/{name}", registry.address), "--plain-http"];
            command::run(wasm_image(), push)?.success().with_context(|| sample.to_string())?;
            let said = inspected(node, &path)?;
            let done = ran(&pod, node, &format!("{HOST}/{name}"), count);
            yes += usize::from(said.is_none());
            if said.is_some() != done.is_some() {
                wrong.push(format!("{sample}\n  inspect: {said:?}\n  the node: {done:?}"));
            }
            fs::remove_dir_all(&folder)?;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!((5..=IMAGES as usize - 5).contains(&yes), "{yes} of {IMAGES} run: a poor choice");
        Ok(())
    })
}
