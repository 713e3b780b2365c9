//! Finds the processes of a Pod by their kind.

use std::collections::HashSet;

use tests::processes::{self, Process};

use crate::plan::Victim;

/// Name of the shim's serving process and of each of its actions, as the kernel cuts it.
const SHIM: &str = "containerd-shim";

/// Name of the zygote, and of its forks until they become something else.
const ZYGOTE: &str = "wasmtime-zygote";

/// A search for processes of one Pod. It is fast enough for processes that live for milliseconds, because of the
/// processes that existed at its beginning it only reads the Pod's own again.
#[derive(Debug)]
pub struct Search {
    before: HashSet<i32>,
    own: Vec<i32>,
}

impl Search {
    /// Begins a search for a Pod that may not exist yet.
    pub fn begin(pod: Option<&str>) -> Self {
        let all = processes::all();
        let shim = pod.and_then(|pod| shim(&all, pod));
        let own = shim.map_or_else(Vec::new, |shim| processes::family_among(&all, shim));
        let pids = |processes: &[Process]| processes.iter().map(|it| it.pid).collect::<Vec<_>>();
        Self { own: pids(&own), before: pids(&all).into_iter().collect() }
    }

    /// Returns the process of that kind that the Pod with this id has now.
    pub fn find(&self, victim: Victim, pod: &str) -> Option<Process> {
        let own = self.own.iter().filter_map(|pid| Process::at(*pid));
        let processes: Vec<_> = own.chain(processes::all_but(&self.before)).collect();
        find(victim, pod, &processes, &self.before)
    }
}

/// Returns the Pod's process of that kind, among these. `before` existed before it was executed.
fn find(
    victim: Victim,
    pod: &str,
    processes: &[Process],
    before: &HashSet<i32>,
) -> Option<Process> {
    let shim = shim(processes, pod)?;
    let below = |parent: &Process| {
        let parent = parent.pid;
        processes.iter().filter(move |process| process.parent == parent)
    };
    let zygote = || below(shim).find(|process| process.name == ZYGOTE);
    let mut requests = zygote().into_iter().flat_map(below).filter(|it| it.name == ZYGOTE);
    let is_made = |process: &&Process| process.name != ZYGOTE && !is_builder(process);
    let found = match victim {
        Victim::Shim => Some(shim),
        Victim::Zygote => zygote(),
        Victim::Request => requests.next(),
        // Processes that build are children of the request process, or orphans that the shim has adopted.
        Victim::Builder => requests.flat_map(below).chain(below(shim)).find(|it| is_builder(it)),
        Victim::Compiler => zygote().and_then(|zygote| {
            let mut forked = below(zygote).chain(below(zygote).flat_map(below));
            forked.find(|process| process.name == "wasm-compile")
        }),
        Victim::Pause => below(shim).find(|process| process.name == "pause"),
        Victim::Container => below(shim).filter(is_made).find(|process| process.name != "pause"),
        Victim::Executed => {
            below(shim).filter(is_made).find(|process| !before.contains(&process.pid))
        }
        // containerd belongs to no Pod.
        Victim::Containerd => None,
    };
    found.cloned()
}

/// Returns the process that serves the Pod. Its forks have the same command line.
fn shim<'a>(processes: &'a [Process], pod: &str) -> Option<&'a Process> {
    let serves = |process: &&Process| {
        let command = process.command.as_str();
        command.contains(SHIM)
            && command.contains(pod)
            && ![" start", " delete"].iter().any(|action| command.ends_with(action))
    };
    let of_pod: Vec<_> = processes.iter().filter(serves).collect();
    let is_root = |process: &&&Process| of_pod.iter().all(|other| other.pid != process.parent);
    of_pod.iter().find(is_root).copied()
}

fn is_builder(process: &Process) -> bool {
    process.name.starts_with("youki:") || process.name == "wasm-init"
}

#[cfg(test)]
mod test {
    use super::*;

    const COMMAND: &str = "/bin/containerd-shim-wasmtime-v1 -namespace k8s.io -id p1";

    fn process(pid: i32, parent: i32, name: &str, command: &str) -> Process {
        Process { pid, parent, name: name.into(), command: command.into() }
    }

    /// A Pod during a Create, beside another Pod.
    fn machine() -> Vec<Process> {
        vec![
            process(9, 1, SHIM, &format!("{COMMAND} start")),
            process(10, 1, SHIM, COMMAND),
            process(11, 10, ZYGOTE, COMMAND),
            process(12, 11, ZYGOTE, COMMAND),
            process(13, 12, "youki:[1:INTER]", COMMAND),
            process(14, 12, "wasm-compile", COMMAND),
            process(15, 10, "pause", COMMAND),
            process(16, 10, "wasm", COMMAND),
            process(17, 10, "sh", "/bin/sh -c true"),
            process(20, 1, SHIM, "/bin/containerd-shim-wasmtime-v1 -namespace k8s.io -id p2"),
            process(21, 20, "pause", COMMAND),
        ]
    }

    #[test]
    fn each_is_found_by_its_place_in_the_family() {
        let before = [11, 15, 16].into();
        let expected = [
            (Victim::Shim, Some(10)),
            (Victim::Zygote, Some(11)),
            (Victim::Request, Some(12)),
            (Victim::Builder, Some(13)),
            (Victim::Compiler, Some(14)),
            (Victim::Pause, Some(15)),
            (Victim::Container, Some(16)),
            (Victim::Executed, Some(17)),
            (Victim::Containerd, None),
        ];
        for (victim, pid) in expected {
            let found = find(victim, "p1", &machine(), &before).map(|process| process.pid);
            assert_eq!(found, pid, "{victim:?}");
        }
    }

    #[test]
    fn a_pod_that_is_gone_has_no_processes() {
        assert_eq!(find(Victim::Shim, "p3", &machine(), &HashSet::new()), None);
    }

    #[test]
    fn no_other_pods_process_is_taken_for_one_that_is_not_there() {
        let none = HashSet::new();
        assert_eq!(find(Victim::Zygote, "p2", &machine(), &none), None);
        assert_eq!(find(Victim::Pause, "p2", &machine(), &none).map(|it| it.pid), Some(21));
    }
}
