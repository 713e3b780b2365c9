//! Reasons why tests are left out, fail or skip themselves, if a person has found the reason.

use crate::report::Outcome;

/// A test that is not run, identified by a part of its name.
pub struct LeftOut {
    /// Part of the name that ginkgo gets to skip the test.
    pub name: &'static str,
    /// Reason for the reader of the document.
    pub reason: &'static str,
}

/// Tests that no runtime can pass in this harness.
pub const LEFT_OUT: [LeftOut; 3] = [
    LeftOut {
        name: "public image with digest should be pulled and removed",
        reason: "asks for one particular image by its digest, which cannot be built here",
    },
    LeftOut {
        name: "runtime should support MaskedPaths",
        reason: "masks `/bin/ls`, which the shell of these images has in itself",
    },
    LeftOut {
        name: "port mapping with host port and container port",
        reason: "is the CNI plugin `portmap`'s, which changes the machine's iptables; \
                 the harness's network does not have it",
    },
];

/// A known cause: part of a test's name, part of its message, and the explanation.
struct Cause(&'static str, &'static str, &'static str);

/// Known causes. The first one that matches is used. An empty part matches everything.
const CAUSES: [Cause; 1] = [Cause(
    "UserNamespaces",
    "no runtime handler",
    "runc before 1.2 does not report that it can give mounts other ids, without which containerd offers no user namespaces",
)];

/// Longest part of an unknown message in a cell of a table, in characters.
const READABLE: usize = 160;

/// Returns why a test did not pass. If no cause is known, this is the beginning of its own message.
pub fn of(outcome: &Outcome) -> String {
    let is_it =
        |cause: &&Cause| outcome.name.contains(cause.0) && outcome.message.contains(cause.1);
    match CAUSES.iter().find(is_it) {
        Some(Cause(_, _, reason)) => (*reason).to_owned(),
        None => plain(&outcome.message),
    }
}

/// Returns a message as one line for a table, without the parts that change from run to run.
fn plain(message: &str) -> String {
    let is_plain = |word: &&str| !word.contains('/') && word.trim_matches('"').len() < 40;
    let words: Vec<_> = message.split_whitespace().filter(is_plain).collect();
    let line = words.join(" ").replace('|', "\\|");
    let short: String = line.chars().take(READABLE).collect();
    if short.len() < line.len() { format!("{short} …") } else { short }
}
