//! `cluster up` and `cluster down`: starts and ends a Kubernetes of one node with the shim of this build.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::cluster::{Cluster, Left};
use tests::containerd::{Containerd, repository};
use tests::{Node, interrupt};

/// Sample images, ready for Pods with `imagePullPolicy: Never`, and one that cannot run.
const IMAGES: [&str; 6] = ["hello", "hello-http", "hello-c", "hello-p3", "linux", "unknown-import"];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let done = match words.join(" ").as_str() {
        "up" => up(),
        "down" => down(),
        _ => Err(anyhow::anyhow!("usage: cluster up|down")),
    };
    interrupt::end(done)
}

fn up() -> Result<()> {
    if let Some(left) = Left::find(&record()) {
        if left.is_up() {
            println!("the cluster is up");
            return print_usage(&left);
        }
        println!("removing the rest of a cluster that has ended");
        end(left)?;
    }
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    println!("starting a Kubernetes of one node on containerd {}", containerd.version);
    interrupt::clean_up()?;
    let node = Node::start(containerd)?;
    let cluster = Cluster::on(node)?;
    for image in IMAGES {
        println!("  image {}", cluster.node()?.image(image)?);
    }
    print_usage(&cluster.leave(&record())?)
}

fn down() -> Result<()> {
    let Some(left) = Left::find(&record()) else {
        println!("there is no cluster");
        return Ok(());
    };
    end(left)?;
    println!("the cluster has ended, and nothing of it is left");
    Ok(())
}

fn end(left: Left) -> Result<()> {
    let still_there = left.end()?;
    if !still_there.is_empty() {
        bail!("left behind:\n  {}", still_there.join("\n  "));
    }
    Ok(())
}

fn print_usage(left: &Left) -> Result<()> {
    let kubectl = repository().join("target/go/cluster/kubectl");
    println!("  export KUBECONFIG={}", left.kubeconfig().display());
    println!("  {} get nodes", kubectl.display());
    Ok(())
}

/// Returns the path of the record of a running cluster.
fn record() -> PathBuf {
    repository().join("target/cluster")
}
