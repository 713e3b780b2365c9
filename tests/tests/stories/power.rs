//! The power is cut while the node works: whatever is left on its disk, the node comes up, and runs only what is whole.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::installer::Installer;
use tests::layout::digest;
use tests::node::{KUBERNETES, on_each_node, sample};
use tests::{Node, figure, power, shim};

use crate::installing::{SHIM, config};
use crate::upgrading::{USUAL, another_shim, said};

/// The steps of a node's work, and how often each is made in a round.
const STEPS: [(&str, usize); 5] =
    [("install", 2), ("import", 4), ("compile", 4), ("start", 4), ("uninstall", 1)];

/// Variable with the number of cuts with each containerd, in turn soon after each of the steps has begun (default: one each).
const CUTS: &str = "WASMTIME_SHIM_TEST_CUTS";

/// Longest time from the begin of a step to the cut, in milliseconds. Most steps take less.
const LONGEST: u64 = 400;

/// A guest whose code is kept in the content store, and one whose code is a file.
const IMAGES: [&str; 2] = ["hello-layer", "hello"];

/// What is said of an image that containerd has recorded before its content was on the disk.
const DAMAGED: [&str; 3] = ["is not wasm: it is empty", "blob not found", "failed to stat parent"];

#[test]
fn after_a_power_cut_the_node_comes_up_and_runs_only_what_is_whole() -> Result<()> {
    let cuts = match env::var(CUTS) {
        Ok(number) => number.parse().with_context(|| format!("{CUTS}={number}"))?,
        Err(_) => STEPS.len(),
    };
    ensure!(cuts > 0, "{CUTS}=0: allowed is a number from 1");
    if !power::can_be_cut()? {
        return Ok(());
    }
    on_each_node(Node::start_with_power, |node| {
        let installer = Installer::new(node)?;
        let work = Work::new(node, &installer)?;
        for (cut, (step, times)) in (1..=cuts).zip(STEPS.iter().cycle()) {
            let doing = work.cut_during(step, fastrand::usize(..*times))?;
            let context = || format!("after cut {cut}, during {doing}");
            let damaged = work.check(doing).with_context(context)?;
            let version = &node.containerd.version;
            figure::note(&format!("containerd {version}, cut {cut} during {doing}: {damaged}"))?;
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
        let shims = [shim::program()?, another_shim(node)?];
        let config = fs::read(config(node))?;
        node.disk().context("no disk")?.synchronise()?;
        Ok(Self { node, installer, config, shims })
    }

    /// Works until the power is cut, soon after that step has begun once more than so many times. Returns the step that was
    /// being made.
    fn cut_during(&self, step: &'static str, after: usize) -> Result<&'static str> {
        let (begins, steps) = mpsc::channel();
        let mut doing = None;
        let moment = || {
            doing = soon_after(step, after, &steps);
            doing.is_some()
        };
        self.node.cut_power(move || self.rounds(&begins), moment)?;
        doing.context("no step")
    }

    fn rounds(&self, begins: &Sender<&'static str>) -> Result<()> {
        loop {
            for shim in &self.shims {
                begins.send("install")?;
                self.installer.install(shim)?;
                for image in IMAGES {
                    begins.send("import")?;
                    self.import_anew(image)?;
                    begins.send("compile")?;
                    self.forget_code()?;
                    self.run(image)?;
                    begins.send("start")?;
                    self.run(image)?;
                    self.run(image)?;
                }
            }
            begins.send("uninstall")?;
            self.installer.must(&["uninstall"])?;
        }
    }

    /// Starts what the disk has, and checks it. Returns what containerd had damaged.
    fn check(&self, interrupted: &str) -> Result<String> {
        self.node.start_containerd()?;
        // kubelet removes what ran before.
        self.node.remove_pods()?;
        self.end_calls()?;
        let mut damaged = Vec::new();
        let is_installed = self.installer.run(&["status"])?.code == 0;
        if is_installed {
            // What is installed is of use as it is.
            damaged.extend(self.run_or_import_anew("hello")?);
            let shims = self.shims.iter().map(fs::read).collect::<Result<Vec<_>, _>>()?;
            ensure!(shims.contains(&self.installed()?), "what is installed is no shim");
        }
        let may_be_gone = ["install", "uninstall"].contains(&interrupted);
        ensure!(is_installed || may_be_gone, "what was installed is gone");
        self.installer.install(&self.shims[0])?;
        self.installer.must(&["status"])?;
        ensure!(self.installed()? == fs::read(&self.shims[0])?, "another shim is installed");
        self.every_blob_is_what_its_name_says()?;
        for image in IMAGES {
            damaged.extend(self.run_or_import_anew(image)?);
        }
        self.every_blob_is_what_its_name_says()?;
        self.installer.must(&["uninstall"])?;
        let config = fs::read(config(self.node))?;
        ensure!(config == self.config, "the configuration is not as it was before the handler");
        Ok(if damaged.is_empty() { "whole".into() } else { damaged.join(", ") })
    }

    fn installed(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.node.folder().join("bin").join(SHIM))?)
    }

    /// Runs a guest with code that is kept, and then with code that is compiled anew. If its image is damaged, it must be refused
    /// with the reason, and must run after another import. Returns the reason.
    fn run_or_import_anew(&self, image: &str) -> Result<Option<String>> {
        let mut damaged = None;
        if !self.node.cri.has_image(&sample(image))? {
            self.import(image)?;
        }
        if let Err(error) = self.run(image) {
            let error = format!("{error:#}");
            let reason = DAMAGED.iter().find(|reason| error.contains(*reason));
            let Some(reason) = reason else { bail!("{image}: {error}") };
            damaged = Some(format!("{image}: {reason}"));
            self.node.remove_pods()?;
            self.import_anew("pause")?;
            self.import_anew(image)?;
        }
        self.run(image)?;
        self.forget_code()?;
        self.run(image)?;
        Ok(damaged)
    }

    fn import(&self, image: &str) -> Result<()> {
        self.node.import_sample(KUBERNETES, image)?;
        self.node.until_known(&sample(image))
    }

    fn import_anew(&self, image: &str) -> Result<()> {
        let words = ["images", "remove", "--sync", &sample(image)];
        self.node.ctr.run(KUBERNETES, &words)?.success()?;
        self.import(image)
    }

    /// After an interrupted call, containerd keeps for a day what the call held, and the record of a Pod that was not complete
    /// until someone deletes it.
    fn end_calls(&self) -> Result<()> {
        for what in ["containers", "leases"] {
            for id in self.node.ctr.lines(KUBERNETES, &format!("{what} list --quiet"))? {
                self.node.ctr.run(KUBERNETES, &[what, "delete", &id])?.success()?;
            }
        }
        Ok(())
    }

    /// Removes the code that is in files.
    fn forget_code(&self) -> Result<()> {
        let code = self.node.code();
        if code.exists() { Ok(fs::remove_dir_all(code)?) } else { Ok(()) }
    }

    fn run(&self, image: &str) -> Result<()> {
        let said = said(self.node, &sample(image), "hello")?;
        ensure!(said == USUAL, "it says {said:?}");
        Ok(())
    }

    fn every_blob_is_what_its_name_says(&self) -> Result<()> {
        for blob in fs::read_dir(self.node.blobs())? {
            let path = blob?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ensure!(digest(&fs::read(&path)?) == format!("sha256:{name}"), "{name} is another");
        }
        Ok(())
    }
}

/// Waits until that step has begun so many times and once more, and for a random time from then on. Returns the step that is being
/// made then, or nothing if the work ends before.
fn soon_after(
    step: &'static str,
    after: usize,
    steps: &Receiver<&'static str>,
) -> Option<&'static str> {
    steps.iter().filter(|begun| *begun == step).nth(after)?;
    thread::sleep(Duration::from_millis(fastrand::u64(..LONGEST)));
    Some(steps.try_iter().last().unwrap_or(step))
}
