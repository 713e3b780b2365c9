//! Runs Wasmtime's own server, `wasmtime serve`, with the same guest, outside of any container.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result};
use tests::containerd::repository;

/// The guest of the image `hello-http`.
const GUEST: &str = "target/images/hello-http.wasm";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct WasmtimeServe {
    /// Port on loopback.
    pub port: u16,
    child: Child,
    /// This stays open, because the server may write more. The pipe has enough room.
    _stderr: BufReader<ChildStderr>,
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        // If it cannot be killed, it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves on that processor alone, or on all of them. Each instance serves this many requests.
pub fn serve(processor: Option<&str>, reuse: u32) -> Result<WasmtimeServe> {
    let confined = processor.into_iter().flat_map(|processor| ["taskset", "-c", processor]);
    // The server ends with the bench, however the bench ends (setpriv(1)).
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(confined)
        .args(["wasmtime", "serve", "-Scli", "-Ccache=n", "--addr=127.0.0.1:0"])
        .arg(format!("--max-instance-reuse-count={reuse}"))
        .arg(repository().join(GUEST))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = BufReader::new(child.stderr.take().context("it has no stderr")?);
    let mut said = String::new();
    let read = stderr.read_line(&mut said);
    let mut server = WasmtimeServe { port: 0, child, _stderr: stderr };
    read?;
    let port = said.trim_end().trim_end_matches('/').rsplit(':').next().map(str::parse);
    server.port = port.and_then(Result::ok).with_context(|| format!("no port: {said}"))?;
    Ok(server)
}
