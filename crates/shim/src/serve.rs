//! The serving process: it forks the zygote, serves the Task service, drains, and exits.
//!
//! ```text
//! listener (from start) → logger → subreaper → zygote → runtime → service … shutdown → events → socket
//! ```
//! The order matters, because the zygote must be forked while this process has one thread. Afterwards this process only
//! forks to execute a [`logger`], or a new zygote if the first one was killed.

use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use containerd_shim::Flags;
use containerd_shim::protos::shim_async::create_task;
use containerd_shim::protos::ttrpc::asynchronous::{
    Server, Service as TtrpcService, transport::Listener,
};
use sandbox::{SingleThread, Zygote, zygote};
use tokio::signal::unix::{SignalKind, signal};

use crate::events;
use crate::guests;
use crate::start::socket_path;
use crate::stdio::logger;
use crate::task::Service;

/// Action with which the shim executes itself as a new zygote. containerd does not use it.
pub const ZYGOTE: &str = "zygote";

/// How long an idle thread for blocking work is kept. An idle Pod has none.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// Number of threads for blocking work. It must leave threads to stop the Pod if some never end, for example in a volume whose
/// server is gone.
const BLOCKING_THREADS: usize = 256;

/// How long a shim waits for its first container before it ends. There is none if containerd was killed, or did not get the
/// answer of `start`.
const FIRST_CONTAINER: Duration = Duration::from_secs(600);

/// How often a shim without containers checks whether its bundle is still there.
const BUNDLE_CHECK: Duration = Duration::from_secs(1);

/// Serves until containerd shuts the empty service down.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    begin(flags).inspect_err(|_| {
        // The bundle, with the log in it, may have been removed before this process has begun. Its error is lost then.
        let _ = std::fs::remove_file(socket_path(&flags.socket));
    })
}

fn begin(flags: &Flags) -> anyhow::Result<()> {
    let beginning = trace::span("begin to serve");
    let listener = sandbox::inherit::listener_on_stdin().context(
        "without an action this process serves; containerd runs it with the action start",
    )?;
    // It was executed through a descriptor, and would have the name of its number.
    nix::sys::prctl::set_name(c"containerd-shim").context("name this process")?;
    begin_log(flags)?;
    std::panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    nix::sys::prctl::set_child_subreaper(true).context("become the reaper of orphans")?;
    let forking = trace::span("fork the zygote");
    let single = SingleThread::check().context("fork the zygote")?;
    let zygote = Zygote::fork(single, ZYGOTE, guests::guests)?;
    drop(forking);
    // Only in this process: guests have threads that allocate all the time.
    sandbox::heap::share();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(IDLE_THREAD)
        .build()
        .context("start the runtime")?;
    drop(beginning);
    let served = runtime.block_on(serve(flags, listener, zygote));
    // A thread may hang in a volume that does not answer; it ends with the process.
    runtime.shutdown_background();
    served
}

/// Sends this process's log to the bundle's `log`, a fifo. containerd has closed it if it gave up during `start`. Opening it only
/// for writing would then block for ever, so that this process would not notice that its bundle is removed.
fn begin_log(flags: &Flags) -> anyhow::Result<()> {
    let both_ends = File::options().read(true).write(true).open("log").context("open the log")?;
    containerd_shim::logger::init(flags.debug, "info", &flags.namespace, &flags.id)?;
    drop(both_ends);
    Ok(())
}

/// Runs the `zygote` action.
pub fn run_zygote() -> anyhow::Result<()> {
    zygote::run_on_stdin(guests::guests)
        .map(|never| match never {})
        .context("the action zygote is for a shim whose zygote was killed")
}

async fn serve(flags: &Flags, listener: UnixListener, zygote: Zygote) -> anyhow::Result<()> {
    let events_address =
        std::env::var("TTRPC_ADDRESS").context("TTRPC_ADDRESS in the environment")?;
    let (events, sender) = events::connect(events_address, flags.namespace.clone());
    let containerd = PathBuf::from(&flags.address);
    let service = Service::new(flags.namespace.clone(), containerd, zygote, events.clone());
    let mut server = Server::new()
        .add_listener(Listener::try_from(listener).context("take over the listening socket")?)
        .register_service(both_versions(&service));
    server.start().await.context("start serving")?;
    trace::mark("serving");
    log::info!("serving {}", flags.socket);
    until_done(&service).await?;
    // This must come before the connection closes, because a shim with the same id may be started right afterwards.
    if let Err(error) = std::fs::remove_file(socket_path(&flags.socket)) {
        log::warn!("remove {}: {error}", flags.socket);
    }
    sender.drain(&events).await;
    tokio::task::spawn_blocking(logger::wait_for_the_last).await.context("wait for loggers")
}

/// Services for versions 2 and 3 of the API, which differ in name only.
fn both_versions(service: &Service) -> HashMap<String, TtrpcService> {
    let methods = || create_task(Arc::new(service.clone())).into_values();
    let names = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
    names
        .into_iter()
        .flat_map(|name| methods().map(move |methods| (name.to_owned(), methods)))
        .collect()
}

/// Waits for the end of the service, and reaps orphans until then. It logs and ignores SIGTERM, as runc's shim: containerd does not
/// end a shim by it, and the Pod's containers need the shim.
async fn until_done(service: &Service) -> anyhow::Result<()> {
    let mut children = signal(SignalKind::child()).context("watch for SIGCHLD")?;
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let given_up = tokio::time::sleep(FIRST_CONTAINER);
    let lost = lost(service);
    tokio::pin!(given_up, lost);
    loop {
        tokio::select! {
            // A container that was created after the shutdown is served.
            () = service.pod().done() => if service.pod().is_empty() { return Ok(()) },
            () = &mut given_up, if !given_up.is_elapsed() => if service.pod().is_empty() { return Ok(()) },
            () = &mut lost => {
                log::warn!("no container, and containerd has removed the bundle: this shim ends");
                return Ok(());
            }
            _ = children.recv() => service.pod().reap_orphans(),
            _ = terminate.recv() => log::warn!("SIGTERM ignored: stop the Pod through containerd"),
        }
    }
}

/// Returns when this shim has no container and its bundle, the working directory, was removed. containerd removes a
/// bundle when it has no address of the bundle's shim, because it was killed during `start` or could not write the
/// address to a full disk. It then never calls this shim, nor ends it.
async fn lost(service: &Service) {
    loop {
        service.pod().emptied().await;
        tokio::time::sleep(BUNDLE_CHECK).await;
        let bundle = std::env::current_dir();
        let is_removed = bundle.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if is_removed && service.pod().is_empty() {
            return;
        }
    }
}
