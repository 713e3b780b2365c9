//! Sends HTTP requests to a server in a Pod, from inside the Pod's network namespace.

use std::path::Path;

use anyhow::{Context, Result};

use crate::command;
use crate::wait::{self, SOON};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status, such as 200.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// curl's exit code if nothing listens.
const CONNECTION_REFUSED: i32 = 7;

/// Sends `GET http://127.0.0.1:PORT/PATH` in that namespace. Tries again until something listens.
pub fn get(namespace: &Path, port: u16, path: &str) -> Result<Response> {
    send(namespace, port, path, &[])
}

/// Sends the file in a POST, in chunks.
pub fn post(namespace: &Path, port: u16, path: &str, file: &Path) -> Result<Response> {
    let data = format!("@{}", file.display());
    let chunked = ["--header", "Transfer-Encoding: chunked", "--header", "Expect:"];
    send(namespace, port, path, &[&chunked[..], &["--data-binary", &data]].concat())
}

/// As [`get`], with flags for curl.
pub fn send(namespace: &Path, port: u16, path: &str, flags: &[&str]) -> Result<Response> {
    let url = format!("http://127.0.0.1:{port}{path}");
    wait::until(SOON, &format!("a server at {url}"), || try_send(namespace, &url, flags))
        .with_context(|| format!("{url} in {}", namespace.display()))
}

fn try_send(namespace: &Path, url: &str, flags: &[&str]) -> Result<Option<Response>> {
    let namespace = format!("--net={}", namespace.display());
    let curl = ["curl", "--silent", "--show-error", "--max-time", "30", "--noproxy", "*"];
    let args = [&namespace].into_iter().map(String::as_str).chain(curl);
    let args = args.chain(flags.iter().copied());
    let output = command::run("nsenter", args.chain(["--write-out", "\n%{http_code}", url]))?;
    if output.code == CONNECTION_REFUSED {
        return Ok(None);
    }
    let stdout = output.success()?.stdout;
    let (body, status) = stdout.rsplit_once('\n').context("curl printed no status")?;
    Ok(Some(Response { status: status.parse()?, body: body.to_owned() }))
}
