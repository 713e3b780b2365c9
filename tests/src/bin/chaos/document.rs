//! Writes `docs/reliability.md`, the results for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::{Containerd, repository};

use crate::life::REMOVAL;
use crate::report::{durations, failures, markdown, pods, strikes};
use crate::tally::Summary;

/// Writes the document.
pub fn write(containerds: &[Containerd], summary: &Summary) -> Result<()> {
    let file = repository().join("docs/reliability.md");
    let text = text(&environment(containerds)?, summary);
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Describes what the run used.
fn environment(containerds: &[Containerd]) -> Result<String> {
    let versions: Vec<_> = containerds.iter().map(|it| it.version.as_str()).collect();
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let cgroups = if unified { "v2" } else { "v1" };
    let kernel = command::must("uname --kernel-release")?;
    let versions = versions.join(" and ");
    Ok(format!("containerd {versions}, Linux {}, cgroups {cgroups}", kernel.trim()))
}

fn text(environment: &str, summary: &Summary) -> String {
    let counts = &summary.counts;
    let total: usize = counts.pods.values().sum();
    HEADER
        .replace("ENVIRONMENT", environment)
        .replace("TOTAL", &total.to_string())
        .replace("MINUTES", &(summary.took.as_secs() / 60).to_string())
        .replace("LEFT", &counts.left.to_string())
        .replace("REMOVAL", &REMOVAL.as_secs().to_string())
        .replace("SEED", &summary.seed.to_string())
        .replace("PODS", &markdown(&pods(counts)))
        .replace("STRIKES", &markdown(&strikes(counts)))
        .replace("FAILURES", &markdown(&failures(counts)))
        .replace("DURATIONS", &markdown(&durations(counts)))
}

const HEADER: &str = "\
# Reliability

`make chaos` runs Pods over CRI, as kubelet does, six at a time on two processors: guests that end, guests that are
compiled anew, guests that serve HTTP, Linux programs, and Pods with a guest and a program. While they run, it kills or stops
their processes, fills the disk, or deletes images. A run of 1000 Pods or more (`make chaos N=10000`) writes this
page. `make test` includes a run of 300.

In this run of TOTAL Pods (seed SEED, MINUTES minutes; ENVIRONMENT)

- every Pod was removed, each within REMOVAL seconds from the first try to do so;
- every reported exit code was correct, and did not change later (containerd reports 255, unknown, if it is killed after it
  had a container deleted and before it has written down how the container ended);
- no call failed in a Pod that was not harmed;
- every call returned;
- nothing was left: no process, mount, cgroup, namespace, network interface, socket, bundle or record of containerd's;
  this does not count what is left of a call during which containerd was killed, because containerd does not know
  what it had begun, such as a shim whose address it had not written down. There were LEFT such things (processes,
  cgroups, networks, sockets, leases and snapshots);
- no log of containerd, a shim or a guest had a panic.

PODS
A victim is looked for in one part of its Pod's life. A process that lives for a few milliseconds is not always found.

STRIKES
## Calls that failed

These calls failed in Pods that were harmed, or while containerd was down, the disk was full or an image was deleted. Ids and numbers
are left out.

FAILURES
## How long calls took

These times were measured under these conditions. `make bench` measures starts without them.

DURATIONS";

#[cfg(test)]
mod test {
    use std::time::Duration;

    use super::*;
    use crate::plan::Mode;
    use crate::tally::Tally;

    #[test]
    fn every_blank_is_filled_in() {
        let tally = Tally::default();
        tally.begun(Mode::Kill);
        tally.failure("StartContainer: shim is gone");
        let text = text("containerd 2.4.2", &tally.summary(77, Duration::from_secs(120)));
        for word in ["run of 1 Pods (seed 77, 2 minutes; containerd 2.4.2)", "shim is gone"] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        let words = text.split(|it: char| !it.is_ascii_alphabetic());
        let is_blank =
            |word: &&str| word.len() > 4 && word.bytes().all(|it| it.is_ascii_uppercase());
        assert_eq!(words.filter(is_blank).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
