//! Loggers: programs of the node that log what a container writes, given as `binary:///path?key=value` instead of a fifo
//! (containerd, core/runtime/v2/README.md, logging URIs).
//!
//! A logger is started once for both streams, with their pipes as descriptors 3 and 4. It closes descriptor 5 when it is ready,
//! and ends at the end of the streams, when the last process of the container has gone.

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

/// Scheme of the URIs.
pub const SCHEME: &str = "binary";

/// How long a logger may take to be ready. runc's shim waits for ever, until its client gives up.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a logger may take to end after SIGTERM, about as in runc's shim.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Prefix of parameters that are environment variables, as in runc's shim.
const VARIABLE: &str = "env.";

/// Threads that wait for the end of loggers.
static ENDING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// Context of a log: the process whose output is logged.
#[derive(Debug, Clone, Copy)]
pub struct LogContext<'a> {
    /// Id of the container or the exec process.
    pub id: &'a str,
    /// Namespace of containerd.
    pub namespace: &'a str,
}

/// A running logger. When it is dropped it gets SIGTERM, and is killed a while later.
#[derive(Debug)]
pub struct Logger {
    process: Option<PidFd>,
}

/// Blocks until all loggers that were dropped have ended.
pub fn wait_for_the_last() {
    for ending in std::mem::take(&mut *ENDING.lock().unwrap_or_else(PoisonError::into_inner)) {
        // A thread that panicked has ended, too.
        let _ = ending.join();
    }
}

/// A logger that was started, with the streams of the container.
pub struct Started {
    /// The logger.
    pub logger: Logger,
    /// Writing ends of stdout and stderr.
    pub streams: [OwnedFd; 2],
}

impl Logger {
    /// Starts a logger, and blocks until it is ready. The caller must prevent that it is reaped in the meantime.
    ///
    /// # Errors
    /// [`Error::Open`] if it cannot be executed, or is not ready in time.
    pub fn start(uri: &str, context: LogContext<'_>) -> Result<Started, Error> {
        let parsed = Url::parse(uri).ok().and_then(|uri| Some((uri.to_file_path().ok()?, uri)));
        let (path, uri) =
            parsed.ok_or_else(|| Error::Scheme { what: "stdout", uri: uri.to_owned() })?;
        start(&path, &uri, context).map_err(failed("stdout's logger", &path))
    }

    /// Whether it has ended, and so has logged everything.
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

/// Arguments and variables of a URI. `?key=value&flag&env.NAME=value` gives the arguments `key`, `value`, `flag` and an empty
/// one, and the variable `NAME`.
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
        // A logger must not get containerd's environment.
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
    // This closes the other ends of the pipes in this process.
    drop(command);
    let process = PidFd::open(Pid::from_raw(child.id() as i32)).map_err(io::Error::other)?;
    let logger = Logger { process: Some(process) };
    // Both a byte and the end of the pipe mean that it is ready.
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
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("logger");
        let script = "#!/bin/sh\n\
            echo \"$CONTAINER_NAMESPACE $CONTAINER_ID $COLOUR $1 $2\" > \"$4\"\n\
            exec 5>&-\n\
            cat <&3 >> \"$4\"\n\
            cat <&4 >> \"$4\"\n";
        // A further process must write it, because processes that this one forks at the same time would have it open for
        // writing.
        fs::write(directory.path().join("script"), script).expect("written");
        let copied = Command::new("cp").arg(directory.path().join("script")).arg(&path).status();
        assert!(copied.expect("is executed").success());
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("executable");
        let log = directory.path().join("a log");
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
    fn a_logger_that_does_not_end_is_killed() {
        let uri = "binary:///bin/sh?-c=exec 5>&-; exec sleep 1000";
        let Started { logger, streams } = Logger::start(uri, CONTEXT).expect("starts");
        let process = logger.process.as_ref().expect("runs").try_clone().expect("a copy");
        drop((logger, streams));
        wait_for_the_last();
        assert!(is_ready(process.as_fd(), Duration::ZERO));
    }

    #[test]
    fn a_logger_that_does_not_exist_or_is_not_a_uri_is_named() {
        let refusal = |uri| match Logger::start(uri, CONTEXT) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{uri} is started"),
        };
        assert!(refusal("binary:///no/logger").contains("/no/logger"));
        assert!(refusal("binary:logger").contains("binary:logger"));
    }
}
