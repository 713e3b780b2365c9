//! One form on one node: made by its tool, judged, pulled and run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::{fmt, fs};

use anyhow::{Context, Result, ensure};
use tests::command::{self, Output};
use tests::containerd::{repository, wasm_image};
use tests::ctr::Run;
use tests::registry::Registry;
use tests::{Container, Node, Pod};

use crate::HOST;
use crate::forms::{Expected, Form};

/// The guest of a form, which says the image's name: that of another would be noticed.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write"
        (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00LENGTH\00\00\00")
    (data (i32.const 16) "NAME")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// The command of Pods whose image names none.
const COMMAND: &str = "/hello.wasm";

/// What became of one attempt.
#[derive(Debug)]
pub enum Outcome {
    /// It said what it should, or `inspect` says that it runs.
    Runs,
    /// The error, or the reason that `inspect` gives.
    Refused(String),
    /// It could not be made: the tool is not here, or refuses.
    NotMade(String),
}

impl Outcome {
    /// Whether it is as expected.
    pub fn is(&self, expected: Expected) -> bool {
        match (self, expected) {
            (Outcome::Runs, Expected::Runs) => true,
            (Outcome::Refused(reason), Expected::Refused(word)) => reason.contains(word),
            _ => false,
        }
    }

    fn of(result: Result<()>) -> Self {
        match result {
            Ok(()) => Outcome::Runs,
            Err(error) => Outcome::Refused(format!("{error:#}").replace('\n', " ")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Runs => f.write_str("runs"),
            Outcome::Refused(reason) => write!(f, "refused: {reason}"),
            Outcome::NotMade(reason) => write!(f, "not made: {reason}"),
        }
    }
}

/// What became of a form on a node.
pub struct Attempt {
    /// What `wasm-image inspect` says.
    pub inspect: Outcome,
    /// Pulled and run as kubelet does.
    pub cri: Outcome,
    /// Pulled and run by `ctr`.
    pub ctr: Outcome,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |outcome: &Outcome| match outcome {
            Outcome::Runs => "runs",
            Outcome::Refused(_) => "refused",
            Outcome::NotMade(_) => "not made",
        };
        let [inspect, cri, ctr] = [&self.inspect, &self.cri, &self.ctr].map(word);
        write!(f, "inspect {inspect}, CRI {cri}, ctr {ctr}")
    }
}

/// Makes the image and tries it in each way.
pub fn all(node: &Node, registry: &Registry, form: &Form) -> Result<Attempt> {
    if let Err(error) = make(node, registry, form) {
        let not_made = || Outcome::NotMade(format!("{error:#}").replace('\n', " "));
        return Ok(Attempt { inspect: not_made(), cri: not_made(), ctr: not_made() });
    }
    let remote = format!("{}/{}:1", registry.address, form.image);
    Ok(Attempt {
        inspect: Outcome::of(inspect(&remote)),
        cri: Outcome::of(by_cri(node, form)),
        ctr: Outcome::of(by_ctr(node, form, &remote)),
    })
}

/// Runs the lines that make it, in a folder of its own with the guest, `hello.wasm`.
fn make(node: &Node, registry: &Registry, form: &Form) -> Result<()> {
    let folder = node.volume(&format!("matrix/{}", form.image))?;
    let guest = GUEST.replace("NAME", form.image);
    fs::write(
        folder.join("hello.wat"),
        guest.replace("LENGTH", &format!("\\{:02x}", form.image.len())),
    )?;
    let target = repository().join("target");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", target.join("go/images").display());
    let variables = [
        ("PATH", path),
        ("HOME", folder.display().to_string()),
        ("TMPDIR", folder.display().to_string()),
        ("IMAGE", format!("{}/{}", registry.address, form.image)),
        ("REGISTRY", registry.address.clone()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ];
    let preparation = PREPARATION.replace("WASM_IMAGE", &wasm_image().display().to_string());
    let guest = "command \"$tool\" wat hello.wat -o hello.wasm";
    let script = format!("cd {}\n{preparation}{guest}\n{}", folder.display(), form.make);
    let mut words = vec!["120".to_owned(), "env".to_owned(), "-i".to_owned()];
    words.extend(variables.map(|(key, value)| format!("{key}={value}")));
    words.extend(["sh", "-euc", &script].map(str::to_owned));
    command::run("timeout", words)?.success().map(drop)
}

/// What the lines of all forms may use: each tool as it reaches a registry without TLS, and works without a daemon.
const PREPARATION: &str = r#"
tool=WASM_IMAGE
wasm_image() { command "$tool" "$@" --plain-http; }
oras() { command oras "$@" --plain-http; }
crane() { command crane "$@" --insecure; }
regctl() { command regctl registry set --tls disabled "$REGISTRY"; command regctl "$@"; }
skopeo() { command skopeo copy --quiet --dest-tls-verify=false "$@"; }
containers() { program=$1; shift; command "$program" --storage-driver vfs --root "$HOME/root" --runroot "$HOME/run" "$@"; }
put() { curl --silent --show-error --fail --noproxy '*' --request PUT --header "Content-Type: $2" --data-binary "$3" "http://$REGISTRY/v2/${IMAGE#*/}/manifests/$1"; }
"#;

fn inspect(remote: &str) -> Result<()> {
    let done = command::run(wasm_image(), ["inspect", remote, "--plain-http"])?;
    let reason = done.stderr.lines().last().unwrap_or_default();
    ensure!(done.code == 0, "{reason}");
    Ok(())
}

/// Containers of one name would share a log.
static RUNS: AtomicU32 = AtomicU32::new(0);

fn by_cri(node: &Node, form: &Form) -> Result<()> {
    let name = format!("matrix-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let written = format!("{HOST}/{}:1", form.image);
    let image = node.cri.pull(&written, None)?;
    let pod = node.run_pod(&Pod::new(&name))?;
    let mut container = Container::new("app", &image).written(&written);
    if form.needs_command {
        container = container.command(&[COMMAND]);
    }
    let ran = (|| {
        let container = pod.run(&container)?;
        let exit = container.wait()?;
        let logs = container.logs()?;
        ensure!(exit.code == 0 && logs.stdout == form.image, "exit code {}: {logs:?}", exit.code);
        Ok(())
    })();
    pod.stop()?;
    pod.remove()?;
    ran
}

fn by_ctr(node: &Node, form: &Form, remote: &str) -> Result<()> {
    let platform = form.platform.map(|it| ["--platform", it]);
    let platform = platform.as_ref().map(<[&str; 2]>::as_slice).unwrap_or_default();
    // That of 2 has another unpack what it pulls, for which a platform of wasm is none.
    let local: &[&str] = if node.containerd.major == 1 { &[] } else { &["--local"] };
    let words = [&["images", "pull", "--plain-http"], local, platform, &[remote]].concat();
    node.ctr.run("default", &words)?.success().context("pull")?;
    let mut run = Run::new(remote).flags(platform);
    if form.needs_command {
        run = run.command(&[COMMAND]);
    }
    let Output { code, stdout, stderr, .. } = node.ctr.run_container(&run)?;
    ensure!(code == 0 && stdout == form.image, "exit code {code}: {stdout}{stderr}");
    Ok(())
}
