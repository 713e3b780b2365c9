//! Stories about Pods in a real Kubernetes: what a user applies, and what they see.
//!
//! All stories run on one cluster, each in a namespace of its own. Those that do not disturb each other run first, side
//! by side. Then those in `crowd` and `faults` run one after the other, because they need the node for themselves or
//! end parts of it. They take a while, and run only with `--include-ignored`. At the end nothing of the cluster may be
//! left on the machine.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

mod chart;
mod crowd;
mod faults;
mod given;
mod images;
mod interactive;
mod limits;
mod lives;
mod pods;
mod policy;
mod refusals;
mod rollout;
mod samples;
mod seen;
mod sharing;
mod volumes;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use tests::cluster::Cluster;
use tests::namespace::Namespace;

/// Something that a user does, and what comes of it.
type Story = fn(&Namespace<'_>) -> Result<()>;

/// Stories by name.
type Stories = &'static [(&'static str, Story)];

/// What the stories' Pods have, once the node has it.
const IMAGES: [&str; 5] = ["hello", "hello-http", "hello-c", "linux", "unknown-import"];

/// Stories for any cluster.
const ANYWHERE: [Stories; 11] = [
    given::STORIES,
    interactive::STORIES,
    lives::STORIES,
    pods::STORIES,
    policy::STORIES,
    refusals::STORIES,
    rollout::STORIES,
    samples::STORIES,
    seen::STORIES,
    sharing::STORIES,
    volumes::STORIES,
];

/// Stories that look at the node as well, and for that it has to be this machine.
const HERE: [Stories; 6] =
    [images::STORIES, limits::STORIES, refusals::HERE, samples::HERE, seen::HERE, volumes::HERE];

/// Stories that have such a node for themselves.
const ONE_BY_ONE: [Stories; 2] = [crowd::STORIES, faults::STORIES];

/// Stories that have it for themselves and are short: at the end.
const LAST: [Stories; 1] = [chart::STORIES];

/// Number of stories that run at a time. Most of their time is waiting.
const AT_A_TIME: usize = 4;

fn main() -> Result<ExitCode> {
    let mut args = Arguments::from_args();
    if args.list {
        libtest_mimic::run(&args, vec![]).exit();
    }
    args.test_threads = args.test_threads.or(Some(AT_A_TIME));
    if !Cluster::is_possible()? {
        println!("left out: Kubernetes is not built, for which Go 1.21 or newer is missing");
        return Ok(ExitCode::SUCCESS);
    }
    println!("starting a cluster, or asking one that is there");
    let cluster = Arc::new(Cluster::existing_or_new()?);
    let mut stories = ANYWHERE.concat();
    let (mut one_by_one, mut last) = (Vec::new(), Vec::new());
    if let Ok(node) = cluster.node() {
        IMAGES.iter().try_for_each(|image| node.image(image).map(drop))?;
        stories.extend(HERE.concat());
        one_by_one.extend(ONE_BY_ONE.concat());
        last.extend(LAST.concat());
    } else {
        let left_out = [HERE.concat(), ONE_BY_ONE.concat(), LAST.concat()].concat();
        let names: Vec<_> = left_out.into_iter().map(|(name, _)| name).collect();
        println!("left out, because the node is not this machine: {}", names.join(", "));
    }
    let conclusion = libtest_mimic::run(&args, trials(&cluster, &stories, false));
    let mut alone = trials(&cluster, &one_by_one, true);
    alone.extend(trials(&cluster, &last, false));
    let one_by_one = Arguments { test_threads: Some(1), ..args.clone() };
    let alone = libtest_mimic::run(&one_by_one, alone);
    let is_local = cluster.is_local();
    Arc::into_inner(cluster).expect("every story has ended").stop()?;
    if is_local {
        println!("nothing was left");
    }
    let failed = conclusion.num_failed + alone.num_failed;
    let passed = conclusion.num_passed + alone.num_passed;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn trials(cluster: &Arc<Cluster>, stories: &[(&'static str, Story)], are_slow: bool) -> Vec<Trial> {
    let trial = |&(name, story): &(&'static str, Story)| {
        let cluster = cluster.clone();
        let trial = Trial::test(name, move || tell(&cluster, name, story));
        trial.with_ignored_flag(are_slow)
    };
    stories.iter().map(trial).collect()
}

fn tell(cluster: &Cluster, name: &str, story: Story) -> Result<(), Failed> {
    let namespace = cluster.namespace(&name.replace('_', "-"))?;
    let told = story(&namespace).map_err(|error| format!("{error:?}").into());
    cluster.must(&["delete", "namespace", &namespace.name, "--wait=false"])?;
    told
}
