//! Runs critest once, in several processes of ginkgo, with a time limit.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use tests::Node;
use tests::containerd::repository;

use crate::report::{self, Outcome};

/// Number of tests at the same time. They mostly wait.
const SIDE_BY_SIDE: u32 = 4;

/// Time limit of a run, in minutes. At its end, ginkgo reports which test was running. A minute later, everything is
/// killed.
const LIMIT: u32 = 20;

/// Returns the directory of ginkgo's reports and output, which have more details than the document.
fn reports() -> PathBuf {
    repository().join("target/critest")
}

/// Returns the result of each test with that handler. `filters` are flags of ginkgo that select the tests.
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
    // ginkgo recognises a compiled suite by the end of its name.
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
    // The exit code only shows whether all tests passed. The report has the result of each test.
    command.status().context("start ginkgo")?;
    remove_mounts(&folder)?;
    let text = fs::read(&report).with_context(|| {
        format!("critest left no report; see {}", reports.join(format!("{handler}.log")).display())
    })?;
    report::parse(&text)
}

/// Variables that would send requests for a Pod elsewhere.
const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];

/// Removes mounts that a test made for a container and left when it failed.
fn remove_mounts(folder: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // Later mounts are inside or on top of earlier ones.
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
        .with_context(|| format!("{name} does not exist; `make critest` builds it"))
}
