//! A native server with the same function: hyper, on one thread or on one for each processor.

use std::convert::Infallible;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// The same answer as the guest's.
const ANSWER: &[u8] = b"hello from wasi:http\n";

type Body = Either<Incoming, Full<Bytes>>;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Native {
    /// Port on loopback.
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Native {
    fn drop(&mut self) {
        // If nothing receives this, the server has ended.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Serves on that processor alone, or with a thread for each processor.
pub fn serve(processor: Option<&str>) -> Result<Native> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let (stop, stopped) = oneshot::channel();
    let processor = processor.map(str::parse::<usize>).transpose()?;
    let (started, begun) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let tokio = confined(processor);
        let served = tokio.and_then(|tokio| {
            tokio.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let _ = started.send(Ok(()));
                tokio::select! {
                    () = accept(listener) => {}
                    _ = stopped => {}
                }
                Ok(())
            })
        });
        // During the start, the caller receives the error. Later errors are dropped.
        let _ = served.map_err(|error| started.send(Err(error)));
    });
    begun.recv().map_err(|_| anyhow!("the native server has ended"))??;
    Ok(Native { port, stop: Some(stop), thread: Some(thread) })
}

fn confined(processor: Option<usize>) -> Result<tokio::runtime::Runtime> {
    let tokio = match processor {
        Some(processor) => {
            let mut set = CpuSet::new();
            set.set(processor)?;
            sched_setaffinity(Pid::from_raw(0), &set).context("sched_setaffinity")?;
            Builder::new_current_thread().enable_all().build()
        }
        None => Builder::new_multi_thread().enable_all().build(),
    };
    tokio.context("start the event loop")
}

async fn accept(listener: tokio::net::TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let _ = stream.set_nodelay(true);
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(match request.uri().path() {
        "/echo" => Either::Left(request.into_body()),
        _ => Either::Right(Full::from(ANSWER)),
    }))
}
