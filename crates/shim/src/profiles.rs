//! Socket on which a guest is asked for a profile of itself. It is in the guest's bundle, and is removed with it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect as connect_to,
    listen as listen_on, socket,
};

use crate::errors::Error;

const NAME: &str = "profile.sock";

/// Number of connections that wait while another profile is taken. Further ones are refused.
const WAITING: i32 = 1;

/// Listens on the socket, for the guest.
pub fn listen(bundle: &Path) -> Result<UnixListener, Error> {
    // A socket may be left of a Create that failed, with the same bundle.
    let _ = std::fs::remove_file(bundle.join(NAME));
    let listening = within(bundle, |address| {
        let socket = new_socket(SockFlag::empty())?;
        bind(socket.as_raw_fd(), address)?;
        listen_on(&socket, Backlog::new(WAITING)?)?;
        Ok(UnixListener::from(socket))
    });
    listening.map_err(Error::io("listen for requests for a profile"))
}

/// Connects to the socket, to ask for a profile. Does not block.
pub fn connect(bundle: &Path) -> Result<UnixStream, Error> {
    let connected = within(bundle, |address| {
        let socket = new_socket(SockFlag::SOCK_NONBLOCK)?;
        connect_to(socket.as_raw_fd(), address)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    });
    connected.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => Error::Busy,
        _ => Error::io("ask for a profile")(error),
    })
}

fn new_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)
}

/// Address of the socket, through a descriptor, because a bundle's path may be longer than a socket's (unix(7)).
fn within<T>(bundle: &Path, act: impl FnOnce(&UnixAddr) -> io::Result<T>) -> io::Result<T> {
    let directory = File::open(bundle)?;
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(NAME);
    act(&UnixAddr::new(&path)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_bundle_of_a_long_name_has_its_socket_even_a_second_time() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let bundle = directory.path().join("b".repeat(120));
        std::fs::create_dir(&bundle).expect("a bundle");
        drop(listen(&bundle).expect("listens"));
        let listener = listen(&bundle).expect("listens again");
        connect(&bundle).expect("connects").write_all(b"asked").expect("asks");
        let mut text = String::new();
        listener.accept().expect("is asked").0.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "asked");
    }

    #[test]
    fn a_request_to_a_busy_guest_is_refused_at_once() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let listener = listen(directory.path()).expect("listens");
        let mut waiting = Vec::new();
        let refused = loop {
            match connect(directory.path()) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert!(refused.to_string().contains("profile") && waiting.len() <= 2, "{refused}");
        drop(listener);
    }
}
