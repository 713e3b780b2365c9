//! Graceful termination: SIGTERM, the time for a clean end, and SIGKILL.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use tests::shim::Bundle;
use tests::wait::patient;
use tests::{Container, Pod, on_each_containerd};

use crate::shim::{ends, granted};

/// More time than a process needs that reacts to SIGTERM.
const GRACE: Duration = Duration::from_secs(60);

/// Longest time of "at once" on a loaded machine, far below [`GRACE`].
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn a_server_ends_cleanly_on_sigterm() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("server"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        pod.http_get(crate::pod::PORT, "/")?;
        let start = Instant::now();
        assert_eq!(server.stop(patient(GRACE))?.code, 0, "{:?}", server.logs()?);
        assert!(start.elapsed() < patient(AT_ONCE), "it took {:?}", start.elapsed());
        Ok(())
    })
}

#[test]
fn commands_end_on_sigterm_whether_they_sleep_or_compute() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("commands"))?;
        let hello = node.image("hello")?;
        for (args, output) in [(["sleep", "1000"].as_slice(), "sleeping"), (&["spin"], "spinning")]
        {
            let command = pod.run(&Container::new(args[0], &hello).args(args))?;
            command.wait_for_output(output)?;
            let start = Instant::now();
            assert_eq!(command.stop(patient(GRACE))?.code, 143, "{args:?}: {:?}", command.logs()?);
            assert!(start.elapsed() < patient(AT_ONCE), "{args:?} took {:?}", start.elapsed());
        }
        Ok(())
    })
}

#[test]
fn a_sigterm_that_comes_before_the_guest_has_begun_is_not_lost() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("early"))?;
        let container = Container::new("app", &node.image("hello")?).args(&["sleep", "1000"]);
        let app = pod.run(&container)?;
        assert_eq!(app.stop(patient(GRACE))?.code, 143, "{:?}", app.logs()?);
        Ok(())
    })
}

#[test]
fn without_a_grace_period_a_guest_is_killed() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("killed"))?;
        let container = Container::new("app", &node.image("hello")?).args(&["sleep", "1000"]);
        let app = pod.run(&container)?;
        assert_eq!(app.stop(Duration::ZERO)?.code, 137);
        Ok(())
    })
}

#[test]
fn a_created_container_that_never_started_is_removed_with_its_pod() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("unstarted"))?;
        pod.create(&Container::new("app", &node.image("hello")?))?;
        pod.stop()?;
        pod.remove()
    })
}

#[test]
fn a_container_whose_output_nobody_reads_is_stopped_as_soon_as_it_ends() -> Result<()> {
    let bundle = Bundle::shell("trap 'exit 7' TERM; echo unread; while :; do sleep 0.1; done")?;
    let (id, path) = (bundle.id.as_str(), bundle.fifo("stdout")?);
    let shim = bundle.start()?;
    let stdout = path.display().to_string();
    granted(shim.create(&CreateTaskRequest { stdout, ..bundle.create_request() }))?;
    // The reader is connected, but does not read.
    let _reader = File::open(&path)?;
    granted(shim.start(id))?;
    sleep(Duration::from_millis(500));
    let start = Instant::now();
    granted(shim.kill(id, 15))?;
    assert_eq!(shim.wait(id), Ok(7));
    assert!(
        start.elapsed() < patient(Duration::from_millis(1500)),
        "it took {:?}",
        start.elapsed()
    );
    assert_eq!(shim.delete(id), Ok(7));
    ends(&shim, &bundle)?;
    bundle.close()
}
