//! Options of mounts (OCI runtime spec, "Linux mount options"; mount(8), mount_setattr(2)).

use nix::libc;
use nix::mount::MsFlags;

use crate::syscalls::{Attributes, UNCHANGED};

/// An option that is not an attribute of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Binds a path, without the mounts below it.
    Bind,
    /// Binds a path, with the mounts below it.
    BindRecursive,
    /// Maps the ids of the mount.
    IdMap,
    /// Maps the ids of the mount and of the mounts below it.
    IdMapRecursive,
    /// Copies the files of the directory to the file system in memory that is mounted on it.
    CopyUp,
}

/// Options of a mount, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    words: Vec<Word>,
    /// Attributes of the mount, each with whether it is set or cleared.
    own: Vec<(Attribute, bool)>,
    /// Attributes of the mount and of the mounts below it.
    below: Vec<(Attribute, bool)>,
    /// Propagation type, and whether it applies to the mounts below, too.
    propagation: Option<(MsFlags, bool)>,
    /// Flags of the file system.
    of_file_system: MsFlags,
    /// Options of the file system itself.
    pub data: Vec<String>,
}

/// An attribute: its flags of mount_setattr(2) and of mount(2).
type Attribute = (u64, MsFlags);

const RDONLY: Attribute = (libc::MOUNT_ATTR_RDONLY, MsFlags::MS_RDONLY);
const NOSUID: Attribute = (libc::MOUNT_ATTR_NOSUID, MsFlags::MS_NOSUID);
const NODEV: Attribute = (libc::MOUNT_ATTR_NODEV, MsFlags::MS_NODEV);
const NOEXEC: Attribute = (libc::MOUNT_ATTR_NOEXEC, MsFlags::MS_NOEXEC);
const NOATIME: Attribute = (libc::MOUNT_ATTR_NOATIME, MsFlags::MS_NOATIME);
const STRICTATIME: Attribute = (libc::MOUNT_ATTR_STRICTATIME, MsFlags::MS_STRICTATIME);
const RELATIME: Attribute = (libc::MOUNT_ATTR_RELATIME, MsFlags::MS_RELATIME);
const NODIRATIME: Attribute = (libc::MOUNT_ATTR_NODIRATIME, MsFlags::MS_NODIRATIME);
/// The flag of mount(2) is `MS_NOSYMFOLLOW` (Linux 5.10), which nix does not have.
const NOSYMFOLLOW: Attribute = (libc::MOUNT_ATTR_NOSYMFOLLOW, MsFlags::from_bits_retain(1 << 8));

/// Names, their attributes, and whether the name sets or clears the attribute. With the prefix `r` it is recursive.
const ATTRIBUTES: [(&str, Attribute, bool); 18] = [
    ("ro", RDONLY, true),
    ("rw", RDONLY, false),
    ("nosuid", NOSUID, true),
    ("suid", NOSUID, false),
    ("nodev", NODEV, true),
    ("dev", NODEV, false),
    ("noexec", NOEXEC, true),
    ("exec", NOEXEC, false),
    ("noatime", NOATIME, true),
    ("atime", NOATIME, false),
    ("strictatime", STRICTATIME, true),
    ("nostrictatime", STRICTATIME, false),
    ("relatime", RELATIME, true),
    ("norelatime", RELATIME, false),
    ("nodiratime", NODIRATIME, true),
    ("diratime", NODIRATIME, false),
    ("nosymfollow", NOSYMFOLLOW, true),
    ("symfollow", NOSYMFOLLOW, false),
];

const PROPAGATION: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

const OF_FILE_SYSTEMS: [(&str, MsFlags, bool); 5] = [
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("mand", MsFlags::MS_MANDLOCK, true),
    ("nomand", MsFlags::MS_MANDLOCK, false),
];

const WORDS: [(&str, Word); 5] = [
    ("bind", Word::Bind),
    ("rbind", Word::BindRecursive),
    ("idmap", Word::IdMap),
    ("ridmap", Word::IdMapRecursive),
    ("tmpcopyup", Word::CopyUp),
];

impl Options {
    /// Parses the options of the spec. Unknown options are passed to the file system.
    pub fn parse(names: &[String]) -> Options {
        let mut options = Options {
            words: Vec::new(),
            own: Vec::new(),
            below: Vec::new(),
            propagation: None,
            of_file_system: MsFlags::empty(),
            data: Vec::new(),
        };
        for name in names.iter().filter(|name| !matches!(name.as_str(), "" | "defaults")) {
            options.add(name);
        }
        options
    }

    fn add(&mut self, name: &str) {
        let recursive = name.strip_prefix('r').unwrap_or_default();
        let attribute = |name: &str| ATTRIBUTES.iter().find(|(it, ..)| *it == name);
        let propagation = |name: &str| PROPAGATION.iter().find(|(it, _)| *it == name);
        if let Some((_, word)) = WORDS.iter().find(|(it, _)| *it == name) {
            self.words.push(*word);
        } else if let Some((_, attribute, set)) = attribute(name) {
            self.own.push((*attribute, *set));
        } else if let Some((_, attribute, set)) = attribute(recursive) {
            self.below.push((*attribute, *set));
        } else if let Some((_, flag)) = propagation(name) {
            self.propagation = Some((*flag, false));
        } else if let Some((_, flag)) = propagation(recursive) {
            self.propagation = Some((*flag, true));
        } else if let Some((_, flag, set)) = OF_FILE_SYSTEMS.iter().find(|(it, ..)| *it == name) {
            self.of_file_system.set(*flag, *set);
        } else {
            self.data.push(name.to_owned());
        }
    }

    /// Whether the options have that word.
    pub fn has(&self, word: Word) -> bool {
        self.words.contains(&word)
    }

    /// Whether a path is bound.
    pub fn is_bind(&self) -> bool {
        self.has(Word::Bind) || self.is_recursive()
    }

    /// Whether a path is bound with the mounts below it.
    pub fn is_recursive(&self) -> bool {
        self.has(Word::BindRecursive)
    }

    /// Whether attributes of the mounts below are changed.
    pub fn is_recursively_changed(&self) -> bool {
        !self.below.is_empty()
    }

    /// Changes of the mount of a path, in their order, each with whether it applies to the mounts below, too. The propagation is
    /// private unless the options say otherwise. `of_root` bounds it: the mounts first have that propagation type, so that they
    /// receive and pass on no more than the root does. `nodev` is always set, because a guest must not open devices.
    pub fn attributes(&self, of_root: MsFlags) -> [(bool, Attributes); 4] {
        let mut own = changes(self.own.iter());
        // Other attributes of the source's mount are kept.
        own.attr_clr &= libc::MOUNT_ATTR__ATIME;
        let mut below = changes(self.below.iter());
        below.attr_set |= libc::MOUNT_ATTR_NODEV;
        below.attr_clr &= !libc::MOUNT_ATTR_NODEV;
        let (propagation, is_recursive) = match self.propagation() {
            // It could not be mounted in a shared one then: see `Volume::attach`.
            (MsFlags::MS_UNBINDABLE, is_recursive) => (MsFlags::MS_PRIVATE, is_recursive),
            other => other,
        };
        let change = |kind: MsFlags| Attributes { propagation: kind.bits(), ..UNCHANGED };
        [(false, own), (true, below), (true, change(of_root)), (is_recursive, change(propagation))]
    }

    /// Change that makes an attached mount unbindable, if the options ask for it.
    pub fn unbindable(&self) -> Option<Attributes> {
        let is_it = self.propagation().0 == MsFlags::MS_UNBINDABLE;
        is_it.then_some(Attributes { propagation: libc::MS_UNBINDABLE, ..UNCHANGED })
    }

    /// Propagation type, and whether it applies to the mounts below, too. Only `shared` can apply to the mount alone, because
    /// a mount below one that is private or a slave must not stay a peer of the host's.
    pub fn propagation(&self) -> (MsFlags, bool) {
        let (kind, is_recursive) = self.propagation.unwrap_or((MsFlags::MS_PRIVATE, true));
        (kind, is_recursive || kind != MsFlags::MS_SHARED)
    }

    /// Flags of mount(2).
    pub fn flags(&self) -> MsFlags {
        let mut flags = self.of_file_system;
        for ((_, flag), set) in self.own.iter().chain(&self.below) {
            flags.set(*flag, *set);
        }
        flags
    }
}

fn changes<'a>(attributes: impl Iterator<Item = &'a (Attribute, bool)>) -> Attributes {
    const OF_TIME: [u64; 3] =
        [libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR_RELATIME];
    let mut changes = UNCHANGED;
    for ((attribute, _), set) in attributes {
        match set {
            // Only one of these values may be set, so the others must be cleared (mount_setattr(2)).
            _ if OF_TIME.contains(attribute) => {
                changes.attr_clr |= libc::MOUNT_ATTR__ATIME;
                changes.attr_set &= !libc::MOUNT_ATTR__ATIME;
                changes.attr_set |= if *set { *attribute } else { libc::MOUNT_ATTR_RELATIME };
            }
            true => {
                changes.attr_set |= attribute;
                changes.attr_clr &= !attribute;
            }
            false => {
                changes.attr_clr |= attribute;
                changes.attr_set &= !attribute;
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(names: &[&str]) -> Options {
        Options::parse(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn attributes_are_the_mounts_own_unless_they_are_recursive() {
        let [(_, own), (_, below), ..] =
            options(&["rbind", "ro", "nosuid", "rnoexec"]).attributes(MsFlags::MS_SLAVE);
        assert_eq!(own.attr_set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID);
        assert_eq!(below.attr_set, libc::MOUNT_ATTR_NOEXEC | libc::MOUNT_ATTR_NODEV);
        let [(_, own), (_, below), ..] = options(&["rbind", "rro"]).attributes(MsFlags::MS_SLAVE);
        assert_eq!(own.attr_set, 0);
        assert_eq!(below.attr_set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV);
    }

    #[test]
    fn no_option_lets_devices_be_opened() {
        for name in ["dev", "rdev", "rw"] {
            let [_, (recursive, below), ..] =
                options(&["rbind", name]).attributes(MsFlags::MS_SLAVE);
            assert!(recursive, "{name}");
            assert_eq!(below.attr_set & libc::MOUNT_ATTR_NODEV, libc::MOUNT_ATTR_NODEV, "{name}");
            assert_eq!(below.attr_clr & libc::MOUNT_ATTR_NODEV, 0, "{name}");
        }
    }

    #[test]
    fn propagation_is_private_unless_the_mount_says_otherwise() {
        let of = |name: &str| {
            let [_, _, _, (recursive, change)] =
                options(&["rbind", name]).attributes(MsFlags::MS_SLAVE);
            (recursive, MsFlags::from_bits_retain(change.propagation))
        };
        assert_eq!(of("ro"), (true, MsFlags::MS_PRIVATE));
        assert_eq!(of("rslave"), (true, MsFlags::MS_SLAVE));
        assert_eq!(of("shared"), (false, MsFlags::MS_SHARED));
        assert_eq!(of("rprivate"), (true, MsFlags::MS_PRIVATE));
        assert_eq!(of("private"), (true, MsFlags::MS_PRIVATE));
        assert_eq!(of("slave"), (true, MsFlags::MS_SLAVE));
    }

    #[test]
    fn no_option_of_a_mount_comes_before_the_roots_propagation() {
        for name in ["rshared", "slave", "rprivate", "ro"] {
            let [_, _, (recursive, first), _] =
                options(&["rbind", name]).attributes(MsFlags::MS_PRIVATE);
            assert!(recursive, "{name}");
            assert_eq!(first.propagation, libc::MS_PRIVATE, "{name}");
        }
    }

    #[test]
    fn a_mount_is_private_until_it_is_attached_and_can_be_unbindable() {
        let options = options(&["rbind", "unbindable"]);
        let [.., (_, change)] = options.attributes(MsFlags::MS_SLAVE);
        assert_eq!(change.propagation, libc::MS_PRIVATE);
        assert_eq!(options.unbindable().map(|it| it.propagation), Some(libc::MS_UNBINDABLE));
    }

    #[test]
    fn access_times_replace_each_other() {
        let [(_, own), ..] = options(&["relatime", "noatime"]).attributes(MsFlags::MS_SLAVE);
        assert_eq!(own.attr_set, libc::MOUNT_ATTR_NOATIME);
        assert_eq!(own.attr_clr, libc::MOUNT_ATTR__ATIME);
        assert_eq!(options(&["strictatime"]).flags(), MsFlags::MS_STRICTATIME);
    }

    #[test]
    fn an_unknown_option_is_passed_to_the_file_system() {
        let options = options(&["defaults", "nosuid", "size=64k", "mode=755"]);
        assert_eq!(options.data, ["size=64k", "mode=755"]);
        assert_eq!(options.flags(), MsFlags::MS_NOSUID);
        assert!(!options.is_bind());
    }
}
