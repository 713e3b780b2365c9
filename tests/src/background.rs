//! Runs a kubectl that serves a loopback port until it is ended: `proxy` or `port-forward`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::Response;
use crate::wait::SOON;

/// Time limit for serving, in seconds.
const LIMIT: &str = "300";

/// The running program. It is ended when this value is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    // The program's later output needs an open pipe.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Background {
    /// Starts the program, and reads the port from the first line that it prints.
    pub(crate) fn start(command: &Command) -> Result<Self> {
        let mut child = Command::new("timeout")
            .arg(LIMIT)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("the program has no output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line.split_whitespace().find_map(|word| word.parse().ok());
        let address = address.with_context(|| format!("{command:?} names no address: {line:?}"))?;
        Ok(Self { child, _stdout: stdout, address })
    }

    /// Sends a GET and returns the answer. HTTP 1.0 is used so that the answer ends with the connection.
    pub fn get(&self, path: &str) -> Result<Response> {
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(SOON))?;
        write!(connection, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).with_context(|| format!("GET {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("the answer has no status: {head}"))?;
        Ok(Response { status, body: body.to_owned() })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // `timeout` passes SIGTERM on to the program, but it cannot pass on SIGKILL.
        if let Ok(pid) = self.child.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}
