//! Compilations that take longer than their caller waits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::ttrpc::Code;
use tests::processes::family;
use tests::shim::Bundle;
use tests::wait::{self, EVENTUALLY, SOON};
use tests::{Container, Pod, on_each_containerd};

use super::{limited, runs_to_its_end, says_after, slow_guest};
use crate::composing::code;
use crate::shim::{ends, granted};
use crate::warming::large;

/// Inodes of the files of the cache: the lock, and compiled code.
fn kept(bundle: &Bundle) -> Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(bundle.cache())? {
        inodes.push(entry?.metadata()?.ino());
    }
    Ok(inodes)
}

#[test]
fn a_compilation_goes_on_when_the_caller_s_time_is_up_and_the_next_attempt_has_its_code()
-> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = slow_guest(&bundle)?;
    let shim = bundle.start()?;
    let limit = Duration::from_secs(2);
    let refusal = shim.create_within(limit, &request).expect_err("is refused");
    assert_eq!(refusal.code, Code::UNAVAILABLE, "{refusal:?}");
    assert!(says_after(&refusal, "/app.wasm: still being compiled after", limit), "{refusal:?}");
    let code = || Ok(Some(kept(&bundle)?).filter(|kept| kept.len() == 2));
    // The worker leaves the processors to others, so it may take long.
    let code = wait::until(EVENTUALLY, "code to be kept", code)?;

    granted(shim.create(&request))?;
    assert_eq!(kept(&bundle)?, code, "compiled again");
    runs_to_its_end(&shim, bundle)
}

#[test]
fn why_a_compilation_failed_that_nobody_waited_for_is_told_to_the_next_attempt() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    let expected = limited(&mut bundle);
    let request = slow_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal =
        shim.create_within(Duration::from_millis(1500), &request).expect_err("is refused");
    assert!(refusal.message.contains("still being compiled"), "{refusal:?}");
    wait::until(SOON, "the worker to be ended", || {
        let family = family(&bundle.shim()?);
        Ok(family.iter().all(|process| process.name != "wasm-compile").then_some(()))
    })?;
    let refusal =
        shim.create_within(Duration::from_millis(1500), &request).expect_err("is refused");
    assert!(refusal.message.contains(&expected), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn kubelet_is_told_that_a_guest_is_still_being_compiled_and_runs_it_later() -> Result<()> {
    on_each_containerd(|node| {
        let image = large(node, "slow", 8000)?;
        let pod = node.run_pod(&Pod::new("slow"))?;
        let first = pod.create(&Container::new("first", &image))?;
        let error = first.start_within(Duration::from_secs(2)).err().context("was started")?;
        let text = format!("{error:#}");
        assert!(text.contains("still being compiled after"), "{text}");
        first.remove()?;
        let exit = pod.run(&Container::new("second", &image))?.wait()?;
        assert_eq!((exit.code, code(node)?.len()), (0, 1));
        Ok(())
    })
}
