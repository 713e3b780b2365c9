//! Two versions of the shim on one node, while one takes the place of the other: which one runs what.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::installer::Installer;
use tests::node::KUBERNETES;
use tests::processes::Process;
use tests::{Container, Node, Pod, RunningPod, command, on_each_containerd, shim};

use crate::installing::SHIM;
use crate::survival::{kill, zygote};

/// The file that a process executes: its inode.
pub fn executed(process: &Process) -> Result<u64> {
    Ok(fs::metadata(format!("/proc/{}/exe", process.pid))?.ino())
}

/// Variable with the path of a shim of another version: `make test-upgrade`.
const OTHER: &str = "WASMTIME_SHIM_TEST_OTHER";

#[test]
fn pods_stay_with_the_shim_they_were_started_by_through_upgrade_and_downgrade() -> Result<()> {
    on_each_containerd(|node| {
        let installer = Installer::new(node)?;
        let new = shim::program()?;
        let old = another_shim(node)?;

        installer.install(&old)?;
        let first = node.run_pod(&Pod::new("first"))?;
        let server = first.run(&Container::new("server", &node.image("hello-http")?))?;
        let before = executed(&first.shim()?)?;
        let code_of_old = compiles_with(node, &first)?;
        let doomed = node.run_pod(&Pod::new("doomed"))?;
        doomed.run(&Container::new("server", &node.image("hello-http")?))?;

        installer.install(&new)?;
        assert_eq!(executed(&first.shim()?)?, before);
        assert_eq!(first.http_get(crate::pod::PORT, "/")?.status, 200);
        // The old shim makes further containers, and executes in them.
        let linux = first.run(&Container::shell("linux", &node.image("linux")?, "sleep 1000"))?;
        assert_eq!(linux.exec(&["echo", "still here"])?.stdout, "still here\n");
        a_new_zygote_is_of_the_old_file(node, &first)?;
        // containerd cleans up after a shim that was killed by executing what is installed now.
        doomed.shim()?.kill(Signal::SIGKILL)?;
        doomed.stop()?;
        doomed.remove_in_the_end()?;
        let second = node.run_pod(&Pod::new("second"))?;
        assert_ne!(executed(&second.shim()?)?, before);
        let guest = second.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(second.http_get(crate::pod::PORT, "/")?.status, 200);
        let is_same = version(&old)? == version(&new)?;
        ensure!(is_same == env::var_os(OTHER).is_none(), "there are not two versions");
        assert_eq!(compiles_with(node, &second)? == code_of_old, is_same);

        installer.install(&old)?;
        assert_eq!(second.http_get(crate::pod::PORT, "/")?.status, 200);
        a_new_zygote_is_of_the_old_file(node, &second)?;
        let third = node.run_pod(&Pod::new("third"))?;
        assert_ne!(executed(&third.shim()?)?, executed(&second.shim()?)?);
        let size = |pod: &RunningPod<'_>| {
            anyhow::Ok(fs::metadata(format!("/proc/{}/exe", pod.shim()?.pid))?.len())
        };
        assert_eq!(size(&third)?, size(&first)?);
        assert_eq!(compiles_with(node, &third)?, code_of_old);
        for container in [&server, &guest] {
            assert_eq!(container.stop(Duration::from_secs(10))?.code, 0);
        }
        // The other way round.
        second.shim()?.kill(Signal::SIGKILL)?;
        for pod in [&first, &second, &third] {
            pod.stop()?;
            pod.remove_in_the_end()?;
        }
        installer.must(&["uninstall"]).map(drop)
    })
}

/// Returns the shim of another version or, where there is none, another file that does the same as that of this build.
pub fn another_shim(node: &Node) -> Result<PathBuf> {
    if let Some(other) = env::var_os(OTHER) {
        return Ok(other.into());
    }
    let another = node.volume("another")?.join(SHIM);
    fs::copy(shim::program()?, &another)?;
    OpenOptions::new().append(true).open(&another)?.write_all(b"\n")?;
    Ok(another)
}

/// After its zygote was killed, a shim executes another, which must not be the one that is installed by now.
fn a_new_zygote_is_of_the_old_file(node: &Node, pod: &RunningPod<'_>) -> Result<()> {
    let killed = zygote(&pod.shim()?)?;
    kill(&killed)?;
    let next = pod.run(&Container::new("next", &node.image("hello")?))?;
    assert_eq!(next.wait()?.code, 0);
    let another = zygote(&pod.shim()?)?;
    assert_ne!(another.pid, killed.pid);
    assert_eq!(executed(&another)?, executed(&pod.shim()?)?);
    Ok(())
}

fn version(shim: &Path) -> Result<String> {
    Ok(command::run(shim, ["-v"])?.success()?.stdout)
}

/// Runs a guest whose code is kept in a directory, and returns what the code is compiled with that is there then.
fn compiles_with(node: &Node, pod: &RunningPod<'_>) -> Result<String> {
    let guest = pod.run(&Container::new("compiled", &node.image("hello")?))?;
    ensure!(guest.wait()?.code == 0, "{:?}", guest.logs()?);
    Code::read(&code_in_directory(node)?)?.engine()
}

/// What both guests print, and what they would print if altered code of theirs were run.
pub const USUAL: &str = "hello from wasi\n";
const ALTERED: &str = "HELLO FROM WASI\n";

/// What code was compiled with, if it was not this version.
const ANOTHER: &str = "another version's compiler";

#[test]
fn compiled_code_that_another_version_has_kept_is_not_run_but_made_anew() -> Result<()> {
    on_each_containerd(|node| {
        // The same guest twice: as a layer its code is in the content store, as a file in a directory, which is looked at for
        // both.
        let layer: (&str, Look, Keep) = ("hello-layer", code_in_store, keep_in_store);
        let file: (&str, Look, Keep) = ("hello", code_in_directory, keep_in_directory);
        for (image, look, keep) in [layer, file] {
            let reference = node.image(image)?;
            let said = |pod: &str| said(node, &reference, &format!("{image}-{pod}"));
            assert_eq!(said("first")?, USUAL);
            let ours = Code::read(&look(node)?)?;
            // Code of this version is run as it is kept.
            keep(node, &ours.altered(&ours.engine()?))?;
            assert_eq!(said("second")?, ALTERED, "{image}: what is kept is not run");
            keep(node, &ours.altered(ANOTHER))?;
            assert_eq!(said("third")?, USUAL, "{image}: it was run");
            assert_eq!(Code::read(&look(node)?)?.engine()?, ours.engine()?, "{image}");
            assert_eq!(said("fourth")?, USUAL);
        }
        Ok(())
    })
}

/// Where the one guest's code is, and how other code takes its place.
type Look = fn(&Node) -> Result<PathBuf>;
type Keep = fn(&Node, &Code) -> Result<()>;

/// What a guest prints in a Pod of its own.
pub fn said(node: &Node, reference: &str, pod: &str) -> Result<String> {
    let pod = node.run_pod(&Pod::new(pod))?;
    let guest = pod.run(&Container::new("guest", reference))?;
    ensure!(guest.wait()?.code == 0, "{:?}", guest.logs()?);
    let stdout = guest.logs()?.stdout;
    pod.stop()?;
    pod.remove()?;
    Ok(stdout)
}

/// A file of compiled code: the code, what is known of it as JSON, the length of that, and eight bytes that end it.
struct Code {
    code: Vec<u8>,
    about: Value,
    end: Vec<u8>,
}

impl Code {
    fn read(path: &Path) -> Result<Self> {
        let mut code = fs::read(path).with_context(|| path.display().to_string())?;
        let end = code.split_off(code.len() - 8);
        let length = code.split_off(code.len() - 4);
        let length = u32::from_le_bytes(length.as_slice().try_into()?);
        let about = code.split_off(code.len() - length as usize);
        Ok(Self { code, about: serde_json::from_slice(&about)?, end })
    }

    /// What it was compiled with.
    fn engine(&self) -> Result<String> {
        Ok(self.about["engine"].as_str().context("no engine")?.to_owned())
    }

    /// Code of a guest that prints something else, whole and with the right digest.
    fn altered(&self, engine: &str) -> Self {
        let (usual, altered) = (USUAL.as_bytes(), ALTERED.as_bytes());
        let mut code = self.code.clone();
        for at in 0..code.len() - usual.len() {
            if code[at..].starts_with(usual) {
                code[at..at + usual.len()].copy_from_slice(altered);
            }
        }
        let mut about = self.about.clone();
        about["engine"] = json!(engine);
        about["sha256"] = json!(sha256(&code));
        Self { code, about, end: self.end.clone() }
    }

    fn bytes(&self) -> Vec<u8> {
        let about = self.about.to_string();
        let length = u32::try_from(about.len()).unwrap_or_default().to_le_bytes();
        [&self.code, about.as_bytes(), &length, &self.end].concat()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code_in_directory(node: &Node) -> Result<PathBuf> {
    let paths = fs::read_dir(node.code())?.map(|it| Ok(it?.path())).collect::<Result<Vec<_>>>()?;
    let mut code = paths.into_iter().filter(|path| !path.ends_with("lock"));
    code.next().context("nothing is kept in the directory")
}

fn keep_in_directory(node: &Node, code: &Code) -> Result<()> {
    let (path, new) = (code_in_directory(node)?, node.folder().join("new-code"));
    fs::write(&new, code.bytes())?;
    Ok(fs::rename(new, path)?)
}

fn code_in_store(node: &Node) -> Result<PathBuf> {
    Ok(node.blobs().join(reference(node)?.code))
}

/// As the shim does it: first the layer's label, by which containerd keeps the code, then the code.
fn keep_in_store(node: &Node, code: &Code) -> Result<()> {
    let Reference { layer, label, .. } = reference(node)?;
    let (new, digest) = (node.folder().join("new-code"), sha256(&code.bytes()));
    fs::write(&new, code.bytes())?;
    let label = format!("{label}=sha256:{digest}");
    node.ctr.run(KUBERNETES, &["content", "label", &layer, &label])?.success()?;
    let expected = format!("--expected-digest=sha256:{digest}");
    let ingest = node.ctr.line(KUBERNETES, &["content", "ingest", &expected, "new-code"]);
    let line = format!("{ingest} < {}", new.display());
    command::run("sh", ["-c", &line])?.success().map(drop)
}

/// A layer, its label that refers to its code, and the code's digest, without the word for the kind of digest.
struct Reference {
    layer: String,
    label: String,
    code: String,
}

fn reference(node: &Node) -> Result<Reference> {
    let lines = node.ctr.lines(KUBERNETES, "content list")?;
    let found = lines.iter().find_map(|line| {
        let (layer, rest) = line.split_once(char::is_whitespace)?;
        let label = rest.split([',', ' ', '\t']).find(|it| it.starts_with(provided::CODE_LABEL))?;
        let (label, code) = label.split_once("=sha256:")?;
        Some(Reference { layer: layer.to_owned(), label: label.to_owned(), code: code.to_owned() })
    });
    found.with_context(|| format!("no layer has code: {lines:?}"))
}
