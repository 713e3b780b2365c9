//! Compiled code on the node: it is shared by the containers of a guest, removed with its image, and complete even if processes are
//! killed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::processes::{Process, family};
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Pod, on_each_containerd};

use crate::compiling::guest;
use crate::shim::granted;

#[test]
fn containers_of_an_image_share_its_code_which_goes_with_the_image() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello-http")?;
        let mut pods = Vec::new();
        for name in ["one", "two", "three"] {
            let pod = node.run_pod(&Pod::new(name))?;
            let guest = pod.run(&Container::new("app", &image))?;
            assert_eq!(pod.http_get(8080, "/")?.status, 200);
            pods.push((pod, guest));
        }
        let mapped = pods
            .iter()
            .map(|(_, guest)| guest.process()?.mapped(&node.blobs()))
            .collect::<Result<Vec<_>>>()?;
        for one in &mapped {
            assert_eq!(one.inode, mapped[0].inode, "not of one file: {mapped:?}");
            assert!(one.private * 5 <= one.resident, "less than 80 % is shared: {mapped:?}");
        }
        for (pod, _) in pods {
            pod.remove()?;
        }

        for name in node.ctr.lines("k8s.io", "images list --quiet")? {
            node.ctr.run("k8s.io", &["images", "remove", "--sync", &name])?.success()?;
        }
        let left = fs::read_dir(node.blobs())?.count();
        assert_eq!(left, 0, "blobs without an image");
        Ok(())
    })
}

/// Number of moments of a Create at which its processes are killed.
const MOMENTS: u32 = 100;

/// Number of functions of the guest that is compiled.
const FUNCTIONS: usize = 20;

/// Kills the shim and its children, and runs the delete action, as containerd does.
pub fn kill(bundle: &Bundle, processes: &[Process]) -> Result<()> {
    processes.iter().for_each(|process| drop(process.kill(Signal::SIGKILL)));
    // A container that was made already stays, for the delete action. The shim keeps its socket open while one of its threads is
    // in a system call, and the start of another shim would return its address.
    let threads = |process: &Process| {
        fs::read_dir(format!("/proc/{}/task", process.pid)).map_or(0, |threads| threads.count())
    };
    let gone = |process: &Process| Process::at(process.pid).is_none() && threads(process) <= 1;
    wait::until(SOON, "the shim to end", || Ok(processes.iter().all(gone).then_some(())))?;
    let folder = bundle.folder.display().to_string();
    let deleted = bundle.execute(&["-bundle", &folder, "delete"])?;
    deleted.success().map(drop).context("clean up after the killed shim")
}

/// How long it takes if no process is killed.
fn time_of_create(bundle: &Bundle) -> Result<Duration> {
    let shim = bundle.start()?;
    let request = guest(bundle, 0, FUNCTIONS)?;
    let before = Instant::now();
    granted(shim.create(&request))?;
    let time = before.elapsed();
    kill(bundle, &family(&bundle.shim()?))?;
    Ok(time)
}

#[test]
fn killed_at_any_moment_a_create_leaves_no_half_written_code() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let whole = time_of_create(&bundle)?;
    let mut killed_in_time = 0;
    for moment in 1..=MOMENTS {
        let after = whole * moment / MOMENTS;
        let request = guest(&bundle, moment, FUNCTIONS)?;
        let shim = bundle.start()?;
        let processes = family(&bundle.shim()?);
        let made = thread::scope(|scope| {
            let create = scope.spawn(|| shim.create(&request));
            thread::sleep(after);
            kill(&bundle, &processes).map(|()| create.join().expect("no panic").is_ok())
        })?;
        killed_in_time += u32::from(!made);

        let shim = bundle.start()?;
        granted(shim.create(&request))?;
        granted(shim.start(&bundle.id))?;
        assert_eq!(shim.wait(&bundle.id), Ok(0), "after {after:?}");
        let kept = fs::read_dir(bundle.cache())?.count();
        // The lock's file, and one for each guest, of which the first was made to see how long it takes.
        assert_eq!(kept, 2 + usize::try_from(moment)?, "after {after:?}");
        // The shim would try for seconds to send the event to a containerd that does not run.
        kill(&bundle, &family(&bundle.shim()?))?;
    }
    assert!(killed_in_time > 0, "each of {MOMENTS} was made before it was killed");
    bundle.close()
}
