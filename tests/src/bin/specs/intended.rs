//! Differences that are intended, each with its reason. They are those to a build from before guests had an isolator of
//! their own. With a later build, fewer of them are seen.

use serde_json::Value;
use tests::isolation::specs::Spec;

use crate::pair::{Difference, MADE, NONE};
use crate::volumes;

/// A difference that is meant.
struct Intended {
    reason: &'static str,
    is_it: fn(&Spec, &Difference) -> bool,
}

const INTENDED: [Intended; 16] = [
    Intended {
        reason: "every mount of a guest is `nodev`; a tmpfs that is read-only is so for all its mounts; each volume has the \
                 propagation of its own options, where before the whole tree had one",
        is_it: |spec, it| {
            it.place()
                .is_some_and(|place| volumes::has_its_own_bounds(spec, place, &it.before, &it.now))
        },
    },
    Intended {
        reason: "what is mounted in one volume no longer appears in another of the same directory, since their mounts are \
                 not peers any more",
        is_it: |spec, it| {
            let is_of_volume = it.place().or_else(|| it.file()).is_some();
            is_of_volume && it.now == NONE && volumes::has_peers(spec)
        },
    },
    Intended {
        reason: "the built-in pause has an empty root, because it uses no file of its image, no working directory and no \
                 code of a guest",
        is_it: |spec, it| {
            let is_of_root = it.place().or_else(|| it.file()).is_some()
                || it.fact == "cwd"
                || it.fact.starts_with("open ");
            spec.is_sandbox() && (is_of_root || it.is_made_now(&["mount", "canonicalize"]))
        },
    },
    Intended {
        reason: "paths that the spec masks or protects are so for a guest, too; before, only programs were kept from them",
        is_it: |spec, it| {
            let path = it.place().or_else(|| it.file());
            path.is_some_and(|path| volumes::is_hidden(spec, path))
        },
    },
    Intended {
        reason: "no guest has /proc; before, one had it where libcontainer needed it",
        is_it: |_, it| {
            let is_gone = it.place().is_some_and(|at| at.starts_with("/proc")) && it.now == NONE;
            is_gone || it.is_made_now(&["destination: \"/proc\"", "/proc/thread-self"])
        },
    },
    Intended {
        reason: "/dev has no links into /proc, which a guest has not",
        is_it: |_, it| {
            let links = ["/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"];
            it.file().is_some_and(|path| links.contains(&path)) && it.now == NONE
        },
    },
    Intended {
        reason: "a volume of the user's at /dev/shm is there, where before it was taken for the programs' shared memory",
        is_it: |_, it| {
            let path = it.place().or_else(|| it.file());
            path.is_some_and(|path| path.starts_with("/dev/shm")) && it.before == NONE
        },
    },
    Intended {
        reason: "the loopback device of a new network is up, as a program's is",
        is_it: |_, it| it.fact == "loopback" && it.now.contains("UP"),
    },
    Intended {
        reason: "the rules for devices are those of the spec, and runc's; before, the devices of libcontainer were among them",
        is_it: |_, it| {
            let rules = |text: &str| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
            let before = rules(&it.before);
            it.fact.ends_with("devices.list")
                && rules(&it.now).iter().all(|rule| before.contains(rule))
        },
    },
    Intended {
        reason: "a guest's process has a session keyring of its own",
        is_it: |_, it| it.fact == "session keyring" && it.now == "its own",
    },
    Intended {
        reason: "standard streams that are not given are /dev/null through a mount that changes nothing, for reading and \
                 writing",
        is_it: |_, it| it.fact == "open device 1:3 r" || it.fact == "open device 1:3 rw",
    },
    Intended {
        reason: "without a score in the spec a process has its shim's, which containerd's way of starting one raises by 1 \
                 while it begins",
        is_it: |spec, it| {
            it.fact == "oom_score_adj"
                && spec.config["process"]["oomScoreAdj"].is_null()
                && it.now >= it.before
        },
    },
    Intended {
        reason: "`tmpcopyup` is carried out, which was refused",
        is_it: |_, it| it.is_made_now(&["tmpcopyup"]),
    },
    Intended {
        reason: "`nodiratime`, `strictatime` and `unbindable` are carried out, by which mounting failed",
        is_it: |_, it| it.is_made_now(&["nodiratime", "strictatime", "unbindable"]),
    },
    Intended {
        reason: "volumes have the ids that the spec maps them to, which was refused together with other options",
        is_it: |spec, it| it.fact == MADE && it.now == "yes" && volumes::has_ids(spec),
    },
    Intended {
        reason: "user namespaces have as many ranges as the spec gives, and can be joined together with others",
        is_it: |spec, it| {
            let namespaces = spec.config["linux"]["namespaces"].as_array();
            let has_user =
                namespaces.is_some_and(|all| all.iter().any(|it: &Value| it["type"] == "user"));
            has_user && it.is_made_now(&["namespace"]) || it.is_made_now(&["saved set gid"])
        },
    },
];

impl Difference {
    /// Where it is, of a mount.
    fn place(&self) -> Option<&str> {
        self.fact.strip_prefix("mount ")
    }

    /// The path, of a file.
    fn file(&self) -> Option<&str> {
        self.fact.strip_prefix("file ")
    }

    /// Whether it is a container that was refused, with one of these words in the reason.
    fn is_made_now(&self, reasons: &[&str]) -> bool {
        self.fact == MADE && self.now == "yes" && reasons.iter().any(|it| self.before.contains(it))
    }
}

/// Why a difference of that spec is meant, if it is.
pub fn reason(spec: &Spec, difference: &Difference) -> Option<&'static str> {
    INTENDED.iter().find(|it| (it.is_it)(spec, difference)).map(|it| it.reason)
}

#[cfg(test)]
mod test {
    use super::*;
    use serde_json::json;

    fn is_intended(config: Value, fact: &str, before: &str, now: &str) -> bool {
        let [fact, before, now] = [fact, before, now].map(str::to_owned);
        reason(&Spec { number: 0, config }, &Difference { fact, before, now }).is_some()
    }

    #[test]
    fn nothing_that_a_process_gains_is_meant() {
        let volume =
            json!({ "mounts": [{ "destination": "/data", "type": "bind", "options": ["rbind"] }] });
        for (fact, before, now) in [
            ("mount /data", "/a nodev,ro [] ext4", "/a ro [] ext4"),
            ("mount /data", "/a ro [] ext4", "/a nodev,rw [] ext4"),
            ("mount /data", "/a rw [] ext4", "/a nodev,rw [shared] ext4"),
            ("mount /data", "/a rw [] ext4", "/b nodev,rw [] ext4"),
            ("mount /data", "/a rw [] ext4", NONE),
            ("mount /etc", NONE, "/etc nodev,ro [] ext4"),
            ("mount /more", NONE, "/a nodev,rw [] ext4"),
            ("file /dev/sda", NONE, "device 8:0 660 0:0"),
            ("CapEff", "0", "400"),
            ("NoNewPrivs", "1", "0"),
            ("cgroup devices devices.list", "c 1:3 rwm", "c 1:3 rwm, b 8:0 rwm"),
            ("session keyring", "its own", "the node's"),
            ("open /etc r", NONE, "yes"),
            (MADE, "cannot mount \"/data\"", "yes"),
            (MADE, "yes", "cannot mount \"/data\""),
        ] {
            assert!(!is_intended(volume.clone(), fact, before, now), "{fact}: {before}, now {now}");
        }
    }

    #[test]
    fn a_mount_with_more_bounds_and_its_own_propagation_is_meant() {
        let volume = |option: &str| json!({ "mounts": [{ "destination": "/link/below", "type": "bind", "options": ["rbind", option] }] });
        for (option, before, now) in [
            ("ro", "/a ro [] ext4", "/a nodev,ro [] ext4"),
            (
                "rw",
                "/a rw [shared] ext4 | /b rw [shared] ext4",
                "/a nodev,rw [] ext4 | /b nodev,rw [] ext4",
            ),
            ("rslave", "/a rw [] ext4", "/a nodev,rw [master] ext4"),
        ] {
            assert!(
                is_intended(volume(option), "mount /data/below", before, now),
                "{option}: {now}"
            );
        }
    }
}
