//! What Wasmtime's own server does with the same guest, outside of any container: `wasmtime serve`.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result};
use tests::containerd::repository;

/// The guest of the image `hello-http`.
const GUEST: &str = "target/images/hello-http.wasm";

/// A server, until it is dropped.
#[derive(Debug)]
pub struct WasmtimeServe {
    /// Where it listens, of the loopback address.
    pub port: u16,
    child: Child,
    /// Open, so that it may say something later; of a pipe's length it has room.
    _stderr: BufReader<ChildStderr>,
}

impl Drop for WasmtimeServe {
    fn drop(&mut self) {
        // It has ended of itself where it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves on that processor alone, or on all, with instances for so many requests each.
pub fn serve(processor: Option<&str>, reuse: u32) -> Result<WasmtimeServe> {
    let confined = processor.into_iter().flat_map(|processor| ["taskset", "-c", processor]);
    // It ends with the bench, however that ends (setpriv(1)).
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
