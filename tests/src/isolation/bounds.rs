//! Finds where a guest's process has more than a program's process of the same spec.

use std::collections::BTreeMap;

use crate::cgroups::is_unified;
use crate::isolation::facts::Facts;
use crate::isolation::mounts::Mount;

/// Facts that must be the same: the beginning of their names.
const SAME: [&str; 12] = [
    "Uid",
    "Gid",
    "Groups",
    "Umask",
    "uid_map",
    "gid_map",
    "setgroups",
    "limit ",
    "host name",
    "domain name",
    "parameter ",
    "Cpus_allowed_list",
];

/// The shim passes the memory limit to a guest's process by this limit, which the kernel ignores.
const MEMORY_LIMIT: &str = "limit Max resident set";

/// Propagation types by which mounts pass between the node and a process.
const PROPAGATED: [&str; 2] = ["shared", "master"];

/// Options of a mount that keep a process from something.
const KEPT: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// Kernel file systems that only a program has.
const OF_PROGRAMS: [&str; 5] = ["/proc", "/sys", "/dev/pts", "/dev/mqueue", "/dev/shm"];

/// A guest keeps this capability if the spec grants it, whatever its user. A program of a user other than root loses it at
/// execve(2), unless its file grants it. A guest is not executed.
const NET_BIND_SERVICE: u64 = 1 << 10;

/// Each fact in which the guest has more than the program, or other than it; empty when there is none.
pub fn exceeded(guest: &Facts, program: &Facts) -> Vec<String> {
    let names = guest.keys().chain(program.keys().filter(|it| !guest.contains_key(*it)));
    let found = names.filter_map(|fact| {
        let [own, other] = [guest, program].map(|it| it.get(fact).map(String::as_str));
        let reason = reason(fact, own, other, program)?;
        let [own, other] = [own, other].map(|it| it.unwrap_or("none"));
        Some(format!("{fact}: {reason}: {own} of the guest, {other} of the program"))
    });
    found.chain(mounts(guest, program)).collect()
}

/// Why a fact is more than the program's, if it is.
fn reason(
    fact: &str,
    own: Option<&str>,
    other: Option<&str>,
    program: &Facts,
) -> Option<&'static str> {
    let is_device = |it: &str| it.starts_with("device");
    let has_lost = |denied: &str| other == Some(denied) && own != Some(denied);
    match fact {
        _ if own == other || fact == MEMORY_LIMIT => None,
        _ if SAME.iter().any(|it| fact.starts_with(it)) => Some("they differ"),
        // runc before 1.3.2 converts shares to a smaller weight.
        _ if fact.ends_with("cpu.weight") => None,
        _ if is_of_cgroup(fact) => Some("they differ"),
        "NoNewPrivs" => has_lost("1").then_some("it is not set"),
        "Seccomp" => has_lost("2").then_some("there is no filter"),
        "oom_score_adj" => is_lower(own, other).then_some("it is less likely to be ended"),
        _ if fact.starts_with("Cap") => {
            (!is_granted(own, other, program)).then_some("more capabilities")
        }
        _ if fact.starts_with("namespace ") => has_lost("its own").then_some("it is not its own"),
        _ if fact.starts_with("file /dev/") => {
            own.is_some_and(is_device).then_some("another device")
        }
        "session keyring" => (own == Some("the node's")).then_some("it is the node's"),
        _ => None,
    }
}

fn is_lower(own: Option<&str>, other: Option<&str>) -> bool {
    let number = |text: Option<&str>| text.and_then(|it| it.parse::<i32>().ok());
    number(own) < number(other)
}

fn is_granted(own: Option<&str>, other: Option<&str>, program: &Facts) -> bool {
    let mask =
        |text: Option<&str>| text.and_then(|it| u64::from_str_radix(it, 16).ok()).unwrap_or(0);
    let bounding = mask(program.get("CapBnd").map(String::as_str));
    mask(own) & !mask(other) & !(bounding & NET_BIND_SERVICE) == 0
}

/// Whether it bounds what is in a cgroup. Which devices a guest may open is not decided there, but by its [`mounts`]; in systemd's
/// own hierarchy, and in that of v2 beside those of v1, nothing is bounded.
fn is_of_cgroup(fact: &str) -> bool {
    let Some(name) = fact.strip_prefix("cgroup ") else { return false };
    let is_bounded = !name.starts_with("name=") && (is_unified() || !name.is_empty());
    is_bounded && !name.ends_with("devices.list")
}

fn mounts(guest: &Facts, program: &Facts) -> Vec<String> {
    let (own, others) = (table(guest), table(program));
    let mut found = Vec::new();
    for (at, own) in own {
        let Some(other) = others.get(at) else {
            found.push(format!("mount {at}: the program has none: {own:?}"));
            continue;
        };
        let is_same = own.0 == other.0 || at == "/dev";
        let lost = KEPT.iter().filter(|it| other.1.contains(it) && !own.1.contains(it));
        let lost: Vec<_> = lost.copied().collect();
        let is_propagated = own.2.iter().any(|it| PROPAGATED.contains(it) && !other.2.contains(it));
        // What covers a file that the spec masks is a device.
        let has_devices = at == "/dev" || at.starts_with("/dev/") || own.0 == "/null";
        if !has_devices && !own.1.contains(&"nodev") {
            found.push(format!("mount {at}: devices can be opened: {own:?}"));
        }
        if !is_same || !lost.is_empty() || is_propagated {
            found.push(format!("mount {at}: {own:?} of the guest, {other:?} of the program"));
        }
    }
    // A mount that is missing would show what it covers.
    let missing = others.keys().filter(|at| !guest.contains_key(&format!("mount {at}")));
    let missing = missing.filter(|at| !OF_PROGRAMS.iter().any(|it| at.starts_with(it)));
    found.extend(missing.map(|at| format!("mount {at}: the guest has none: {:?}", others[*at])));
    found
}

/// What is mounted, its options and its propagation.
type Line<'a> = (&'a str, Vec<&'a str>, Vec<&'a str>);

/// The mounts by place; of several the one on top.
fn table(facts: &Facts) -> BTreeMap<&str, Line<'_>> {
    let all = facts.iter().filter_map(|(fact, lines)| Some((fact.strip_prefix("mount ")?, lines)));
    all.filter_map(|(at, lines)| Some((at, Mount::parts(lines.rsplit(" | ").next()?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(all: &[(&str, &str)]) -> Facts {
        all.iter().map(|(fact, value)| ((*fact).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_kind_of_fact_in_which_a_guest_has_more_is_found() {
        for (fact, guest, program) in [
            ("Uid", "0 0 0 0", "1000 1000 1000 1000"),
            ("Groups", "5 10", "5"),
            ("CapPrm", "0000000000000401", "0000000000000400"),
            ("NoNewPrivs", "0", "1"),
            ("Seccomp", "0", "2"),
            ("namespace net", "the node's", "its own"),
            ("namespace net", "joined", "its own"),
            ("limit Max open files", "1024 1024 files", "512 1024 files"),
            ("cgroup memory memory.limit_in_bytes", "9223372036854771712", "1048576"),
            ("CapEff", "0000000000000400", "0000000000000000"),
            ("oom_score_adj", "-998", "0"),
            ("file /dev/sda", "device 8:0 660 0:0", "none"),
            ("session keyring", "the node's", "its own"),
            ("mount /data", "/a nodev,rw [] ext4", "/a relatime,ro [] ext4"),
            ("mount /data", "/a nodev,ro [shared] ext4", "/a ro [] ext4"),
            ("mount /data", "/b nodev,ro [] ext4", "/a ro [] ext4"),
            ("mount /data", "/a ro [] ext4", "/a ro [] ext4"),
        ] {
            let found = exceeded(&facts(&[(fact, guest)]), &facts(&[(fact, program)]));
            assert_eq!(found.len(), 1, "{fact}: {guest} is no more than {program}: {found:?}");
        }
        let one = facts(&[("mount /data", "/a rw [] ext4")]);
        assert_eq!(exceeded(&one, &facts(&[])).len(), 1, "a mount that the program has not");
        assert_eq!(exceeded(&facts(&[]), &one).len(), 1, "a mount that the guest has not");
    }

    #[test]
    fn a_guest_that_has_less_exceeds_nothing() {
        let guest = facts(&[
            ("CapEff", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("namespace net", "its own"),
            ("cgroup devices devices.list", "a *:* rwm"),
            ("CapPrm", "0000000000000400"),
            ("oom_score_adj", "1"),
            ("mount /data", "/a nodev,nosuid,ro [] ext4"),
        ]);
        let program = facts(&[
            ("CapEff", "0000000000000400"),
            ("NoNewPrivs", "0"),
            ("Seccomp", "0"),
            ("namespace net", "the node's"),
            ("cgroup devices devices.list", "c 1:3 rwm, c 1:5 rwm"),
            ("CapBnd", "0000000000000400"),
            ("oom_score_adj", "0"),
            ("mount /data", "/a nosuid,rw [shared] ext4"),
            ("mount /proc", "/ rw [] proc"),
            ("mount /dev/pts", "/ rw [] devpts"),
        ]);
        assert_eq!(exceeded(&guest, &program), Vec::<String>::new());
    }
}
