//! A kubectl that serves a loopback port until it is ended: `proxy`, `port-forward`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::Response;
use crate::wait::SOON;

/// How long it may serve, in seconds.
const LIMIT: &str = "300";

/// The running program; dropped, it is ended.
#[derive(Debug)]
pub struct Background {
    child: Child,
    // What it prints later has to have somewhere to go.
    _stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Background {
    /// Starts it, and reads on which port it serves from the first line it prints.
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

    /// Sends a GET and returns the answer. HTTP 1.0, so that its end is the connection's.
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
        // `timeout` passes SIGTERM on; of SIGKILL the program would know nothing.
        if let Ok(pid) = self.child.id().try_into() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}
