//! Parses ginkgo's JSON report.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A test and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Full name, from the outermost group inwards.
    pub name: String,
    /// Result.
    pub state: State,
    /// Message of the test about why it failed or was skipped.
    pub message: String,
}

/// Result of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The test succeeded.
    Passed,
    /// The test failed, took too long, or did not run.
    Failed,
    /// The test skipped itself, because something is missing.
    Skipped,
}

/// Returns the tests of a report, except those that were filtered out.
pub fn parse(report: &[u8]) -> Result<Vec<Outcome>> {
    let report: Value = serde_json::from_slice(report).context("the report is not JSON")?;
    let suites = report.as_array().context("the report is not a list of suites")?;
    let specs = suites.iter().filter_map(|suite| suite["SpecReports"].as_array()).flatten();
    let tests = specs.filter(|spec| spec["LeafNodeType"] == "It");
    let outcomes: Vec<_> = tests.filter_map(outcome).collect();
    if outcomes.is_empty() {
        bail!("the report contains no test");
    }
    Ok(outcomes)
}

fn outcome(spec: &Value) -> Option<Outcome> {
    let groups = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
    let words: Vec<_> = groups.chain([&spec["LeafNodeText"]]).filter_map(Value::as_str).collect();
    let message = spec["Failure"]["Message"].as_str().unwrap_or_default().to_owned();
    let state = match spec["State"].as_str()? {
        "passed" => State::Passed,
        // A test without a reason was filtered out.
        "skipped" | "pending" if message.is_empty() => return None,
        "skipped" | "pending" => State::Skipped,
        _ => State::Failed,
    };
    let name = words.join(" ").trim_start_matches("[k8s.io] ").to_owned();
    Some(Outcome { name, state, message })
}
