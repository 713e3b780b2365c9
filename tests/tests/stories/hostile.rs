//! Hostile guests (`images/hostile`) that exhaust something. Each fails with an error that names what it was, and neither
//! the shim nor another container of the Pod notices. `grants` and `http` have those that reach for more than is theirs.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tests::containerd::repository;
use tests::{Container, Node, Pod, RunningContainer, RunningPod, on_each_containerd};

const MIB: i64 = 1 << 20;
const TIMEOUT: &str = "wasmtime.shim/timeout";
const LOG_RATE: &str = "wasmtime.shim/log-rate";

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
        // Either the limit of open files ends it (mfile of WASI 0.1), or the kernel, whose memory for each counts too.
        let guest = pod.run(&hostile(node, "handles")?.memory_limit(96 * MIB))?;
        let exit = guest.wait()?;
        assert!([33, 137].contains(&exit.code), "{exit:?}, {:?}", guest.logs()?);
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
        assert!(since.elapsed() < Duration::from_secs(60));
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
