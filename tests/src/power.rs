//! The power of a node, which can be cut: its processes end, and its disk keeps only what was written to it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::containerd::Containerd;
use crate::disk::Disk;
use crate::installer::REQUEST;
use crate::{Node, command};

/// The disk of a node, in a file without a name.
#[derive(Debug)]
pub struct Power {
    folder: PathBuf,
    file: Mutex<File>,
}

/// Size of the disk: room for both versions of the shim and some images.
const BYTES: u64 = 1 << 30;

/// Options of mount(8) with which an ext4 keeps the least of what was not synchronised: it does not write a file at once
/// that takes the place of another. It writes to its journal every second, so that cuts leave many different states.
const LOSING: &str = "loop,noauto_da_alloc,commit=1";

/// Ends an ext4 without writing its journal: `ioctl` with EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH (Linux,
/// fs/ext4/ext4.h). Perl is on each Debian, and this crate has no unsafe code.
const SHUT_DOWN: &str = r#"
    my $flags = pack("L", 2);
    open(my $folder, "<", $ARGV[0]) or die "$ARGV[0]: $!\n";
    ioctl($folder, 0x8004587D, $flags) or die "$ARGV[0]: $!\n";
"#;

/// What a node would keep in memory, in its directory.
const VOLATILE: [&str; 2] = ["state", REQUEST];

/// Interval between looks for processes that have been started meanwhile.
const INTERVAL: Duration = Duration::from_millis(20);

impl Power {
    /// Makes a disk, and mounts it over a directory.
    fn mount(folder: &Path) -> Result<(Disk, Self)> {
        let file = tempfile::tempfile().context("make a disk")?;
        file.set_len(BYTES)?;
        command::run("mke2fs", ["-q", "-F", "-t", "ext4", &path(&file)])?.success()?;
        mount_file(&file, folder)?;
        Ok((Disk::over(folder), Self { folder: folder.to_owned(), file: Mutex::new(file) }))
    }

    /// From now on, each access to the disk is an error, and nothing is written to it.
    fn cut(&self) -> Result<()> {
        let folder = self.folder.display().to_string();
        let cut = command::run("perl", ["-e", SHUT_DOWN, &folder])?.success();
        cut.map(drop).context("cut the power")
    }

    /// Mounts the disk as it was when the power was cut. The old mount must no longer be in the directory. It may still
    /// be in other mount namespaces, and so this is another disk with the same bytes.
    fn restore(&self) -> Result<()> {
        let (mut file, copy) = (self.file(), tempfile::tempfile()?);
        command::run("cp", ["--sparse=always", &path(&file), &path(&copy)])?.success()?;
        mount_file(&copy, &self.folder)?;
        *file = copy;
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().expect("no thread panics while holding the file")
    }
}

fn mount_file(file: &File, folder: &Path) -> Result<()> {
    let words = ["-t", "ext4", "-o", LOSING, &path(file), &folder.display().to_string()];
    command::run("mount", words)?.success().map(drop).context("mount a disk")
}

/// Returns the path by which another program opens a file of this process.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}

impl Node {
    /// As [`Node::start`], with power that can be cut.
    pub fn start_with_power(containerd: Containerd) -> Result<Self> {
        let mut power = None;
        let disk = |folder: &Path| {
            let (disk, of_disk) = Power::mount(folder)?;
            power = Some(of_disk);
            Ok(Some(disk))
        };
        let mut node = Self::start_on(containerd, disk, str::to_owned)?;
        node.power = power;
        Ok(node)
    }

    /// Cuts the power while it does some work, once `moment` returns. The work must not end before that, and must fail
    /// from then on. Afterwards the disk is there again, and nothing runs.
    pub fn cut_power(
        &self,
        work: impl FnOnce() -> Result<()> + Send,
        moment: impl FnOnce(),
    ) -> Result<()> {
        let power = self.power.as_ref().context("the node was started without power")?;
        thread::scope(|scope| {
            let working = scope.spawn(work);
            moment();
            if working.is_finished() {
                return working.join().expect("no panic").context("before the power was cut");
            }
            self.traces.watch_logged();
            let cut = power.cut();
            while !working.is_finished() {
                self.forget_containerd();
                self.traces.end_processes();
                thread::sleep(INTERVAL);
            }
            cut
        })?;
        self.forget_containerd();
        self.traces.wipe_volatile();
        power.restore()?;
        for name in VOLATILE {
            command::run("rm", [Path::new("-rf"), &self.folder().join(name)])?.success()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};

    use super::*;

    #[test]
    fn a_disk_has_after_a_power_cut_what_was_synchronised() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let in_folder = |name| folder.path().join(name);
        let (disk, power) = Power::mount(folder.path())?;
        fs::write(in_folder("kept"), "text")?;
        File::open(in_folder("kept"))?.sync_all()?;
        fs::write(in_folder("lost"), "text")?;
        power.cut()?;
        let late = fs::write(in_folder("late"), "text");
        umount2(folder.path(), MntFlags::MNT_DETACH)?;
        power.restore()?;
        let (kept, lost) = (fs::read_to_string(in_folder("kept")), fs::read(in_folder("lost")));
        disk.unmount()?;
        assert_eq!(late.map_err(|error| error.raw_os_error()), Err(Some(Errno::EIO as i32)));
        assert_eq!(kept?, "text");
        // At most its name is there.
        assert!(lost.is_err() || lost.is_ok_and(|text| text.is_empty()));
        Ok(())
    }
}
