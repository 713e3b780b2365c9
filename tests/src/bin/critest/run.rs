//! One run of critest, in several processes of ginkgo, within bounds.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use tests::Node;
use tests::containerd::repository;

use crate::report::{self, Outcome};

/// How many tests run side by side. They wait more than they work.
const SIDE_BY_SIDE: u32 = 4;

/// How long a run may take, in minutes. After it ginkgo says which test was under way; a minute more, and all
/// of it is killed.
const LIMIT: u32 = 20;

/// Where ginkgo's reports and output stay, for who wants to know more than the document says.
fn reports() -> PathBuf {
    repository().join("target/critest")
}

/// What became of each test with that handler; `filters` are flags of ginkgo that say which tests these are.
pub fn with_handler(node: &Node, handler: &str, filters: &[String]) -> Result<Vec<Outcome>> {
    let reports = reports();
    fs::create_dir_all(&reports)?;
    let report = reports.join(format!("{handler}.json"));
    let output = File::create(reports.join(format!("{handler}.log")))?;
    if report.exists() {
        fs::remove_file(&report)?;
    }
    let folder = node.volume(handler)?;
    let critest = program("critest")?;
    // ginkgo knows a compiled suite by the end of its name.
    let suite = folder.join("critest.test");
    symlink(critest, &suite)?;
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=60", &format!("{}m", LIMIT + 1)])
        .arg(program("ginkgo")?)
        .arg(format!("--procs={SIDE_BY_SIDE}"))
        .arg(format!("--timeout={LIMIT}m"))
        .args(["--no-color", "--keep-going", "--silence-skips", "--poll-progress-after=0"])
        .arg(format!("--output-dir={}", reports.display()))
        .arg(format!("--json-report={handler}.json"))
        .args(filters)
        .arg(&suite)
        .args(["--", &format!("--runtime-endpoint=unix://{}", node.socket().display())])
        .args([&format!("--runtime-handler={handler}"), "--config=/nonexistent"])
        .env("TMPDIR", &folder)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    for name in PROXIES {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    // Its exit code only says whether all have passed, which the report says test by test.
    command.status().context("start ginkgo")?;
    remove_mounts(&folder)?;
    let text = fs::read(&report).with_context(|| {
        format!("critest left no report; see {}", reports.join(format!("{handler}.log")).display())
    })?;
    report::parse(&text)
}

/// Variables that would send requests for a Pod elsewhere.
const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];

/// A test that makes mounts for a container and then fails leaves them.
fn remove_mounts(folder: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // The later lie in or on the earlier.
    for point in points.filter(|point| Path::new(point).starts_with(folder)).rev() {
        umount2(point, MntFlags::MNT_DETACH).with_context(|| format!("unmount {point}"))?;
    }
    Ok(())
}

fn program(name: &str) -> Result<PathBuf> {
    let program = repository().join("target/go/critest").join(name);
    let is_there = Path::exists(&program);
    is_there
        .then_some(program)
        .with_context(|| format!("{name} is not there; `make critest` builds it"))
}
