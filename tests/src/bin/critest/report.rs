//! ginkgo's report in JSON: what became of each test.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A test and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Its full name, from the outermost group inwards.
    pub name: String,
    /// How it ended.
    pub state: State,
    /// Why it failed or was skipped, in the words of the test.
    pub message: String,
}

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should.
    Passed,
    /// Not as it should, too late, or not at all.
    Failed,
    /// By its own decision, because something is not there.
    Skipped,
}

/// The tests of a report, but for those that were filtered out.
pub fn parse(report: &[u8]) -> Result<Vec<Outcome>> {
    let report: Value = serde_json::from_slice(report).context("the report is not JSON")?;
    let suites = report.as_array().context("the report is no list of suites")?;
    let specs = suites.iter().filter_map(|suite| suite["SpecReports"].as_array()).flatten();
    let tests = specs.filter(|spec| spec["LeafNodeType"] == "It");
    let outcomes: Vec<_> = tests.filter_map(outcome).collect();
    if outcomes.is_empty() {
        bail!("the report tells of no test");
    }
    Ok(outcomes)
}

fn outcome(spec: &Value) -> Option<Outcome> {
    let groups = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let words: Vec<_> = groups.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
    let message = spec["Failure"]["Message"].as_str().unwrap_or_default().to_owned();
    let state = match spec["State"].as_str()? {
        "passed" => State::Passed,
        // Without a reason it was filtered out.
        "skipped" | "pending" if message.is_empty() => return None,
        "skipped" | "pending" => State::Skipped,
        _ => State::Failed,
    };
    let name = words.join(" ").trim_start_matches("[k8s.io] ").to_owned();
    Some(Outcome { name, state, message })
}
