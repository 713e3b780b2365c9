//! How messages cross: a datagram of one byte with descriptors to the zygote, then JSON on the connection sent with it.
//!
//! The zygote itself never parses: it forks for every connection, and the child reads the request. A request
//! that kills its parser kills that child alone.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, send, sendmsg,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, limits};

/// A connection plus up to three stdio descriptors and the code; jobs have an input per image layer.
const MAX_FDS: usize = 64;

/// Sends `fds` to the zygote; the first is the connection on which it answers.
pub fn send_fds(socket: &OwnedFd, fds: &[RawFd]) -> Result<(), Error> {
    let marker = [IoSlice::new(&[1])];
    let rights = [ControlMessage::ScmRights(fds)];
    sendmsg::<()>(socket.as_raw_fd(), &marker, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(|errno| match errno {
            nix::Error::EPIPE | nix::Error::ECONNRESET | nix::Error::ENOTCONN => {
                Error::Gone { process: "zygote" }
            }
            source => Error::System { action: "send to the zygote".into(), source },
        })
}

/// The longest text in one datagram, in bytes: a digest or a version.
const TEXT_BYTES: usize = 4 << 10;

/// Sends a short text to the shim. Whether there still is one is seen when it is next waited for.
pub fn send_text(socket: &OwnedFd, text: &str) {
    let _ = send(socket.as_raw_fd(), text.as_bytes(), MsgFlags::MSG_NOSIGNAL);
}

/// Receives what [`send_text`] sent.
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

/// Receives what [`send_fds`] sent; `None` when the shim is gone.
pub fn receive_fds(socket: &OwnedFd) -> Result<Option<Vec<OwnedFd>>, Error> {
    let mut byte = [0u8; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([RawFd; MAX_FDS]);
    let message = loop {
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => continue,
            other => break other.map_err(Error::system("receive from the shim"))?,
        }
    };
    if message.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    let control = message.cmsgs().map_err(Error::system("descriptors from the shim"))?;
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

/// Reads one JSON message to the end of the other's sending side.
/// `process` names who should have written it, for the error when it did not.
pub fn read<T: DeserializeOwned>(
    connection: &UnixStream,
    process: &'static str,
) -> Result<T, Error> {
    let mut bytes = Vec::new();
    connection
        .take(limits::MESSAGE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read a message"))?;
    if bytes.is_empty() {
        return Err(Error::Gone { process });
    }
    serde_json::from_slice(&bytes).map_err(Error::malformed("decode a message"))
}
