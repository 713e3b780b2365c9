//! Writes `docs/conformance.md`, the results for people.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::{Containerd, repository};

use crate::reasons::{self, LEFT_OUT};
use crate::report::{Outcome, State};

/// The module with the version of critest.
const MODULE: &str = include_str!("../../../critest/go.mod");

/// Writes the document from the results with both handlers.
pub fn write(containerd: &Containerd, runc: &[Outcome], wasmtime: &[Outcome]) -> Result<()> {
    let folder = repository().join("docs");
    fs::create_dir_all(&folder)?;
    let text = text(&environment(containerd)?, runc, wasmtime)?;
    let file = folder.join("conformance.md");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Describes what was tested.
fn environment(containerd: &Containerd) -> Result<String> {
    let critest =
        MODULE.lines().find_map(|line| line.trim().strip_prefix("sigs.k8s.io/cri-tools v"));
    let critest =
        critest.and_then(|rest| rest.split(' ').next()).context("no cri-tools in go.mod")?;
    let runc = command::must("runc --version")?;
    let runc = runc.lines().next().unwrap_or_default().replace(" version", "");
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let cgroups = if unified { "v2" } else { "v1" };
    Ok(format!(
        "critest of cri-tools {critest}, containerd {}, {runc}, cgroups {cgroups}",
        containerd.version
    ))
}

fn text(environment: &str, runc: &[Outcome], wasmtime: &[Outcome]) -> Result<String> {
    let mut text = String::from(HEADER).replace("ENVIRONMENT", environment);
    writeln!(text, "| handler | passed | failed | skipped |\n|---|---|---|---|")?;
    for (name, outcomes) in [("`runc`", runc), ("`wasmtime`", wasmtime)] {
        let [passed, failed, skipped] = [State::Passed, State::Failed, State::Skipped]
            .map(|state| outcomes.iter().filter(|outcome| outcome.state == state).count());
        writeln!(text, "| {name} | {passed} | {failed} | {skipped} |")?;
    }
    text.push_str(FAILED);
    let mut failed = pairs(runc, wasmtime);
    failed.retain(|(_, runc, wasmtime)| is(runc, State::Failed) || is(wasmtime, State::Failed));
    table(&mut text, &failed)?;
    text.push_str(SKIPPED);
    let mut skipped = pairs(runc, wasmtime);
    skipped.retain(|pair| {
        let (_, runc, wasmtime) = pair;
        !failed.contains(pair) && (is(runc, State::Skipped) || is(wasmtime, State::Skipped))
    });
    table(&mut text, &skipped)?;
    text.push_str(LEFT);
    for left in &LEFT_OUT {
        writeln!(text, "| {} | {} |", left.name, left.reason)?;
    }
    text.push_str(OF_CONTAINERD);
    Ok(text)
}

/// Name of a test, and its result with each handler.
type Pair<'a> = (&'a str, Option<&'a Outcome>, Option<&'a Outcome>);

fn pairs<'a>(runc: &'a [Outcome], wasmtime: &'a [Outcome]) -> Vec<Pair<'a>> {
    let mut names: Vec<_> = runc.iter().chain(wasmtime).map(|it| it.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find = |outcomes: &'a [Outcome], name| outcomes.iter().find(|it| it.name == name);
    names.into_iter().map(|name| (name, find(runc, name), find(wasmtime, name))).collect()
}

fn is(outcome: &Option<&Outcome>, state: State) -> bool {
    outcome.is_some_and(|outcome| outcome.state == state)
}

fn table(text: &mut String, pairs: &[Pair<'_>]) -> Result<()> {
    writeln!(text, "| test | `runc` | `wasmtime` |\n|---|---|---|")?;
    for (name, runc, wasmtime) in pairs {
        writeln!(text, "| {name} | {} | {} |", cell(runc), cell(wasmtime))?;
    }
    Ok(())
}

fn cell(outcome: &Option<&Outcome>) -> String {
    let Some(outcome) = outcome else { return "not run".into() };
    match outcome.state {
        State::Passed => "passed".into(),
        State::Failed => format!("**failed**: {}", reasons::of(outcome)),
        State::Skipped => format!("skipped: {}", reasons::of(outcome)),
    }
}

const HEADER: &str = "\
# Conformance

`make critest` runs Kubernetes' own tests of CRI, critest, with Linux containers: once with runc's shim and once with this one,
on the same private containerd. It writes this page.

Measured with ENVIRONMENT.

The images that critest pulls are built from busybox, under the names that it asks for, and come from a registry on
loopback. If a test has the same reason with both handlers, the cause is the machine or the harness.

";

const FAILED: &str = "
## Failed with either

";

const SKIPPED: &str = "
## Skipped by themselves

A test skips itself if something that it needs is missing, on the machine or among the features that the runtime reports.

";

const LEFT: &str = "
## Left out

| test | reason |
|---|---|
";

/// What `scripts/containerd-tests.sh` runs: it fails if one of them does.
const OF_CONTAINERD: &str = "
## containerd's own tests

`make containerd-tests` runs tests of the release of containerd that is named above, from its module, with this shim as the runtime:
`TestContainerStopSignals` and `TestDefaultContainerStopSignal` by CRI, `TestUserNamespaces` (one range and several, root writable and read-only,
programs that lend rights) and `TestRuntimeInfo` by its client. All pass. Their images are stand-ins of busybox, as those of critest are.
";
