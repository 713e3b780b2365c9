//! A TCP connection whose reads and writes end at a deadline, however little arrives at a time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The connection.
pub struct Socket {
    stream: TcpStream,
    deadline: Instant,
}

impl Socket {
    /// Connects within that time. Its deadline has passed until another one is set.
    pub fn connect(address: SocketAddr, time: Duration) -> io::Result<Socket> {
        let stream = TcpStream::connect_timeout(&address, time)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Socket { stream, deadline: Instant::now() })
    }

    /// Sets the end of all reads and writes from now on.
    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether there is nothing to read: the server has neither closed the connection nor sent something
    /// that is no reply to a command.
    pub fn is_quiet(&self) -> bool {
        let mut sockets = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut sockets, PollTimeout::ZERO) == Ok(0)
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            // Not less than is left.
            let left = PollTimeout::try_from(left + Duration::from_millis(1));
            let mut sockets = [PollFd::new(self.stream.as_fd(), events)];
            match poll(&mut sockets, left.unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does it again and again until it need not wait.
    fn until_ready(
        &mut self,
        events: PollFlags,
        mut work: impl FnMut(&mut TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match work(&mut self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(events)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Otherwise a server that sends without end would never be cut off.
        if Instant::now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        self.until_ready(PollFlags::POLLIN, |stream| stream.read(buffer))
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_ready(PollFlags::POLLOUT, |stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_read_ends_at_its_deadline_and_a_closed_connection_is_not_quiet() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut socket = Socket::connect(address, Duration::from_secs(5)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        socket.set_deadline(Instant::now() + Duration::from_millis(50));
        let mut buffer = [0; 8];
        let kind = socket.read(&mut buffer).expect_err("nothing was sent").kind();
        assert_eq!(kind, ErrorKind::TimedOut);
        assert!(socket.is_quiet());

        socket.set_deadline(Instant::now() + Duration::from_secs(5));
        server.write_all(b"x").unwrap();
        assert_eq!(socket.read(&mut buffer).unwrap(), 1);
        drop(server);
        assert_eq!(socket.read(&mut buffer).unwrap(), 0);
        assert!(!socket.is_quiet());
    }
}
