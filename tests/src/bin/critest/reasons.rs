//! Why tests are left out, fail or skip themselves, where a person has looked into it.

use crate::report::Outcome;

/// A test that is not run, by a part of its name, and why.
pub struct LeftOut {
    /// What ginkgo is given to skip it.
    pub name: &'static str,
    /// For the reader of the document.
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

/// A known cause: a part of a test's name, a part of its message, and what is the matter.
struct Cause(&'static str, &'static str, &'static str);

/// The first whose parts are there says it. An empty part is in everything.
const CAUSES: [Cause; 1] = [Cause(
    "UserNamespaces",
    "no runtime handler",
    "runc before 1.2 does not report that it can give mounts other ids, without which containerd offers no user namespaces",
)];

/// How much of an unknown message is worth a cell of a table, in characters.
const READABLE: usize = 160;

/// Why a test did not pass; the beginning of its own message, where nobody has looked yet.
pub fn of(outcome: &Outcome) -> String {
    let is_it =
        |cause: &&Cause| outcome.name.contains(cause.0) && outcome.message.contains(cause.1);
    match CAUSES.iter().find(is_it) {
        Some(Cause(_, _, reason)) => (*reason).to_owned(),
        None => plain(&outcome.message),
    }
}

/// In one line, without what differs from run to run, fit for a table.
fn plain(message: &str) -> String {
    let is_plain = |word: &&str| !word.contains('/') && word.trim_matches('"').len() < 40;
    let words: Vec<_> = message.split_whitespace().filter(is_plain).collect();
    let line = words.join(" ").replace('|', "\\|");
    let short: String = line.chars().take(READABLE).collect();
    if short.len() < line.len() { format!("{short} …") } else { short }
}
