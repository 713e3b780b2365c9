//! Streams of a process, stdin, stdout and stderr: fifos that containerd made, or files, or the pipes of a [`logger`].
//! The process itself gets them.
//!
//! The shim copies nothing, except for a [`terminal`](super::terminal) and the output of an exec process
//! ([`relay`](super::relay)). It keeps the other end of each fifo open, so that a container neither reads an early end
//! of its input nor gets SIGPIPE while containerd restarts.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown};
use sandbox::pipe;

use super::errors::{Error, failed};
use super::logger::{self, LogContext, Logger, Started};
use super::relay::Relay;

/// Paths of the three streams, from containerd. An empty text stands for none.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// Whether the process has a terminal, which has no separate stderr.
    pub terminal: bool,
    /// Path of a fifo.
    pub stdin: String,
    /// Path of a fifo, or a `file:` URI, or a `binary:` URI, which applies to stderr as well.
    pub stdout: String,
    /// Path of a fifo, or a `file:` URI.
    pub stderr: String,
}

/// Ends of fifos that the shim keeps.
#[derive(Debug, Default)]
pub struct ShimFifos {
    stdin: Option<File>,
    readers: Vec<Reader>,
}

/// Reader of what a process writes.
#[derive(Debug)]
pub enum Reader {
    /// containerd, of a fifo. This is another reading end of it.
    Fifo(File),
    /// A program of the node.
    Logger(Logger),
    /// containerd, of a stream that the shim copies.
    Relay(Relay),
}

impl Reader {
    /// Number of bytes that were not read yet. It is not known for a logger.
    pub fn unread(&self) -> usize {
        match self {
            Reader::Fifo(fifo) => pipe::unread(fifo),
            Reader::Logger(_) => 0,
            Reader::Relay(relay) => relay.unread(),
        }
    }

    /// Whether the shim has nothing left to do for the reader.
    pub fn is_done(&self) -> bool {
        match self {
            Reader::Fifo(_) => true,
            Reader::Logger(logger) => logger.has_ended(),
            Reader::Relay(relay) => relay.is_done(),
        }
    }
}

impl ShimFifos {
    /// Closes stdin, because the client has closed its end (CloseIO). The container can still read the rest.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Number of bytes that the process wrote and that were not read yet.
    pub fn unread(&self) -> usize {
        self.readers.iter().map(Reader::unread).sum()
    }

    /// Whether the shim has passed on all output.
    pub fn is_done(&self) -> bool {
        self.readers.iter().all(Reader::is_done)
    }
}

/// Kind of process that has the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A container's first process. Its streams end with it.
    First,
    /// An exec process, which may leave background processes.
    Executed,
}

/// Ends of the streams for the process, and for the shim.
#[derive(Debug)]
pub struct Streams {
    /// stdin, stdout and stderr; `None` is `/dev/null`.
    pub process: [Option<OwnedFd>; 3],
    /// Ends that the shim keeps while the process lives.
    pub shim: ShimFifos,
}

/// Opens the streams of a process of user `uid` and group `gid`, which become their owners, so that the process may open
/// `/dev/stdout` again.
pub fn open(
    paths: &Paths,
    context: LogContext<'_>,
    owner: Owner,
    uid: u32,
    gid: u32,
) -> Result<Streams, Error> {
    let (stdin, shim_stdin) = input(&paths.stdin)?;
    let ([stdout, stderr], readers) = outputs(paths, context, owner)?;
    let process = [stdin, stdout, stderr];
    if uid != 0 {
        for file in process.iter().flatten() {
            // This may fail for a shared log file. The process then only cannot reopen it.
            let _ = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
    let shim = ShimFifos { stdin: shim_stdin, readers };
    Ok(Streams { process: process.map(|file| file.map(OwnedFd::from)), shim })
}

/// Opens the process's end of stdin, and the shim's. The shim's is for both directions, because opening that never waits for
/// the other side (fifo(7)); the process gets a reading end.
pub fn input(path: &str) -> Result<(Option<File>, Option<File>), Error> {
    if path.is_empty() {
        return Ok((None, None));
    }
    let failed = failed("stdin", Path::new(path));
    let shim = OpenOptions::new().read(true).write(true).open(path).map_err(&failed)?;
    let process = OpenOptions::new().read(true).open(path).map_err(&failed)?;
    Ok((Some(process), Some(shim)))
}

/// Opens the process's ends of stdout and stderr. Returns them with their readers.
pub fn outputs(
    paths: &Paths,
    context: LogContext<'_>,
    owner: Owner,
) -> Result<([Option<File>; 2], Vec<Reader>), Error> {
    if paths.stdout.split(':').next() == Some(logger::SCHEME) {
        let Started { logger, streams } = Logger::start(&paths.stdout, context)?;
        let process = streams.map(|stream| Some(File::from(stream)));
        return Ok((process, vec![Reader::Logger(logger)]));
    }
    let (stdout, stdout_reader) = output("stdout", &paths.stdout, owner)?;
    let (stderr, stderr_reader) = output("stderr", &paths.stderr, owner)?;
    let readers = [stdout_reader, stderr_reader].into_iter().flatten();
    Ok(([stdout, stderr], readers.collect()))
}

/// Opens the process's end of a stream. A file has no reader.
fn output(
    what: &'static str,
    uri: &str,
    owner: Owner,
) -> Result<(Option<File>, Option<Reader>), Error> {
    if uri.is_empty() {
        return Ok((None, None));
    }
    let path = match uri.split_once("://") {
        None | Some(("fifo" | "file", _)) => Path::new(uri.split("://").last().unwrap_or(uri)),
        Some(_) => return Err(Error::Scheme { what, uri: uri.to_owned() }),
    };
    let failed = failed(what, path);
    let is_fifo = path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    if !is_fifo {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        return Ok((Some(file.map_err(&failed)?), None));
    }
    let mut reading = OpenOptions::new();
    reading.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let reader = reading.open(path).map_err(&failed)?;
    let process = OpenOptions::new().write(true).open(path).map_err(&failed)?;
    if owner == Owner::First {
        return Ok((Some(process), Some(Reader::Fifo(reader))));
    }
    let (process, relay) = Relay::start(process, reader).map_err(&failed)?;
    Ok((Some(process), Some(Reader::Relay(relay))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    const CONTEXT: LogContext<'static> = LogContext { id: "container", namespace: "default" };

    fn fifo(directory: &Path, name: &str) -> String {
        let path = directory.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        path.display().to_string()
    }

    #[test]
    fn output_written_without_a_reader_is_kept_for_the_next_reader() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let paths = Paths { stdout: fifo(directory.path(), "out"), ..Default::default() };
        let mut streams = open(&paths, CONTEXT, Owner::First, 0, 0).expect("opens");
        let mut stdout = File::from(streams.process[1].take().expect("stdout"));
        stdout.write_all(b"kept").expect("no SIGPIPE");
        let mut reader = File::open(&paths.stdout).expect("a reader comes");
        drop(stdout);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "kept");
    }

    #[test]
    fn output_is_drained_once_it_was_read() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let paths = Paths { stdout: fifo(directory.path(), "out"), ..Default::default() };
        let mut streams = open(&paths, CONTEXT, Owner::First, 0, 0).expect("opens");
        let mut reader = File::open(&paths.stdout).expect("a reader comes");
        let mut stdout = File::from(streams.process[1].take().expect("stdout"));
        stdout.write_all(b"text").expect("writes");
        drop(stdout);
        assert_eq!(streams.shim.unread(), 4);
        reader.read_to_string(&mut String::new()).expect("reads");
        assert_eq!(streams.shim.unread(), 0);
    }

    #[test]
    fn output_of_an_exec_process_is_read_to_its_end_though_another_process_keeps_it_open() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let paths = Paths { stdout: fifo(directory.path(), "out"), ..Default::default() };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = runtime.enter();
        let mut streams = open(&paths, CONTEXT, Owner::Executed, 0, 0).expect("opens");
        let mut reader = File::open(&paths.stdout).expect("a reader comes");
        // This end is never closed.
        let mut stdout = File::from(streams.process[1].take().expect("stdout"));
        stdout.write_all(b"text").expect("writes");
        while streams.shim.unread() > 4 || pipe::unread(&reader) < 4 {
            std::thread::yield_now();
        }
        assert!(!streams.shim.is_done());
        drop(streams.shim);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("reads to the end");
        assert_eq!(text, "text");
    }

    #[test]
    fn input_ends_when_the_client_has_closed_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let paths = Paths { stdin: fifo(directory.path(), "in"), ..Default::default() };
        let mut streams = open(&paths, CONTEXT, Owner::First, 0, 0).expect("opens");
        let mut client = OpenOptions::new().write(true).open(&paths.stdin).expect("a client comes");
        client.write_all(b"line").expect("writes");
        drop(client);
        streams.shim.close_stdin();
        let mut text = String::new();
        let mut stdin = File::from(streams.process[0].take().expect("stdin"));
        stdin.read_to_string(&mut text).expect("reads to the end");
        assert_eq!(text, "line");
    }

    #[test]
    fn a_logging_uri_of_another_kind_is_refused_by_name() {
        let paths = Paths { stderr: "npipe:////./pipe/log".into(), ..Default::default() };
        let error = open(&paths, CONTEXT, Owner::First, 0, 0).expect_err("refused").to_string();
        assert!(error.contains("stderr") && error.contains("npipe:////./pipe/log"), "{error}");
    }
}
