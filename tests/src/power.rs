//! The power of a node, which can be cut: its processes end, and its disk keeps only what was written to it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::containerd::Containerd;
use crate::disk::Disk;
use crate::installer::REQUEST;
use crate::{Node, command, figure};

/// Size of the disk: room for both versions of the shim and some images.
const BYTES: u64 = 1 << 30;

/// Options of mount(8) with which an ext4 keeps the least. With `noauto_da_alloc`, a file that was renamed over another and
/// not synchronised can be empty. With `commit=1`, the journal is written every second, so that cuts leave many different
/// states.
const LOSING: &str = "loop,noauto_da_alloc,commit=1";

/// Shuts an ext4 down without flushing its journal: `ioctl` with EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH (Linux,
/// fs/ext4/ext4.h). Perl is on each Debian, and this crate has no unsafe code.
const SHUT_DOWN: &str = r#"
    my $flags = pack("L", 2);
    open(my $directory, "<", $ARGV[0]) or die "$ARGV[0]: $!\n";
    ioctl($directory, 0x8004587D, $flags) or die "$ARGV[0]: $!\n";
"#;

/// Interval between searches for processes, while the work of a node ends.
const INTERVAL: Duration = Duration::from_millis(20);

/// Returns whether this machine has loop devices, by which a file is mounted. Those who test in a container may have none.
pub fn can_be_cut() -> Result<bool> {
    let can = Path::new("/dev/loop-control").exists();
    if !can {
        figure::note("there are no loop devices here, so that no power is cut")?;
    }
    Ok(can)
}

impl Disk {
    /// Mounts an ext4 in a file without a name over a directory.
    fn in_file(directory: &Path) -> Result<Self> {
        let file = tempfile::tempfile().context("make a disk")?;
        file.set_len(BYTES)?;
        command::run("mke2fs", ["-q", "-F", "-t", "ext4", &path(&file)])?.success()?;
        mount(&file, directory)?;
        Ok(Self { directory: directory.to_owned(), file: Some(Mutex::new(file)) })
    }

    /// Writes everything to it, as on a node that has been idle for long.
    pub fn synchronise(&self) -> Result<()> {
        Ok(nix::unistd::syncfs(File::open(&self.directory)?)?)
    }

    /// From now on, each access to it is an error, and nothing is written to it.
    fn cut(&self) -> Result<()> {
        let directory = self.directory.display().to_string();
        let cut = command::run("perl", ["-e", SHUT_DOWN, &directory])?.success();
        cut.map(drop).context("cut the power")
    }

    /// Mounts it as it was when the power was cut. The old mount must no longer be in the directory. It may still be in other
    /// mount namespaces, and so this is another file system with the same bytes.
    fn restore(&self) -> Result<()> {
        let (mut file, copy) = (self.file()?, tempfile::tempfile()?);
        command::run("cp", ["--sparse=always", &path(&file), &path(&copy)])?.success()?;
        mount(&copy, &self.directory)?;
        *file = copy;
        Ok(())
    }

    fn file(&self) -> Result<MutexGuard<'_, File>> {
        let file = self.file.as_ref().context("this disk is in memory")?;
        Ok(file.lock().expect("no thread panics while holding the file"))
    }
}

fn mount(file: &File, directory: &Path) -> Result<()> {
    let words = ["-t", "ext4", "-o", LOSING, &path(file), &directory.display().to_string()];
    command::run("mount", words)?.success().map(drop).context("mount a disk")
}

/// Returns the path by which another program opens a file of this process.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}

impl Node {
    /// As [`Node::start`], with power that can be cut.
    pub fn start_with_power(containerd: Containerd) -> Result<Self> {
        Self::start_on(containerd, |directory| Disk::in_file(directory).map(Some), str::to_owned)
    }

    /// Cuts the power while it does some work. `moment` waits for the moment, and returns whether it came before the work
    /// ended. The work must not end before that, and must fail from then on. Afterwards, the disk is there again, and nothing
    /// runs.
    pub fn cut_power(
        &self,
        work: impl FnOnce() -> Result<()> + Send,
        moment: impl FnOnce() -> bool,
    ) -> Result<()> {
        let disk = self.disk().context("the node was started without power")?;
        thread::scope(|scope| {
            let working = scope.spawn(work);
            if !moment() || working.is_finished() {
                working.join().expect("no panic").context("before the power was cut")?;
                bail!("the work ended before the power was cut");
            }
            self.traces.watch_logged();
            let cut = disk.cut();
            // Each of its calls has a time limit.
            while !working.is_finished() {
                self.forget_containerd();
                self.traces.end_processes();
                thread::sleep(INTERVAL);
            }
            cut?;
            ensure!(working.join().expect("no panic").is_err(), "the work went on without power");
            Ok(())
        })?;
        self.forget_containerd();
        self.traces.wipe_running()?;
        disk.restore()?;
        // What a node has in memory, and what a test has asked for.
        fs::remove_dir_all(self.folder().join("state")).context("remove containerd's state")?;
        let request = self.folder().join(REQUEST);
        if request.exists() { Ok(fs::remove_file(request)?) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::mount::{MntFlags, umount2};

    use super::*;

    #[test]
    fn a_disk_has_after_a_power_cut_what_was_synchronised() -> Result<()> {
        if !can_be_cut()? {
            return Ok(());
        }
        let directory = tempfile::tempdir()?;
        let in_directory = |name| directory.path().join(name);
        let disk = Disk::in_file(directory.path())?;
        fs::write(in_directory("kept"), "text")?;
        File::open(in_directory("kept"))?.sync_all()?;
        fs::write(in_directory("lost"), "text")?;
        disk.cut()?;
        let late = fs::write(in_directory("late"), "text");
        umount2(directory.path(), MntFlags::MNT_DETACH)?;
        disk.restore()?;
        let (kept, lost) =
            (fs::read_to_string(in_directory("kept")), fs::read(in_directory("lost")));
        disk.unmount()?;
        assert_eq!(late.map_err(|error| error.raw_os_error()), Err(Some(Errno::EIO as i32)));
        assert_eq!(kept?, "text");
        // At most its name is there.
        assert!(lost.is_err() || lost.is_ok_and(|text| text.is_empty()));
        Ok(())
    }
}
