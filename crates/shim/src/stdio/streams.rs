//! A container's stdin, stdout and stderr: the fifos containerd made, handed to the process itself; or files, or the
//! pipes of a [`logger`].
//!
//! The shim copies nothing, but for a [`terminal`](super::terminal) and what an executed process writes
//! ([`relay`](super::relay)). It keeps the other end of each fifo open, so
//! that a container neither reads an early end of its input nor is sent SIGPIPE while containerd restarts.

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

/// What containerd gave for the three streams; an empty text for none.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// Whether they are one terminal, which has no stderr of its own.
    pub terminal: bool,
    /// Path of a fifo.
    pub stdin: String,
    /// Path of a fifo, or a `file:` URI; or a `binary:` URI, which is for stderr as well.
    pub stdout: String,
    /// Path of a fifo, or a `file:` URI.
    pub stderr: String,
}

/// The ends the shim keeps.
#[derive(Debug, Default)]
pub struct ShimFifos {
    stdin: Option<File>,
    readers: Vec<Reader>,
}

/// Who reads what a process writes.
#[derive(Debug)]
pub enum Reader {
    /// containerd; this is another reading end.
    Fifo(File),
    /// A program of the node's.
    Logger(Logger),
    /// containerd, for a stream that the shim copies.
    Relay(Relay),
}

impl Reader {
    /// Bytes that containerd has not read yet. Of a logger they are not known.
    pub fn unread(&self) -> usize {
        match self {
            Reader::Fifo(fifo) => pipe::unread(fifo),
            Reader::Logger(_) => 0,
            Reader::Relay(relay) => relay.unread(),
        }
    }

    /// Whether the shim has nothing more to do for it.
    pub fn is_done(&self) -> bool {
        match self {
            Reader::Fifo(_) => true,
            Reader::Logger(logger) => logger.has_ended(),
            Reader::Relay(relay) => relay.is_done(),
        }
    }
}

impl ShimFifos {
    /// The client has closed its end (CloseIO): the container reads to the end once it has read the rest.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Bytes that the process wrote and that were not read yet.
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

/// The ends for the process, and those to keep while it lives.
#[derive(Debug)]
pub struct Streams {
    /// stdin, stdout, stderr; none means `/dev/null`.
    pub process: [Option<OwnedFd>; 3],
    /// The shim's ends.
    pub shim: ShimFifos,
}

/// Opens the streams for a process of user `uid` and group `gid`, which become their owners, so that the
/// process may open `/dev/stdout` again.
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
            // A shared log file may belong to somebody else; the process then cannot reopen it, no more.
            let _ = fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        }
    }
    let shim = ShimFifos { stdin: shim_stdin, readers };
    Ok(Streams { process: process.map(|file| file.map(OwnedFd::from)), shim })
}

/// The process's end of stdin, and the shim's. Opening for both directions never waits for the other side (fifo(7));
/// the process gets a reading end.
pub fn input(path: &str) -> Result<(Option<File>, Option<File>), Error> {
    if path.is_empty() {
        return Ok((None, None));
    }
    let failed = failed("stdin", Path::new(path));
    let shim = OpenOptions::new().read(true).write(true).open(path).map_err(&failed)?;
    let process = OpenOptions::new().read(true).open(path).map_err(&failed)?;
    Ok((Some(process), Some(shim)))
}

/// The process's ends of stdout and stderr, and who reads them.
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

/// Of a file the shim keeps nothing.
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

    fn fifo(folder: &Path, name: &str) -> String {
        let path = folder.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        path.display().to_string()
    }

    #[test]
    fn output_written_while_nobody_reads_is_there_for_the_next_reader() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let paths = Paths { stdout: fifo(folder.path(), "out"), ..Default::default() };
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
        let folder = tempfile::tempdir().expect("temporary folder");
        let paths = Paths { stdout: fifo(folder.path(), "out"), ..Default::default() };
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
    fn what_is_executed_is_read_to_its_end_though_another_goes_on_with_its_output() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let paths = Paths { stdout: fifo(folder.path(), "out"), ..Default::default() };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = runtime.enter();
        let mut streams = open(&paths, CONTEXT, Owner::Executed, 0, 0).expect("opens");
        let mut reader = File::open(&paths.stdout).expect("a reader comes");
        // It is never closed.
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
        let folder = tempfile::tempdir().expect("temporary folder");
        let paths = Paths { stdin: fifo(folder.path(), "in"), ..Default::default() };
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
