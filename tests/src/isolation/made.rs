//! Makes a container of a generated spec. The result is its facts, or the reason why it was refused.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use containerd_shim_protos::api::Status;
use nix::libc::O_NONBLOCK;
use serde_json::json;

use crate::command;
use crate::containerd::linux_rootfs;
use crate::isolation::facts::{self, Facts};
use crate::isolation::places::{Joined, Places};
use crate::isolation::specs::Spec;
use crate::shim::{Bundle, IMAGE, Refusal, Shim};
use crate::wait::{self, SOON};

/// What came of a spec.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The container runs, and its process has this.
    Runs(Box<Facts>),
    /// It was refused, or ended by itself, and why.
    Refused(String),
}

/// The sample guest that waits.
const GUEST: &str = "hello";

/// What it writes when it does.
const RUNNING: &str = "sleeping";

const SIGKILL: u32 = 9;

/// A container that is laid out.
struct Made<'a> {
    spec: &'a Spec,
    joined: &'a Joined,
    bundle: Bundle,
    places: Places,
}

/// A shim that makes one container after the other.
pub struct Host {
    bundle: Bundle,
    shim: Shim,
}

impl Host {
    /// Starts the shim at that path. `cache` is where it keeps compiled code.
    pub fn start(program: &Path, cache: &Path) -> Result<Self> {
        let mut bundle = Bundle::guest(GUEST)?;
        bundle.use_shim(program);
        bundle.set("WASMTIME_SHIM_CACHE", &cache.display().to_string());
        let shim = bundle.start()?;
        Ok(Self { bundle, shim })
    }

    /// Makes the spec's container, of a guest or of the built-in pause, and ends it again.
    pub fn make(&self, spec: &Spec, joined: &Joined) -> Result<Outcome> {
        let made = Made::lay_out(spec, joined)?;
        let outcome = made.live(&self.shim);
        // Each is refused where the container was.
        let id = &made.bundle.id;
        let _ = self.shim.kill_all(id, SIGKILL).and_then(|()| self.shim.wait(id));
        let _ = self.shim.delete(id);
        made.close()?;
        outcome
    }

    /// Ends the shim.
    pub fn end(self) -> Result<()> {
        self.shim.end(&self.bundle.id)?;
        self.bundle.close()
    }
}

/// Makes the spec's container by the node's runc, of a program.
pub fn by_runc(spec: &Spec, joined: &Joined) -> Result<Outcome> {
    let made = Made::lay_out(spec, joined)?;
    let image = made.bundle.folder.join(IMAGE);
    fs::create_dir_all(image.join("bin"))?;
    fs::copy(linux_rootfs().join("bin/sh"), image.join("bin/sleep"))?;
    made.bundle.edit_config(|config| {
        config["process"]["args"] = json!(["/bin/sleep", "1000"]);
        config["root"]["path"] = json!(IMAGE);
        config["process"]["terminal"] = json!(false);
    })?;
    let state = made.bundle.folder.join("runc");
    let outcome = made.live_by_runc(&state);
    // It is not there if it was refused.
    runc(&state, &["delete", "--force", &made.bundle.id])?;
    made.close()?;
    outcome
}

impl<'a> Made<'a> {
    fn lay_out(spec: &'a Spec, joined: &'a Joined) -> Result<Self> {
        let bundle = Bundle::guest(GUEST)?;
        let (folder, image) = (bundle.traces_folder(), bundle.folder.join(IMAGE));
        let places = Places::lay_out(folder, &image, &bundle.cgroup(), spec.root_id())?;
        bundle.write_config(&places.fill_in(&spec.config, joined)?)?;
        Ok(Self { spec, joined, bundle, places })
    }

    fn live(&self, shim: &Shim) -> Result<Outcome> {
        let mut request = self.bundle.create_request();
        let (stdout, mut output) = self.output()?;
        request.set_stdout(stdout.display().to_string());
        request.set_terminal(self.spec.has_terminal());
        let created = shim.create(&request);
        let started = created.and_then(|pid| shim.start(&self.bundle.id).map(|()| pid));
        let pid = match started {
            Ok(pid) => pid,
            Err(Refusal { message, .. }) => return Ok(self.refused(&message)),
        };
        let mut written = String::new();
        let ended = wait::until(SOON, "the guest to run", || {
            // Nothing to read is an error of a fifo that does not wait.
            let _ = output.read_to_string(&mut written);
            let has_ended = shim.status(&self.bundle.id) == Ok(Status::STOPPED);
            let runs = written.contains(RUNNING) || (self.spec.is_sandbox() && !has_ended);
            Ok((runs || has_ended).then_some(has_ended && !runs))
        })?;
        match ended {
            true => Ok(self.refused(&format!("it ended by itself: {written}"))),
            false => self.facts(pid),
        }
    }

    fn refused(&self, why: &str) -> Outcome {
        Outcome::Refused(why.trim().replace(&self.bundle.name(), "NAME"))
    }

    fn facts(&self, pid: u32) -> Result<Outcome> {
        let facts = facts::of(pid, &self.bundle.config()?, self.joined, &self.bundle.name())?;
        Ok(Outcome::Runs(Box::new(facts)))
    }

    /// A fifo as containerd makes it, and its end for reading.
    fn output(&self) -> Result<(PathBuf, File)> {
        let path = self.bundle.fifo("stdout")?;
        // It is open for writing as well, so that it always has a writer.
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(&path)?;
        Ok((path, file))
    }

    fn live_by_runc(&self, state: &Path) -> Result<Outcome> {
        let pid_file = self.bundle.folder.join("pid");
        let (bundle, pid_path) =
            (self.bundle.folder.display().to_string(), pid_file.display().to_string());
        let words = ["create", "--bundle", &bundle, "--pid-file", &pid_path, &self.bundle.id];
        for words in [&words[..], &["start", &self.bundle.id]] {
            let output = runc(state, words)?;
            if output.code != 0 {
                return Ok(self.refused(&output.stderr));
            }
        }
        let pid: u32 = fs::read_to_string(&pid_file)?.trim().parse()?;
        wait::until(SOON, "the program to be executed", || {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
            Ok((name.trim() == "sleep").then_some(()))
        })?;
        self.facts(pid)
    }

    fn close(self) -> Result<()> {
        self.places.unmount()?;
        self.bundle.close()
    }
}

/// Runs runc, whose own output is a container's: without a pipe that it would hand on.
fn runc(state: &Path, words: &[&str]) -> Result<command::Output> {
    fs::create_dir_all(state)?;
    let (log, root) = (state.join("log"), state.join("state"));
    let script = r#"log=$1; shift; exec runc "$@" </dev/null >"$log" 2>&1"#;
    let mut all: Vec<String> = ["-c", script, "sh"].map(str::to_owned).into();
    all.extend([log.display().to_string(), "--root".into(), root.display().to_string()]);
    all.extend(words.iter().map(|&word| word.to_owned()));
    let output = command::run("sh", all)?;
    Ok(command::Output { stderr: fs::read_to_string(&log)?, ..output })
}
