//! The power is cut while the node works: whatever is left on its disk, the node comes up, and runs only what is whole.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::containerd::repository;
use tests::installer::Installer;
use tests::node::{KUBERNETES, on_each_node};
use tests::{Container, Node, Pod};

use crate::installing::SHIM;
use crate::upgrading::{USUAL, another_shim, sha256};

/// What a node does, in this order: the power is cut soon after one of these steps has begun.
const STEPS: [&str; 5] = ["install", "import", "compile", "start", "uninstall"];

/// Variable with the number of cuts on each containerd, instead of one during each step.
const CUTS: &str = "WASMTIME_SHIM_TEST_CUTS";

/// Longest time from the begin of a step to the cut, in milliseconds: most steps take less.
const LONGEST: u64 = 400;

/// A guest whose code is kept in the content store, and one whose code is a file.
const IMAGES: [&str; 2] = ["hello-layer", "hello"];

/// What containerd says of an image that it has recorded before its content was on the disk.
const DAMAGED: [&str; 3] = ["is not wasm: it is empty", "not found", "failed to stat parent"];

#[test]
fn after_a_power_cut_the_node_comes_up_and_runs_only_what_is_whole() -> Result<()> {
    let cuts = match env::var(CUTS) {
        Ok(number) => number.parse().with_context(|| format!("{CUTS}={number}"))?,
        Err(_) => STEPS.len(),
    };
    on_each_node(Node::start_with_power, |node| {
        let installer = Installer::new(node)?;
        let work = Work::new(node, &installer)?;
        for (cut, step) in (1..=cuts).zip(STEPS.iter().cycle()) {
            let doing = work.is_cut_during(step)?;
            let context = || format!("after cut {cut}, during {doing}");
            let damaged = work.is_whole().with_context(context)?;
            let version = &node.containerd.version;
            println!("containerd {version}, cut {cut} during {doing}: {damaged}");
        }
        Ok(())
    })
}

/// The work of a node, and what must hold after it was cut off.
struct Work<'node> {
    node: &'node Node,
    installer: &'node Installer<'node>,
    /// The configuration without the handler.
    config: Vec<u8>,
    /// The shim, and another.
    shims: [PathBuf; 2],
}

impl<'node> Work<'node> {
    fn new(node: &'node Node, installer: &'node Installer<'node>) -> Result<Self> {
        let shims = [repository().join("target/release").join(SHIM), another_shim(node)?];
        let config = fs::read(node.folder().join("config.toml"))?;
        // What a node has had for long is on its disk.
        nix::unistd::sync();
        Ok(Self { node, installer, config, shims })
    }

    /// Works until the power is cut, soon after that step has begun. Returns the step that was under way.
    fn is_cut_during(&self, step: &'static str) -> Result<&'static str> {
        let (begins, steps) = mpsc::channel();
        let mut doing = step;
        let moment = || doing = soon_after(step, &steps);
        self.node.cut_power(move || self.rounds(&begins), moment)?;
        Ok(doing)
    }

    fn rounds(&self, begins: &Sender<&'static str>) -> Result<()> {
        loop {
            for shim in &self.shims {
                begins.send("install")?;
                self.install(shim)?;
                for image in IMAGES {
                    begins.send("import")?;
                    self.import_anew(image)?;
                    begins.send("compile")?;
                    self.forget_code()?;
                    self.says(image)?;
                    begins.send("start")?;
                    self.says(image)?;
                    self.says(image)?;
                }
            }
            begins.send("uninstall")?;
            self.installer.must(&["uninstall"])?;
        }
    }

    /// Starts what the disk has, and checks it. Returns what containerd had damaged.
    fn is_whole(&self) -> Result<String> {
        self.node.start_containerd()?;
        // kubelet removes what ran before.
        self.node.remove_pods()?;
        self.end_calls()?;
        let mut damaged = Vec::new();
        if self.installer.run(&["status"])?.code == 0 {
            // What is installed is of use as it is.
            damaged.push(self.is_right("hello")?);
        }
        self.install(&self.shims[0])?;
        self.installer.must(&["status"])?;
        let installed = self.node.folder().join("bin").join(SHIM);
        ensure!(fs::read(installed)? == fs::read(&self.shims[0])?, "another shim is installed");
        self.every_blob_is_what_its_name_says()?;
        for image in IMAGES {
            damaged.push(self.is_right(image)?);
        }
        self.every_blob_is_what_its_name_says()?;
        self.installer.must(&["uninstall"])?;
        let config = fs::read(self.node.folder().join("config.toml"))?;
        ensure!(config == self.config, "the configuration is not as it was before the handler");
        damaged.retain(|it| !it.is_empty());
        Ok(if damaged.is_empty() { "whole".into() } else { damaged.join(", ") })
    }

    /// What is not whole is refused. It must be of use again when it is imported again.
    fn is_right(&self, image: &str) -> Result<String> {
        let mut damaged = String::new();
        if !self.node.cri.has_image(&reference(image))? {
            self.import(image)?;
        }
        if let Err(error) = self.says(image) {
            let error = format!("{error:#}");
            let reason = DAMAGED.iter().find(|reason| error.contains(*reason));
            let Some(reason) = reason else { bail!("{image} says: {error}") };
            damaged = format!("{image}: {reason} ({error})");
            self.node.remove_pods()?;
            self.import_anew("pause")?;
            self.import_anew(image)?;
        }
        self.says(image)?;
        self.says(image)?;
        Ok(damaged)
    }

    fn install(&self, shim: &Path) -> Result<()> {
        let shim = format!("--shim={}", shim.display());
        self.installer.must(&["install", &shim]).map(drop)
    }

    fn import(&self, image: &str) -> Result<()> {
        let archive = repository().join(format!("target/images/{image}.tar"));
        self.node.import_archive(KUBERNETES, &archive)?;
        self.node.until_known(&reference(image))
    }

    fn import_anew(&self, image: &str) -> Result<()> {
        let words = ["images", "remove", "--sync", &reference(image)];
        self.node.ctr.run(KUBERNETES, &words)?.success()?;
        self.import(image)
    }

    /// containerd keeps for a day what a call holds that was cut off, and for ever the record of a Pod that CRI had not
    /// yet made its own.
    fn end_calls(&self) -> Result<()> {
        for what in ["containers", "leases"] {
            for id in self.node.ctr.lines(KUBERNETES, &format!("{what} list --quiet"))? {
                self.node.ctr.run(KUBERNETES, &[what, "delete", &id])?.success()?;
            }
        }
        Ok(())
    }

    fn forget_code(&self) -> Result<()> {
        let code = self.node.code();
        if code.exists() { Ok(fs::remove_dir_all(code)?) } else { Ok(()) }
    }

    /// Runs a guest in a Pod of its own. It must say what it usually says.
    fn says(&self, image: &str) -> Result<()> {
        let pod = self.node.run_pod(&Pod::new("hello"))?;
        let guest = pod.run(&Container::new("app", &reference(image)))?;
        let exit = guest.wait()?;
        ensure!(exit.code == 0, "{exit:?}");
        let said = guest.logs()?.stdout;
        ensure!(said == USUAL, "it says {said:?}");
        pod.stop()?;
        pod.remove()
    }

    fn every_blob_is_what_its_name_says(&self) -> Result<()> {
        for blob in fs::read_dir(self.node.blobs())? {
            let path = blob?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ensure!(sha256(&fs::read(&path)?) == name, "{name} is another");
        }
        Ok(())
    }
}

fn reference(image: &str) -> String {
    format!("registry.example/samples/{image}:1")
}

/// Waits for a random time after that step has begun, and returns the step that is under way then. Returns at once if
/// the work has ended.
fn soon_after(step: &'static str, steps: &Receiver<&'static str>) -> &'static str {
    if steps.iter().any(|begun| begun == step) {
        thread::sleep(Duration::from_millis(fastrand::u64(..LONGEST)));
    }
    steps.try_iter().last().unwrap_or(step)
}
