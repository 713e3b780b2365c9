//! Hostile guests (`images/hostile`) that exhaust something. Each fails with an error that names what it was, and neither
//! the shim nor another container of the Pod notices. `grants` and `http` have those that reach for more than is theirs.

use std::fs;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tests::containerd::repository;
use tests::wait::{self, EVENTUALLY, SOON};
use tests::{Container, Node, Pod, RunningContainer, RunningPod, on_each_containerd};

use crate::clients;
use crate::pod::{LISTEN, PORT};

const MIB: i64 = 1 << 20;
const MAX_REQUESTS: &str = "wasmtime.shim/http-max-requests";
const MAX_MEMORY: &str = "wasmtime.shim/max-memory";
const TIMEOUT: &str = "wasmtime.shim/timeout";
const LOG_RATE: &str = "wasmtime.shim/log-rate";

/// Port of another server in the Pod.
const BESIDE: u16 = 8081;

/// Directory of the hostile guests in their containers.
const GUESTS: &str = "/hostile";

/// A container with a hostile guest.
pub fn hostile(node: &Node, name: &str) -> Result<Container> {
    let container = Container::new(name, &node.image("hello")?);
    Ok(with_guests(container).command(&[&format!("{GUESTS}/{name}.wat")]))
}

/// The container with all hostile guests as files.
fn with_guests(container: Container) -> Container {
    container.readonly_mount(&repository().join("images/hostile"), GUESTS)
}

/// What must go on: another container of the Pod, and the shim.
struct Others<'a> {
    pod: &'a RunningPod<'a>,
    neighbour: RunningContainer<'a>,
    shim: i32,
}

impl<'a> Others<'a> {
    fn start(node: &Node, pod: &'a RunningPod<'a>) -> Result<Others<'a>> {
        let neighbour = Container::new("neighbour", &node.image("hello")?);
        let neighbour = pod.run(&neighbour.args(&["sleep", "1000"]))?;
        Ok(Others { pod, neighbour, shim: pod.shim()?.pid })
    }

    fn assert_unharmed(&self) -> Result<()> {
        assert_eq!(self.neighbour.exec(&["/hello.wasm"])?.success()?.stdout, "hello from wasi\n");
        assert!(self.neighbour.is_running()?);
        assert_eq!(self.pod.shim()?.pid, self.shim);
        Ok(())
    }
}

#[test]
fn a_guest_that_exhausts_something_fails_alone_and_by_the_right_error() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("exhausting"))?;
        let others = Others::start(node, &pod)?;
        for (name, code, error) in [
            ("tables", 9, "resources.limits.memory"),
            ("resources", 134, "cannot allocate another handle"),
            ("recursion", 134, "call stack exhausted"),
        ] {
            let guest = pod.run(&hostile(node, name)?.memory_limit(96 * MIB))?;
            let (exit, logs) = (guest.wait()?, guest.logs()?);
            assert_eq!(exit.code, code, "{name}: {exit:?}, {logs:?}");
            assert!(logs.stderr.contains(error), "{name}: {logs:?}");
            others.assert_unharmed().with_context(|| name.to_owned())?;
        }
        Ok(())
    })
}

/// Error of WASI 0.1 for a process that has as many open files as it may have.
const MFILE: i32 = 33;

#[test]
fn a_guest_that_opens_a_file_again_and_again_gets_the_error_of_its_limit() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("handles"))?;
        let others = Others::start(node, &pod)?;
        // A node's own limit may be a million files. The memory for so many would exceed the container's first, and the
        // guest would be killed (137). That for 256 is far below.
        pod.limit_files(256)?;
        let guest = pod.run(&hostile(node, "handles")?.memory_limit(96 * MIB))?;
        let exit = guest.wait()?;
        assert_eq!(exit.code, MFILE, "{exit:?}, {:?}", guest.logs()?);
        others.assert_unharmed()
    })
}

#[test]
fn a_flood_of_lines_is_cut_to_its_rate_and_ended_in_time() -> Result<()> {
    on_each_containerd(|node| {
        let pod = Pod::new("flood").annotation(TIMEOUT, "3s").annotation(LOG_RATE, "50");
        let pod = node.run_pod(&pod)?;
        let shim = pod.shim()?.pid;
        let since = Instant::now();
        let guest = pod.run(&hostile(node, "flood")?)?;
        // Others are served meanwhile.
        assert_eq!(guest.exec(&["/hello.wasm"])?.success()?.stdout, "hello from wasi\n");
        let (exit, logs) = (guest.wait()?, guest.logs()?);
        assert_eq!(exit.code, 124, "{exit:?}, {}", logs.stderr);
        assert!(since.elapsed() < wait::patient(Duration::from_secs(60)));
        let limit = format!(
            "error: the guest was ended after 3s, its time limit (annotation of the Pod, {TIMEOUT})"
        );
        assert!(logs.stderr.contains(&limit), "{}", logs.stderr);
        let lines = logs.stdout.lines().count();
        assert!((100..=250).contains(&lines), "{lines} lines");
        let report =
            format!("dropped: the guest may write 50 a second (annotation of the Pod, {LOG_RATE})");
        let reports: Vec<&str> =
            logs.stderr.lines().filter(|line| line.ends_with(&report)).collect();
        let count = |line: &&str| line.split(' ').nth(1)?.parse::<u64>().ok();
        let dropped: u64 = reports.iter().filter_map(count).sum();
        // A million of these lines are 64 MB.
        assert!(reports.len() >= 2 && dropped > 100_000, "{dropped}: {}", logs.stderr);
        assert_eq!(pod.shim()?.pid, shim);
        Ok(())
    })
}

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(3);

/// Memory of a shim at most, in KiB: twice what it has otherwise.
const SHIM: u64 = 32 << 10;

/// Length of a flood at least, in bytes, so that a shim that kept it would have far more memory.
const FLOODED: u64 = 64 << 20;

impl Others<'_> {
    /// Checks that others are served, and how much memory the shim has, again and again as long as the flood lasts.
    fn outlast(&self, lasts: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        loop {
            self.assert_unharmed()?;
            assert_eq!(self.pod.http_get(PORT, "/")?.status, 200);
            let memory = self.pod.shim()?.memory()?;
            assert!(memory.rss < SHIM, "{memory:?}");
            if !lasts()? {
                return Ok(());
            }
            ensure!(start.elapsed() < wait::patient(EVENTUALLY), "the flood lasts too long");
        }
    }
}

#[test]
fn a_flood_without_a_rate_fills_no_memory_of_the_shim_and_is_stopped_in_time() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("unlimited"))?;
        let others = Others::start(node, &pod)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let guest = pod.run(&hostile(node, "flood")?)?;
        let start = Instant::now();
        others.outlast(|| Ok(start.elapsed() < FLOOD || guest.logged()? < FLOODED))?;
        let start = Instant::now();
        let exit = guest.stop(Duration::from_secs(1))?;
        assert!(start.elapsed() < wait::patient(SOON), "{:?}", start.elapsed());
        assert_eq!(exit.code, 143, "{exit:?}");
        others.assert_unharmed()
    })
}

#[test]
fn a_flood_of_an_exec_process_is_kept_by_nobody_and_ends_with_its_time() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("executed"))?;
        let others = Others::start(node, &pod)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let app = Container::new("app", &node.image("hello")?).args(&["sleep", "1000"]);
        let app = pod.run(&with_guests(app))?;
        let flood = format!("{GUESTS}/flood.wat");
        let flooded = thread::scope(|scope| {
            let flooding = scope.spawn(|| app.exec_within(FLOOD, &[&flood]));
            let outlasted = others.outlast(|| Ok(!flooding.is_finished()));
            let flooded = flooding.join().expect("no panic");
            outlasted.map(|()| flooded)
        })?;
        let error = format!("{:#}", flooded.err().context("the flood has ended by itself")?);
        assert!(error.contains("timeout"), "{error}");
        others.assert_unharmed()?;
        assert!(app.is_running()?);
        Ok(())
    })
}

/// Requests at a time, whose answers go on until their clients are gone, and the heads of these answers.
fn storm(pod: &RunningPod) -> Result<(Vec<TcpStream>, Vec<String>)> {
    const REQUESTS: usize = 64;
    let request = "GET /events HTTP/1.1\r\nhost: test\r\n\r\n";
    let clients = thread::scope(|scope| {
        let sending = [(); REQUESTS].map(|()| scope.spawn(|| clients::send(pod, request)));
        sending.map(|sending| sending.join().expect("no panic"))
    });
    let mut clients = clients.into_iter().collect::<Result<Vec<_>>>()?;
    let heads = clients.iter_mut().map(|client| clients::read_to(client, "\r\n\r\n"));
    let heads = heads.collect::<Result<_>>()?;
    Ok((clients, heads))
}

#[test]
fn a_storm_of_requests_gets_the_instances_that_there_may_be_and_others_are_served() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello-http")?;
        let neighbours = node.run_pod(&Pod::new("neighbours"))?;
        neighbours.run(&Container::new("server", &image))?;
        // An instance of this guest begins with more than one MiB.
        for (name, key, value, instances) in
            [("many", MAX_REQUESTS, "4", 4..=4), ("large", MAX_MEMORY, "8Mi", 1..=7)]
        {
            let pod = node.run_pod(&Pod::new(name).annotation(key, value))?;
            let others = Others::start(node, &pod)?;
            let server = pod.run(&Container::new("server", &image).memory_limit(96 * MIB))?;
            let beside = format!("127.0.0.1:{BESIDE}");
            pod.run(&Container::new("beside", &image).env(LISTEN, &beside))?;
            assert_eq!(pod.http_get(PORT, "/")?.status, 200);
            let process = server.process()?.pid;
            let (clients, heads) = storm(&pod)?;
            let (served, refused): (Vec<_>, Vec<_>) =
                heads.iter().partition(|head| head.starts_with("HTTP/1.1 200 "));
            assert!(instances.contains(&served.len()), "{name}: {heads:?}");
            for head in refused {
                assert!(head.starts_with("HTTP/1.1 503 "), "{name}: {head}");
                assert!(head.contains("\r\nretry-after: 1\r\n"), "{name}: {head}");
            }
            assert_eq!(pod.http_get(PORT, "/")?.status, 503, "{name}");
            assert_eq!(pod.http_get(BESIDE, "/")?.status, 200, "{name}");
            assert_eq!(neighbours.http_get(PORT, "/")?.status, 200, "{name}");
            others.assert_unharmed()?;
            drop(clients);
            wait::until(SOON, "room for a request", || {
                Ok((pod.http_get(PORT, "/")?.status == 200).then_some(()))
            })?;
            assert_eq!(server.process()?.pid, process, "{name}");
        }
        Ok(())
    })
}

#[test]
fn a_busy_loop_ends_when_its_time_is_over_wherever_it_is_called() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("busy").annotation(TIMEOUT, "2s"))?;
        let looping = pod.run(&hostile(node, "opens")?)?;
        let (exit, logs) = (looping.wait()?, looping.logs()?);
        assert_eq!(exit.code, 124, "{exit:?}, {logs:?}");
        // A server has no such end itself.
        let server = Container::new("server", &node.image("hello-http")?);
        let server = pod.run(&with_guests(server))?;
        let called = server.exec(&[&format!("{GUESTS}/opens.wat#loop")])?;
        assert_eq!(called.code, 124, "{called:?}");
        assert!(called.stderr.contains("its time limit"), "{called:?}");
        assert!(server.is_running()?);
        let next = pod.run(&Container::new("next", &node.image("hello")?))?;
        assert_eq!(next.wait()?.code, 0, "{:?}", next.logs()?);
        Ok(())
    })
}

#[test]
fn a_link_that_is_swapped_under_a_guest_never_leads_it_out_of_its_directory() -> Result<()> {
    on_each_containerd(|node| {
        let (data, outside) = (node.volume("data")?, node.volume("outside")?);
        fs::create_dir(data.join("swap"))?;
        fs::write(data.join("swap/name"), "inside")?;
        fs::write(outside.join("name"), "outside")?;
        std::os::unix::fs::symlink("../outside", data.join("other"))?;
        let pod = node.run_pod(&Pod::new("race").annotation("wasmtime.shim/files", "/data=ro"))?;
        let race = hostile(node, "race")?.mount(&data, "/data").mount(&outside, "/outside");
        let is_over = AtomicBool::new(false);
        let exit = thread::scope(|scope| {
            let swapping = scope.spawn(|| -> Result<u64> {
                let mut swaps = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let (one, other) = (data.join("swap"), data.join("other"));
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE)?;
                    swaps += 1;
                }
                Ok(swaps)
            });
            let exit = pod.run(&race).and_then(|guest| Ok((guest.wait()?, guest.logs()?)));
            is_over.store(true, Ordering::Relaxed);
            let swaps = swapping.join().expect("no panic")?;
            assert!(swaps > 100, "{swaps} swaps");
            exit
        });
        let (exit, logs) = exit?;
        assert_eq!(exit.code, 0, "{exit:?}, {logs:?}");
        assert!(logs.stderr.contains("denied: file \"/data/swap/name\""), "{logs:?}");
        Ok(())
    })
}
