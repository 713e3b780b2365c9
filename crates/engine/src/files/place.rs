//! Finds what a path leads to, through links that Wasmtime does not follow.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use grants::{Access, FileGrant};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::fstat;
use nix::unistd::symlinkat;
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::Dir;

use super::granted::open_at;
use crate::blocking::blocking;
use crate::guard::Guard;

/// The number of links that are followed in one path, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;

/// A directory of a guest from which a path starts.
pub struct Start {
    /// The directory.
    pub dir: Dir,
    /// Whether the caller's thread may block.
    pub sequential: bool,
    /// If only some directories are granted, what reports a path that leads out of them.
    pub granted: Option<Arc<Guard>>,
}

impl Start {
    /// The directory that has what `path` leads to, and its name there. With `follows` that name is not a link. It need not
    /// exist.
    ///
    /// # Errors
    /// EPERM for a path that leads out of the directory without a link, as in Wasmtime, and for every path that is not granted
    /// if only some directories are granted; of openat2(2) and readlinkat(2).
    pub async fn find(self, path: &str, follows: bool) -> io::Result<(Dir, String)> {
        let Dir { perms, open_mode, .. } = self.dir;
        let sequential = self.sequential;
        if self.granted.is_some() {
            // If this path is granted, the call is made again with it as it is: another one may not be, or the kernel refuses.
            let dir = self.dir.clone();
            self.check_granted(path, follows).await?;
            return Ok((dir, path.to_owned()));
        }
        let (directory, name) = self.at(path, follows, Ok).await?;
        Ok((Dir::new(directory, perms, open_mode, sequential), name))
    }

    /// The target of the link at `path`.
    ///
    /// # Errors
    /// As [`Start::find`].
    pub async fn read_link(self, path: &str) -> io::Result<String> {
        let read = |(directory, name): (File, String)| {
            let target = readlinkat(directory, name.as_str())?;
            target.into_string().map_err(|_| Errno::EILSEQ.into())
        };
        self.at(path, false, read).await
    }

    /// Makes a link to `target` at `path`.
    ///
    /// # Errors
    /// As [`Start::find`], and of symlinkat(2).
    pub async fn make_link(self, target: String, path: &str) -> io::Result<()> {
        let make = move |(directory, name): (File, String)| {
            Ok(symlinkat(target.as_str(), directory, name.as_str())?)
        };
        self.at(path, false, make).await
    }

    async fn at<T: Send + 'static>(
        self,
        path: &str,
        follows: bool,
        then: impl FnOnce((File, String)) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if let Some(guard) = self.granted.clone() {
            let shown = shown(guard.files(), &self.dir, path);
            self.check_granted(path, follows).await?;
            // The path is granted, so that the link is absolute.
            guard.refuses_to_leave(&shown);
            return Err(Errno::EPERM.into());
        }
        if !is_within(path) {
            return Err(Errno::EPERM.into());
        }
        let (start, path): (Arc<File>, _) = (self.dir.dir, path.to_owned());
        let look = move || then(resolve(&start, path, follows)?);
        blocking(self.sequential, look).await.map_err(io::Error::other)?
    }

    /// Checks a path of a call that Wasmtime has refused, if only some directories are granted, and reports why it is not
    /// granted.
    async fn check_granted(self, path: &str, follows: bool) -> io::Result<()> {
        let Some(guard) = self.granted else { return Ok(()) };
        let (dir, path) = (self.dir, path.to_owned());
        let check = move || {
            if leads_out(&dir.dir, &path, follows) {
                guard.refuses_to_leave(&shown(guard.files(), &dir, &path));
            } else if dir.perms == FsPerms::ReadOnly {
                guard.refuses_to_change(&shown(guard.files(), &dir, &path));
            } else {
                return Ok(());
            }
            Err(Errno::EPERM.into())
        };
        blocking(self.sequential, check).await.map_err(io::Error::other)?
    }
}

/// Whether a path leads out of its directory, by itself or by a link.
fn leads_out(directory: &File, path: &str, follows: bool) -> bool {
    let end = if follows { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | end)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    !is_within(path) || openat2(directory, path, how).err() == Some(Errno::EXDEV)
}

/// A path as a reader of the log knows it: from the granted directory in which its own directory is. A guest has no `/proc`,
/// by which the kernel would say what is between the two.
fn shown(granted: &[FileGrant], directory: &Dir, path: &str) -> PathBuf {
    let is_alike =
        |it: &&FileGrant| (it.access == Access::Read) == (directory.perms == FsPerms::ReadOnly);
    let id = |file: &dyn AsFd| fstat(file.as_fd()).ok().map(|it| (it.st_dev, it.st_ino));
    let opened = |it: &FileGrant| id(&open_at(&it.path).ok()?);
    let granted: Vec<_> =
        granted.iter().filter(is_alike).map(|it| (opened(it), it.path.as_path())).collect();
    let mut own = directory.dir.as_fd().try_clone_to_owned();
    for depth in 0..LINKS {
        let Ok(current) = own else { break };
        let current_id = id(&current);
        let found = granted.iter().find(|(id, _)| id.is_some() && *id == current_id);
        match found {
            Some((_, granted)) if depth == 0 => return granted.join(path),
            Some((_, granted)) => return granted.join("…").join(path),
            None => own = open(&current, ".."),
        }
    }
    path.into()
}

/// Whether a path stays below the directory that it starts from, if none of its names is a link.
fn is_within(path: &str) -> bool {
    let mut depth = 0usize;
    Path::new(path).components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::ParentDir => {
            depth = depth.wrapping_sub(1);
            depth != usize::MAX
        }
        Component::CurDir => true,
        Component::RootDir | Component::Prefix(_) => false,
    })
}

fn resolve(start: &File, path: String, follows: bool) -> io::Result<(File, String)> {
    let mut directory = start.as_fd().try_clone_to_owned()?;
    // A slash at the end means a directory, or one to be made; a link there is followed.
    let (mut path, end) = match path.trim_end_matches('/') {
        "" => (path, ""),
        shorter if shorter.len() < path.len() => (shorter.to_owned(), "/"),
        _ => (path, ""),
    };
    for _ in 0..LINKS {
        let (parent, name) = split(&path);
        directory = open(&directory, parent)?;
        let target = if follows || end == "/" { link(&directory, name)? } else { None };
        match target {
            Some(target) => path = target,
            None => return Ok((directory.into(), format!("{name}{end}"))),
        }
    }
    Err(Errno::ELOOP.into())
}

/// The directory of a path's last name, and that name. If the last name is not a plain one, the path is the directory.
fn split(path: &str) -> (&str, &str) {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    match name {
        "" | "." | ".." => (path, "."),
        _ if parent.is_empty() => ("/", name),
        _ => (parent, name),
    }
}

/// Opens a directory as the kernel resolves its path, within the root of the process. Magic links, as in `/proc`, are
/// refused, because they can lead out of that root.
fn open(directory: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(directory, path, how).map_err(|error| match error {
        // Before Linux 5.6 the call stays refused.
        Errno::ENOSYS => Errno::EPERM.into(),
        error => error.into(),
    })
}

/// The target of a link; none if there is no link of that name.
fn link(directory: &OwnedFd, name: &str) -> io::Result<Option<String>> {
    match readlinkat(directory, name) {
        Ok(target) => target.into_string().map(Some).map_err(|_| Errno::EILSEQ.into()),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::filesystem::OpenMode;

    use super::*;

    #[test]
    fn a_path_that_climbs_out_without_a_link_is_not_within() {
        for path in ["a", "a/../b", "./a/b/../..", "", "a//b/"] {
            assert!(is_within(path), "{path}");
        }
        for path in ["/a", "..", "a/../..", "a/../../a"] {
            assert!(!is_within(path), "{path}");
        }
    }

    #[test]
    fn a_path_leads_out_by_itself_or_by_a_link_and_not_because_it_is_not_there() {
        let volume = tempfile::tempdir().expect("a directory");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, volume.path().join(name)).expect("linked");
        };
        std::fs::create_dir(volume.path().join("below")).expect("made");
        std::fs::write(volume.path().join("file"), "").expect("written");
        link("../file", "below/within");
        link("../out", "out");
        link("/etc/hosts", "absolute");
        link("/", "root");
        let directory = File::open(volume.path()).expect("is opened");
        for path in ["file", "below/within", "new", "below/../file", "missing/new"] {
            assert!(!leads_out(&directory, path, true), "{path}");
        }
        for path in ["../x", "/x", "below/../../x", "out", "absolute", "root/etc"] {
            assert!(leads_out(&directory, path, true), "{path}");
        }
        // A link that is not followed, such as one that is removed.
        assert!(!leads_out(&directory, "absolute", false));
    }

    #[test]
    fn a_path_is_shown_from_the_granted_directory_that_has_it() {
        let volume = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(volume.path().join("a/b")).expect("made");
        let at = |path: &str, perms| {
            let file = File::open(volume.path().join(path)).expect("is opened");
            Dir::new(file, perms, OpenMode::READ, true)
        };
        let grant = |access| [FileGrant { path: volume.path().to_owned(), access }];
        let (fixed, granted) = (FsPerms::ReadOnly, grant(Access::Read));
        assert_eq!(shown(&granted, &at("", fixed), "../x"), volume.path().join("../x"));
        assert_eq!(shown(&granted, &at("a/b", fixed), "x"), volume.path().join("…/x"));
        // The same directory may be granted at another path, too.
        let other = grant(Access::Write);
        assert_eq!(shown(&other, &at("", fixed), "x"), Path::new("x"));
    }

    #[test]
    fn the_last_name_is_apart_from_its_directory() {
        for (path, expected) in [
            ("a", (".", "a")),
            ("a/b/c", ("a/b", "c")),
            ("/a", ("/", "a")),
            ("a/", ("a/", ".")),
            ("a/..", ("a/..", ".")),
            ("/", ("/", ".")),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }
}
