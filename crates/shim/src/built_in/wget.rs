//! `wget`: one GET over plain HTTP, to probe a server in the Pod.

use std::io::{self, Write};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// How long the command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Event loop of the command. tokio makes a pair of sockets for it, which the isolated process may not do once it is loaded.
///
/// # Errors
/// Of epoll_create(2) and the like.
pub fn event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Prints the body of the answer.
///
/// # Errors
/// If the URL is invalid, there is no connection, or the status is not 2xx; the body is printed all the same.
pub fn get(url: &str, tokio: &Runtime) -> io::Result<()> {
    tokio.block_on(async {
        let answer = tokio::time::timeout(LIMIT, ask(url)).await;
        answer.unwrap_or_else(|_| Err(io::Error::other(format!("{url}: no answer in {LIMIT:?}"))))
    })
}

async fn ask(url: &str) -> io::Result<()> {
    let failed = |reason: String| io::Error::other(format!("{url}: {reason}"));
    let whole = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = whole.parse().map_err(|error| failed(format!("not a URL: {error}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(failed("only http:// is spoken here".into()));
    }
    let authority = uri.authority().ok_or_else(|| failed("it names no host".into()))?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    let stream =
        TcpStream::connect((host, port)).await.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let status = answer.status();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failed(error.to_string()))?;
        if let Some(data) = frame.data_ref() {
            io::stdout().write_all(data)?;
        }
    }
    if status.is_success() { Ok(()) } else { Err(failed(format!("HTTP {status}"))) }
}
