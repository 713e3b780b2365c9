//! Transport of messages: a datagram of one byte with a connection to the zygote. On the connection, one byte with descriptors,
//! then JSON.
//!
//! The zygote itself never parses. It forks for every connection, and the child reads the request, so that a request that
//! kills its parser kills only that child. The child first sends a pidfd of itself: the processes that it makes inherit its
//! end of the connection, so that the connection does not end when the child is killed.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, send, sendmsg,
};
use nix::unistd::getpid;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::pidfd::{self, PidFd};
use crate::{Error, limits, ready};

/// Name of the request process in errors.
const REQUEST: &str = "request";

/// Number of bytes of a reply that are read at once. Most replies have some tens of bytes.
const CHUNK_BYTES: usize = 4 << 10;

/// Descriptors in one message, at most. A job has one for each layer of the image.
const MAX_FDS: usize = 64;

/// A request, with the names of the descriptors that were sent before it, in the same order.
#[derive(Serialize, Deserialize)]
pub struct Message<R, N> {
    pub request: R,
    pub descriptors: Vec<N>,
}

/// Sends descriptors, with one byte.
pub fn send_fds(socket: &impl AsFd, fds: &[RawFd]) -> Result<(), Error> {
    let marker = [IoSlice::new(&[1])];
    let rights = [ControlMessage::ScmRights(fds)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &marker, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(|errno| match errno {
            nix::Error::EPIPE | nix::Error::ECONNRESET | nix::Error::ENOTCONN => {
                Error::Gone { process: "zygote" }
            }
            source => Error::System { action: "send to the zygote".into(), source },
        })
}

/// Largest text in one datagram, in bytes. The texts are digests and versions.
const TEXT_BYTES: usize = 4 << 10;

/// Sends a short text to the shim. If the shim is gone, the next wait for it notices.
pub fn send_text(socket: &OwnedFd, text: &str) {
    let _ = send(socket.as_raw_fd(), text.as_bytes(), MsgFlags::MSG_NOSIGNAL);
}

/// Receives a text that [`send_text`] sent.
pub fn receive_text(socket: &OwnedFd) -> Result<String, Error> {
    let mut bytes = vec![0; TEXT_BYTES];
    let received = loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Err(nix::Error::EINTR) => {}
            Ok(0) | Err(nix::Error::ECONNRESET) => return Err(Error::Gone { process: "zygote" }),
            other => break other.map_err(Error::system("receive from the zygote"))?,
        }
    };
    bytes.truncate(received);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Receives descriptors that [`send_fds`] sent; `None` if the shim is gone.
pub fn receive_fds(socket: &impl AsFd) -> Result<Option<Vec<OwnedFd>>, Error> {
    let mut byte = [0u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => continue,
            other => break other.map_err(Error::system("receive from the shim"))?,
        }
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    let control = message.cmsgs().map_err(Error::system("receive descriptors from the shim"))?;
    for part in control {
        if let ControlMessageOwned::ScmRights(received) = part {
            // SAFETY: the kernel installed these descriptors in this process with this very message; nothing
            // else knows their numbers, so each has exactly one owner.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(Some(fds))
}

/// Writes one JSON message and ends the sending side.
pub fn write<T: Serialize>(mut connection: &UnixStream, message: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(message).map_err(Error::malformed("encode a message"))?;
    connection.write_all(&bytes).map_err(Error::io("write a message"))?;
    connection.shutdown(Shutdown::Write).map_err(Error::io("end a message"))
}

/// Reads one JSON message to the end of the shim's sending side, in the request process.
pub fn read<T: DeserializeOwned>(connection: &UnixStream) -> Result<T, Error> {
    let mut bytes = Vec::new();
    let read = connection.take(limits::MESSAGE_BYTES).read_to_end(&mut bytes);
    read.map_err(Error::io("read a message"))?;
    decode(&bytes, "shim")
}

/// Sends a pidfd of this process to the shim.
pub fn announce(connection: &UnixStream) -> Result<(), Error> {
    let itself = PidFd::open(getpid())?;
    send_fds(connection, &[itself.as_fd().as_raw_fd()])
}

/// Reads the reply of a request process. Kills the process if there is no reply within `limit`.
///
/// # Errors
/// [`Error::Gone`] when the process ended before it answered; [`Error::Late`].
pub fn read_reply<T: DeserializeOwned>(
    mut connection: &UnixStream,
    limit: Option<Duration>,
) -> Result<T, Error> {
    let until = limit.map(|limit| Instant::now() + limit);
    let gone = || Error::Gone { process: REQUEST };
    let announced = receive_fds(connection).map_err(|_| gone())?;
    let process = announced.and_then(|mut fds| fds.pop()).ok_or_else(gone)?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; CHUNK_BYTES]);
    while bytes.len() as u64 <= limits::MESSAGE_BYTES {
        match wait(connection, &process, until)? {
            Waited::Readable => {}
            Waited::Gone => return Err(gone()),
            Waited::Late => {
                pidfd::kill(&process)?;
                return Err(Error::Late { seconds: limit.unwrap_or_default().as_secs() });
            }
        }
        match connection.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The process ended without reading the whole request.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(gone()),
            Err(error) => return Err(Error::io("read a message")(error)),
        }
    }
    decode(&bytes, REQUEST)
}

/// Outcome of a wait for a reply.
enum Waited {
    /// The connection is readable.
    Readable,
    /// The process has ended, and the connection is not readable.
    Gone,
    /// The time is up.
    Late,
}

fn wait(
    connection: &UnixStream,
    process: &OwnedFd,
    until: Option<Instant>,
) -> Result<Waited, Error> {
    let look = |timeout: PollTimeout| {
        let mut fds =
            [connection.as_fd(), process.as_fd()].map(|it| PollFd::new(it, PollFlags::POLLIN));
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for a message")(errno)),
        }
        Ok(fds.map(|fd| fd.any().unwrap_or(false)))
    };
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, ready::timeout);
        match look(timeout)? {
            [true, _] => return Ok(Waited::Readable),
            // The last message may have arrived after poll(2) looked at the connection.
            [_, true] if look(PollTimeout::ZERO)?[0] => return Ok(Waited::Readable),
            [_, true] => return Ok(Waited::Gone),
            [false, false] if left.is_some_and(|left| left.is_zero()) => return Ok(Waited::Late),
            [false, false] => {}
        }
    }
}

/// Decodes a message. An empty one means that `process` ended before it wrote one.
fn decode<T: DeserializeOwned>(bytes: &[u8], process: &'static str) -> Result<T, Error> {
    if bytes.is_empty() {
        return Err(Error::Gone { process });
    }
    serde_json::from_slice(bytes).map_err(Error::malformed("decode a message"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::unistd::Pid;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair")
    }

    #[test]
    fn a_reply_is_read_to_its_end() {
        let (ours, theirs) = pair();
        let text = "a".repeat(CHUNK_BYTES * 3);
        thread::scope(|scope| {
            scope
                .spawn(|| announce(&theirs).and_then(|()| write(&theirs, &text)).expect("written"));
            assert_eq!(read_reply::<String>(&ours, None).expect("read"), text);
        });
    }

    #[test]
    fn who_is_killed_is_gone_though_others_have_the_connection_open() {
        let (ours, theirs) = pair();
        let mut killed = Command::new("sleep").arg("1000").spawn().expect("is executed");
        let process = PidFd::open(Pid::from_raw(killed.id() as i32)).expect("opened");
        send_fds(&theirs, &[process.as_fd().as_raw_fd()]).expect("sent");
        let gone = thread::scope(|scope| {
            let reading = scope.spawn(|| read_reply::<String>(&ours, None));
            killed.kill().and_then(|()| killed.wait()).expect("killed");
            reading.join().expect("no panic")
        });
        assert!(matches!(gone, Err(Error::Gone { process: REQUEST })), "{gone:?}");
        drop(theirs);
    }

    #[test]
    fn who_ends_without_reading_the_request_is_gone() {
        let (ours, theirs) = pair();
        write(&ours, &"a request").expect("written");
        announce(&theirs).expect("announced");
        drop(theirs);
        let gone = read_reply::<String>(&ours, None);
        assert!(matches!(gone, Err(Error::Gone { process: REQUEST })), "{gone:?}");
    }

    #[test]
    fn who_never_was_there_is_gone() {
        let (ours, theirs) = pair();
        drop(theirs);
        let gone = read_reply::<String>(&ours, None);
        assert!(matches!(gone, Err(Error::Gone { process: REQUEST })), "{gone:?}");
    }

    #[test]
    fn who_does_not_answer_in_time_is_killed() {
        let (ours, theirs) = pair();
        let mut slow = Command::new("sleep").arg("1000").spawn().expect("is executed");
        let process = PidFd::open(Pid::from_raw(slow.id() as i32)).expect("opened");
        send_fds(&theirs, &[process.as_fd().as_raw_fd()]).expect("sent");
        let late = read_reply::<String>(&ours, Some(Duration::from_millis(50)));
        assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
        assert!(slow.wait().expect("ended").code().is_none(), "it was not killed");
    }
}
