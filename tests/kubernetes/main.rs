//! Stories about Pods in a real Kubernetes: what a user applies, and what they see.
//!
//! All of them on one cluster, each in a namespace of its own; those in `faults`, which end parts of the cluster,
//! one after the other when the others are done. At the end nothing of the cluster may be left on the machine.
#![forbid(unsafe_code)]

mod faults;
mod given;
mod lives;
mod pods;
mod refusals;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use tests::cluster::Cluster;
use tests::namespace::Namespace;

/// Something that a user does, and what comes of it.
type Story = fn(&Namespace<'_>) -> Result<()>;

fn main() -> Result<ExitCode> {
    let args = Arguments::from_args();
    if args.list {
        libtest_mimic::run(&args, vec![]).exit();
    }
    println!("starting a cluster");
    let cluster = Arc::new(Cluster::existing_or_new()?);
    for image in ["hello", "hello-http", "hello-c", "linux", "trap", "unknown-import"] {
        cluster.node()?.image(image)?;
    }
    let peaceful = [given::STORIES, lives::STORIES, pods::STORIES, refusals::STORIES].concat();
    let conclusion = run(&args, &cluster, &peaceful);
    let one_by_one = Arguments { test_threads: Some(1), ..args };
    let faults = run(&one_by_one, &cluster, faults::STORIES);
    Arc::into_inner(cluster).expect("every story has ended").stop()?;
    println!("nothing was left");
    let failed = conclusion.num_failed + faults.num_failed;
    let passed = conclusion.num_passed + faults.num_passed;
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(args: &Arguments, cluster: &Arc<Cluster>, stories: &[(&'static str, Story)]) -> Conclusion {
    let trials = stories.iter().map(|&(name, story)| {
        let cluster = cluster.clone();
        Trial::test(name, move || tell(&cluster, name, story))
    });
    libtest_mimic::run(args, trials.collect())
}

fn tell(cluster: &Cluster, name: &str, story: Story) -> Result<(), Failed> {
    let namespace = cluster.namespace(&name.replace('_', "-"))?;
    story(&namespace).map_err(|error| format!("{error:?}").into())
}
