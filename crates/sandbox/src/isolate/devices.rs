//! Device files that every container has in `/dev` (OCI runtime spec, "Default Devices"), if that is a file system of its own.
//! No device file elsewhere in a container's file tree can be opened.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev, mknodat};

use super::errors::{Failed, Step};
use super::table;
use super::targets::Root;
use crate::syscalls;

/// Names, major and minor numbers.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Copies of the host's device files, for containers in a user namespace, where no device nodes can be made.
#[derive(Debug, Default)]
pub struct Devices(Vec<(&'static str, OwnedFd)>);

impl Devices {
    /// Opens the device files of the host.
    pub fn open() -> Result<Devices, Failed> {
        if !table::has_mounts_by_descriptor() {
            let step = Step::Spec("a user namespace".into());
            return Err(Failed::new(step, "this takes Linux 5.12"));
        }
        let open = |(name, ..): (&'static str, u64, u64)| {
            let tree = syscalls::open_tree(&Path::new("/dev").join(name), false);
            let tree = tree.and_then(|tree| {
                let private = libc::MS_PRIVATE;
                let change = syscalls::Attributes { propagation: private, ..syscalls::UNCHANGED };
                syscalls::set_attributes(tree.as_fd(), false, &change).map(|()| tree)
            });
            tree.map(|tree| (name, tree)).map_err(Failed::at(Step::Device(path(name))))
        };
        DEVICES.into_iter().map(open).collect::<Result<_, _>>().map(Devices)
    }

    /// Makes the device files in the container's `/dev`. To be called with a umask of 0.
    pub fn make(&self, root: Root<'_>) -> Result<(), Failed> {
        let failed = |name: &str| Failed::at::<nix::Error>(Step::Device(path(name)));
        if !self.0.is_empty() {
            return self.0.iter().try_for_each(|(name, tree)| {
                let target = root.file(&Path::new("/dev").join(name));
                let attached = target.and_then(|it| syscalls::attach(tree.as_fd(), it.as_fd()));
                attached.map_err(failed(name))
            });
        }
        let directory = root.directory(Path::new("/dev")).map_err(failed(""))?;
        let mode = Mode::from_bits_truncate(0o666);
        DEVICES.into_iter().try_for_each(|(name, major, minor)| {
            mknodat(&directory, name, SFlag::S_IFCHR, mode, makedev(major, minor))
                .map_err(failed(name))
        })
    }
}

fn path(name: &str) -> String {
    format!("/dev/{name}")
}
