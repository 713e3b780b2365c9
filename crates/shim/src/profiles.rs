//! Where a guest is asked for a profile of itself: a socket in its bundle, which goes with the bundle.

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

/// Who waits while another's profile is taken: whoever comes then is told so.
const WAITING: i32 = 1;

/// The guest's end.
pub fn listen(bundle: &Path) -> Result<UnixListener, Error> {
    // Of a container that could not be made; its bundle may be tried again.
    let _ = std::fs::remove_file(bundle.join(NAME));
    let listening = within(bundle, |address| {
        let socket = new_socket(SockFlag::empty())?;
        bind(socket.as_raw_fd(), address)?;
        listen_on(&socket, Backlog::new(WAITING)?)?;
        Ok(UnixListener::from(socket))
    });
    listening.map_err(Error::io("listen for who asks for a profile"))
}

/// The end of who asks. Does not block.
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

/// A bundle's path may be longer than a socket's may be (unix(7)).
fn within<T>(bundle: &Path, act: impl FnOnce(&UnixAddr) -> io::Result<T>) -> io::Result<T> {
    let folder = File::open(bundle)?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(NAME);
    act(&UnixAddr::new(&path)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_bundle_of_a_long_name_has_its_socket_even_a_second_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let bundle = folder.path().join("b".repeat(120));
        std::fs::create_dir(&bundle).expect("a bundle");
        drop(listen(&bundle).expect("listens"));
        let listener = listen(&bundle).expect("listens again");
        connect(&bundle).expect("connects").write_all(b"asked").expect("asks");
        let mut text = String::new();
        listener.accept().expect("is asked").0.read_to_string(&mut text).expect("reads");
        assert_eq!(text, "asked");
    }

    #[test]
    fn whoever_asks_a_busy_guest_is_told_so_at_once() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let listener = listen(folder.path()).expect("listens");
        let mut waiting = Vec::new();
        let refused = loop {
            match connect(folder.path()) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert!(refused.to_string().contains("profile") && waiting.len() <= 2, "{refused}");
        drop(listener);
    }
}
