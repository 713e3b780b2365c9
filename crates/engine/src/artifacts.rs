//! Failure artifacts of a guest, in addition to its exit code and the text on stderr: a termination message for
//! `kubectl describe`, and a core dump if the container's settings ask for one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Once;

use nix::fcntl::OFlag;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use plan::FailureArtifacts;
use wasmtime::{AsContextMut, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use crate::Plan;
use crate::memory;
use crate::named_path::{Directory, NamedPath};
use crate::report::log;

/// Longest termination message, in bytes (Kubernetes,
/// [terminationMessagePath](https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)).
const MESSAGE: usize = 4096;

/// Memory that is needed to make a core dump, in multiples of the memory in the dump.
const COPIES: u64 = 3;

/// Writes the termination message: the last lines of the guest, then the reason if the guest was ended. A message that the guest
/// wrote itself stays as it is.
pub fn leave_message(artifacts: &FailureArtifacts, last_lines: &str, failure: Option<&str>) {
    let Some(path) = &artifacts.message else { return };
    let open = OpenOptions::new().append(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let written = open.and_then(|mut file| match file.metadata()?.len() {
        0 => file.write_all(message(last_lines, failure.unwrap_or_default()).as_bytes()),
        _ => Ok(()),
    });
    if let Err(error) = written {
        log(&format!("warning: no termination message: {}: {error}", path.display()));
    }
}

/// Writes a core dump for the first guest of this process that trapped. Reports on stderr where it is, or why there is none.
pub fn leave_core_dump(plan: &Plan, store: impl AsContextMut, error: &wasmtime::Error) {
    static FIRST: Once = Once::new();
    let Some(path) = &plan.artifacts.core_dump else { return };
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return };
    if error.is::<I32Exit>() {
        return;
    }
    let named = NamedPath::new(path.clone(), &plan.grants);
    FIRST.call_once(|| match write_core_dump(&named, plan.name(), store, dump) {
        Ok(path) => log(&format!("core dump: {}", path.display())),
        Err(error) => log(&format!("warning: no core dump: {}: {error}", path.display())),
    });
}

/// Cuts the end of the failure if needed, because its beginning is the cause.
fn message(last_lines: &str, failure: &str) -> String {
    let room = MESSAGE.saturating_sub(last_lines.len());
    let cut = failure.floor_char_boundary(room.min(failure.len()));
    format!("{last_lines}{}", &failure[..cut])
}

fn write_core_dump(
    named: &NamedPath,
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
    let (directory, path) = match named.directory() {
        Ok(directory) => (directory, named.as_path().join(format!("core.{file_name}"))),
        // The path is that of a file, not of a directory.
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            (named.parent()?.0, named.as_path().to_owned())
        }
        Err(error) => return Err(error),
    };
    let own_name = Path::new(path.file_name().unwrap_or_default());
    // A reader must find a complete file, of this failure or of an earlier one.
    let unfinished = own_name.with_added_extension("unfinished");
    let mut file = own(&directory, &unfinished)?;
    let written = file
        .write_all(&dump.serialize(store, name))
        .and_then(|()| directory.replace(&unfinished, own_name));
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            // An incomplete dump in a full volume is useless.
            let _ = directory.remove(&unfinished);
            Err(error)
        }
    }
}

/// Creates or empties a file, and locks it while it is open.
///
/// # Errors
/// If another container of the Pod is writing it.
fn own(directory: &Directory, name: &Path) -> io::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = directory.own_file(name, flags)?;
    file.try_lock()?;
    let (ours, there) = (file.metadata()?.ino(), directory.status(name)?.st_ino);
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("message");
        std::fs::write(&path, "").expect("written");
        let artifacts = FailureArtifacts { message: Some(path.clone()), core_dump: None };
        leave_message(&artifacts, "said\n", Some("error: it failed"));
        leave_message(&artifacts, "said\n", Some("error: again"));
        let text = std::fs::read_to_string(path).expect("is there");
        assert_eq!(text, "said\nerror: it failed");
    }
}
