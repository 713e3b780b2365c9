//! A program of the node that logs what a container writes: `binary:///path?key=value` in place of a fifo
//! (containerd, core/runtime/v2/README.md, logging URIs).
//!
//! It is started once for both streams, with their pipes as descriptors 3 and 4. Descriptor 5 it closes when it is
//! ready. It reads to the end, which comes when the last process of the container has gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{SIGKILL, SIGTERM};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2};
use sandbox::pidfd::PidFd;
use url::Url;

use super::errors::{Error, failed};

/// The scheme of its URIs.
pub const SCHEME: &str = "binary";

/// How long it may take to be ready: runc's shim waits for ever, and its client gives up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to end after SIGTERM, about as in runc's shim.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What turns a parameter into a variable of its environment (as in runc's shim).
const VARIABLE: &str = "env.";

/// Loggers that were asked to end.
static ENDING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// The process whose output is logged.
#[derive(Debug, Clone, Copy)]
pub struct LogContext<'a> {
    /// The id of the container, or of what is executed in it.
    pub id: &'a str,
    /// containerd's namespace.
    pub namespace: &'a str,
}

/// The running program. Once dropped, it is asked to end by SIGTERM, and a while later it is killed.
#[derive(Debug)]
pub struct Logger {
    process: Option<PidFd>,
}

/// Blocks until no logger is left that was asked to end.
pub fn wait_for_the_last() {
    for ending in std::mem::take(&mut *ENDING.lock().unwrap_or_else(PoisonError::into_inner)) {
        // One that panicked has ended, too.
        let _ = ending.join();
    }
}

/// The program, and where the container writes.
pub struct Started {
    /// The program.
    pub logger: Logger,
    /// stdout and stderr of the container.
    pub streams: [OwnedFd; 2],
}

impl Logger {
    /// Starts the program, and blocks until it is ready. The caller sees to it that nobody reaps it meanwhile.
    ///
    /// # Errors
    /// [`Error::Open`] when it cannot be executed, or is not ready in time.
    pub fn start(uri: &str, context: LogContext<'_>) -> Result<Started, Error> {
        let parsed = Url::parse(uri).ok().and_then(|uri| Some((uri.to_file_path().ok()?, uri)));
        let (path, uri) =
            parsed.ok_or_else(|| Error::Scheme { what: "stdout", uri: uri.to_owned() })?;
        start(&path, &uri, context).map_err(failed("stdout's logger", &path))
    }

    /// Whether it has written everything down.
    pub fn has_ended(&self) -> bool {
        self.process.as_ref().is_none_or(|process| is_ready(process.as_fd(), Duration::ZERO))
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        let has_ended = self.has_ended();
        let Some(process) = self.process.take().filter(|_| !has_ended) else { return };
        let end = move || {
            let ended =
                process.signal(SIGTERM).and_then(|_| match is_ready(process.as_fd(), END_WITHIN) {
                    true => Ok(true),
                    false => process.signal(SIGKILL),
                });
            if let Err(error) = ended {
                log::warn!("end a logger: {error}");
            }
        };
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|thread| !thread.is_finished());
        match Builder::new().name("logger".into()).spawn(end) {
            Ok(thread) => ending.push(thread),
            Err(error) => log::warn!("end a logger: {error}"),
        }
    }
}

/// `?key=value&flag&env.NAME=value` is `key`, `value`, `flag` and an empty one, and a variable.
fn parameters(uri: &Url) -> (Vec<String>, Vec<(String, String)>) {
    let (mut arguments, mut variables) = (Vec::new(), Vec::new());
    for (key, value) in uri.query_pairs() {
        match key.strip_prefix(VARIABLE) {
            Some(name) => variables.push((name.to_owned(), value.into_owned())),
            None => arguments.extend([key.into_owned(), value.into_owned()]),
        }
    }
    (arguments, variables)
}

fn start(path: &Path, uri: &Url, context: LogContext<'_>) -> io::Result<Started> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from);
    let ((stdout, to_stdout), (stderr, to_stderr), (ready, readiness)) =
        (pipe()?, pipe()?, pipe()?);
    let fds = [stdout, stderr, readiness];
    let numbered = fds.into_iter().zip(3..);
    let mappings = numbered.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    let (arguments, variables) = parameters(uri);
    let mut command = Command::new(path);
    command
        .args(arguments)
        // What containerd's environment has is for containerd.
        .env_clear()
        .envs(variables)
        .env("CONTAINER_ID", context.id)
        .env("CONTAINER_NAMESPACE", context.namespace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .fd_mappings(mappings.collect())
        .map_err(io::Error::other)?;
    let child = command.spawn()?;
    // The pipes' other ends go with it: what ends here, ends there.
    drop(command);
    let process = PidFd::open(Pid::from_raw(child.id() as i32)).map_err(io::Error::other)?;
    let logger = Logger { process: Some(process) };
    // A byte is as good as the end.
    if !is_ready(ready.as_fd(), READY_WITHIN) {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not get ready in time"));
    }
    Ok(Started { logger, streams: [to_stdout, to_stderr] })
}

fn is_ready(fd: BorrowedFd<'_>, within: Duration) -> bool {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Err(Errno::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::thread::sleep;

    use super::*;

    const CONTEXT: LogContext<'static> = LogContext { id: "container", namespace: "default" };

    #[test]
    fn a_logger_has_its_arguments_and_reads_both_streams_to_their_end() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("logger");
        let script = "#!/bin/sh\n\
            echo \"$CONTAINER_NAMESPACE $CONTAINER_ID $COLOUR $1 $2\" > \"$4\"\n\
            exec 5>&-\n\
            cat <&3 >> \"$4\"\n\
            cat <&4 >> \"$4\"\n";
        // Not by this process: others that it forks meanwhile would have it open for writing.
        fs::write(folder.path().join("script"), script).expect("written");
        let copied = Command::new("cp").arg(folder.path().join("script")).arg(&path).status();
        assert!(copied.expect("is executed").success());
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("executable");
        let log = folder.path().join("a log");
        let log_path = log.display().to_string().replace(' ', "%20");
        let query = format!("flag&to={log_path}&env.COLOUR=green");
        let uri = format!("binary://{}?{query}", path.display());
        let Started { logger, streams: [stdout, stderr] } =
            Logger::start(&uri, CONTEXT).expect("starts");
        File::from(stderr).write_all(b"err\n").expect("written");
        assert!(!logger.has_ended());
        File::from(stdout).write_all(b"out\n").expect("written");
        while !logger.has_ended() {
            sleep(Duration::from_millis(10));
        }
        let text = fs::read_to_string(log).expect("a log");
        assert_eq!(text, "default container green flag \nout\nerr\n");
    }

    #[test]
    fn a_logger_that_goes_on_is_ended() {
        let uri = "binary:///bin/sh?-c=exec 5>&-; exec sleep 1000";
        let Started { logger, streams } = Logger::start(uri, CONTEXT).expect("starts");
        let process = logger.process.as_ref().expect("runs").try_clone().expect("a copy");
        drop((logger, streams));
        wait_for_the_last();
        assert!(is_ready(process.as_fd(), Duration::ZERO));
    }

    #[test]
    fn a_logger_that_is_not_there_or_is_no_uri_is_named() {
        let refusal = |uri| match Logger::start(uri, CONTEXT) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{uri} is started"),
        };
        assert!(refusal("binary:///no/logger").contains("/no/logger"));
        assert!(refusal("binary:logger").contains("binary:logger"));
    }
}
