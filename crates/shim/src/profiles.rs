//! Where a guest is asked for a profile of itself: a socket in its bundle, which goes with the bundle.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::errors::Error;

const NAME: &str = "profile.sock";

/// The guest's end.
pub fn listen(bundle: &Path) -> Result<UnixListener, Error> {
    within(bundle, |path| match UnixListener::bind(path) {
        // Of a container that could not be made; its bundle may be tried again.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        other => other,
    })
}

/// The end of who asks.
pub fn connect(bundle: &Path) -> Result<UnixStream, Error> {
    within(bundle, |path| UnixStream::connect(path))
}

/// A bundle's path may be longer than a socket's may be (unix(7)).
fn within<T>(bundle: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, Error> {
    let acted = File::open(bundle).and_then(|folder| {
        act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(NAME))
    });
    acted.map_err(Error::io("the socket for profiles"))
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
}
