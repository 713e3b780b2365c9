//! What a guest that failed leaves behind, beside its exit code and the text on stderr: a termination message for
//! `kubectl describe`, and a core dump where one was asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};
use wasmtime::{AsContextMut, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use crate::memory;
use crate::report::tell;

/// How long a termination message may be, in bytes (Kubernetes,
/// [terminationMessagePath](https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)).
const MESSAGE: usize = 4096;

/// A core dump is put together in memory, from which it is written: it takes up to so many times what it holds.
const COPIES: u64 = 3;

/// Where a failure leaves what, as paths in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// The file whose end kubelet shows as the container's termination message.
    pub message: Option<PathBuf>,
    /// The file of a core dump, or the folder for a file `core.NAME`.
    pub core_dump: Option<PathBuf>,
}

impl Remains {
    /// Writes the termination message: what the guest said last, then why it was ended, if it was. What the guest
    /// wrote there itself stays as it is.
    pub fn leave_message(&self, last_lines: &str, failure: Option<&str>) {
        let Some(path) = &self.message else { return };
        let open = OpenOptions::new().append(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
        let written = open.and_then(|mut file| match file.metadata()?.len() {
            0 => file.write_all(message(last_lines, failure.unwrap_or_default()).as_bytes()),
            _ => Ok(()),
        });
        if let Err(error) = written {
            tell(&format!("warning: no termination message: {}: {error}", path.display()));
        }
    }

    /// Writes a core dump of a guest that trapped, the first of this process. Says so, or why not, on stderr.
    pub fn leave_core_dump(&self, name: &str, store: impl AsContextMut, error: &wasmtime::Error) {
        static FIRST: Once = Once::new();
        let Some(path) = &self.core_dump else { return };
        let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return };
        if error.is::<I32Exit>() {
            return;
        }
        FIRST.call_once(|| match write_core_dump(path, name, store, dump) {
            Ok(path) => tell(&format!("core dump: {}", path.display())),
            Err(error) => tell(&format!("warning: no core dump: {}: {error}", path.display())),
        });
    }
}

/// The beginning of the failure is its cause, so the rest of it is cut.
fn message(last_lines: &str, failure: &str) -> String {
    let room = MESSAGE.saturating_sub(last_lines.len());
    let cut = failure.floor_char_boundary(room.min(failure.len()));
    format!("{last_lines}{}", &failure[..cut])
}

fn write_core_dump(
    path: &Path,
    name: &str,
    mut store: impl AsContextMut,
    dump: &WasmCoreDump,
) -> io::Result<PathBuf> {
    let sizes = dump.memories().iter().map(|memory| memory.data_size(&mut store) as u64);
    let size: u64 = sizes.sum();
    if memory::limit().is_some_and(|limit| size * (COPIES + 1) > limit) {
        let text = format!(
            "{size} bytes of linear memory are too much to be copied within resources.limits.memory"
        );
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
    }
    let file_name = Path::new(name).file_name().unwrap_or("guest".as_ref()).to_string_lossy();
    let path = if path.is_dir() { path.join(format!("core.{file_name}")) } else { path.to_owned() };
    // Whoever reads the file finds a whole one, of this failure or of an earlier one.
    let unfinished = path.with_added_extension("unfinished");
    let mut file = own(&unfinished)?;
    let written = file
        .write_all(&dump.serialize(store, name))
        .and_then(|()| std::fs::rename(&unfinished, &path));
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            // Half a dump in a full volume helps nobody.
            let _ = std::fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

/// An empty file of that name for as long as it is open, whoever left it there; an error when another container of
/// the Pod is about to write it, too.
fn own(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
    let file = options.open(path)?;
    file.try_lock()?;
    let (ours, there) = (file.metadata()?.ino(), std::fs::symlink_metadata(path)?.ino());
    if ours != there {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stderr;

    #[test]
    fn a_message_has_the_last_lines_and_the_beginning_of_the_failure() {
        assert_eq!(message("panicked\n", "error: trap"), "panicked\nerror: trap");
        assert_eq!(message("", ""), "");
        let lines = "x".repeat(stderr::KEPT);
        let long = message(&lines, &format!("error: {}", "ä".repeat(4000)));
        assert!(long.len() <= MESSAGE && long.len() > MESSAGE - 4, "{}", long.len());
        assert!(long.starts_with(&format!("{lines}error: ä")));
    }

    #[test]
    fn a_message_of_the_guests_own_stays() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("message");
        std::fs::write(&path, "").expect("written");
        let remains = Remains { message: Some(path.clone()), core_dump: None };
        remains.leave_message("said\n", Some("error: it failed"));
        remains.leave_message("said\n", Some("error: again"));
        let text = std::fs::read_to_string(path).expect("is there");
        assert_eq!(text, "said\nerror: it failed");
    }
}
