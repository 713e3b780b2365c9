//! The mounts of a process, each in one line that does not depend on the machine (proc(5), `mountinfo`).

use std::collections::BTreeMap;

/// Options of tmpfs that say how much it holds and whose it is.
const OF_TMPFS: [&str; 5] = ["size", "mode", "uid", "gid", "nr_inodes"];

/// What can be seen of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// How many mounts it is on.
    pub depth: usize,
    /// What of its file system is mounted.
    pub root: String,
    /// Its own options.
    pub options: Vec<String>,
    /// Whether it passes mounts on, receives them, or neither.
    pub propagation: Vec<String>,
    /// Its file system's type, and options where those are a container's.
    pub kind: String,
}

/// The mounts by where they are; several at one place in the order in which they cover each other. One is `shared` if it has
/// peers in the table `nodes`, and else `shared-within`.
pub fn parse(table: &str, nodes: &str) -> BTreeMap<String, Vec<Mount>> {
    let mut all: BTreeMap<String, Vec<Mount>> = BTreeMap::new();
    let parents = parents(table);
    for line in table.lines() {
        let (own, of_file_system) = line.split_once(" - ").unwrap_or_default();
        let [id, _, _, root, at, options, tags @ ..] = &own.split(' ').collect::<Vec<_>>()[..]
        else {
            continue;
        };
        let mut options: Vec<String> = options.split(',').map(str::to_owned).collect();
        options.sort();
        let has_peer = |tag: &str| nodes.lines().any(|line| line.split(' ').any(|it| it == tag));
        let tags = tags.iter().map(|tag| match tag.split_once(':') {
            Some(("shared", _)) if !has_peer(tag) => "shared-within",
            Some((kind, _)) => kind,
            None => tag,
        });
        let mount = Mount {
            depth: depth(&parents, id),
            root: (*root).to_owned(),
            options,
            propagation: tags.map(str::to_owned).collect(),
            kind: kind(of_file_system),
        };
        all.entry((*at).to_owned()).or_default().push(mount);
    }
    // They are listed as they were made, and not as they were attached.
    all.values_mut().for_each(|mounts| mounts.sort_by_key(|it| it.depth));
    all
}

/// The mounts that others are on, by their ids.
fn parents(table: &str) -> BTreeMap<&str, &str> {
    let ids = table.lines().map(|line| line.split(' '));
    ids.filter_map(|mut fields| Some((fields.next()?, fields.next()?))).collect()
}

fn depth(parents: &BTreeMap<&str, &str>, id: &str) -> usize {
    let below = parents.get(id).filter(|parent| **parent != id);
    below.map_or(0, |parent| 1 + depth(parents, parent))
}

fn kind(of_file_system: &str) -> String {
    let mut fields = of_file_system.split(' ');
    let kind = fields.next().unwrap_or_default();
    let options = fields.nth(1).unwrap_or_default().split(',');
    let kept = options.filter(|it| {
        kind == "tmpfs"
            && (*it == "ro" || OF_TMPFS.contains(&it.split('=').next().unwrap_or_default()))
    });
    [kind].into_iter().chain(kept).collect::<Vec<_>>().join(" ")
}

impl Mount {
    /// In one line.
    pub fn line(&self) -> String {
        let (options, propagation) = (self.options.join(","), self.propagation.join(","));
        format!("{} {options} [{propagation}] {}", self.root, self.kind)
    }

    /// Of such a line what is mounted, the options and the propagation.
    pub fn parts(line: &str) -> Option<(&str, Vec<&str>, Vec<&str>)> {
        let (root, rest) = line.split_once(' ')?;
        let (options, rest) = rest.split_once(" [")?;
        let (propagation, _) = rest.split_once(']')?;
        let propagation = propagation.split(',').filter(|it| !it.is_empty());
        Some((root, options.split(',').collect(), propagation.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_mounts_at_one_place_the_last_is_the_one_that_is_seen() {
        let table = "33 31 0:1 / /a rw - tmpfs tmpfs rw\n30 1 0:2 / / rw - ext4 x rw\n\
            31 30 0:3 /b /a rw - ext4 x rw\n";
        let roots: Vec<_> = parse(table, "")["/a"].iter().map(|it| it.root.clone()).collect();
        assert_eq!(roots, ["/b", "/"]);
    }

    #[test]
    fn a_mount_is_read_with_what_bounds_it() {
        let table = "31 30 0:27 / /tmp rw,nosuid,noexec shared:7 master:3 - tmpfs tmpfs rw,size=64k,mode=755\n\
            32 30 254:0 /a/b /data ro,relatime - ext4 /dev/vda rw,discard\n";
        let all = parse(table, "9 1 0:27 / /other rw shared:7 - tmpfs tmpfs rw");
        assert_eq!(parse(table, "")["/tmp"][0].propagation, ["shared-within", "master"]);
        assert_eq!(
            all["/tmp"][0].line(),
            "/ noexec,nosuid,rw [shared,master] tmpfs size=64k mode=755"
        );
        assert_eq!(all["/data"][0].line(), "/a/b relatime,ro [] ext4");
    }
}
