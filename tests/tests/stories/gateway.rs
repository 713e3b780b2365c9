//! A node with 512 MiB of memory in all, as gateways have: what fits, and what happens when it is full. `make test-node` runs this
//! on a node of that size.

use anyhow::{Context, Result, ensure};
use tests::processes::machine_memory;
use tests::{Container, Node, Pod, RunningPod, figure, on_each_containerd};

use crate::pod::PORT;

/// KiB of memory from which kubelet evicts Pods, by default (`memory.available<100Mi`).
const EVICTION: u64 = 100 << 10;

/// The most KiB of such a node. The kernel keeps some of the 512 MiB.
const GATEWAY: u64 = 512 << 10;

/// The fewest Pods of which the story says anything.
const FEWEST: usize = 20;

fn serving<'a>(node: &'a Node, name: &str, image: &str) -> Result<RunningPod<'a>> {
    let pod = node.run_pod(&Pod::new(name))?;
    pod.run(&Container::new("server", image))?;
    answers(&pod)?;
    Ok(pod)
}

fn answers(pod: &RunningPod<'_>) -> Result<()> {
    let status = pod.http_get(PORT, "/")?.status;
    ensure!(status == 200, "status {status}");
    Ok(())
}

#[test]
#[ignore = "needs a node with 512 MiB: make test-node"]
fn servers_answer_on_a_full_gateway_and_who_fills_it_up_is_killed_alone() -> Result<()> {
    let all = machine_memory("MemTotal")?;
    ensure!(
        all <= GATEWAY,
        "this node has {all} KiB: MEMORY=512 tests/node/node.sh test gateway::"
    );
    on_each_containerd(|node| {
        let image = node.image("hello-http")?;
        let hello = node.image("hello")?;
        let before = machine_memory("MemAvailable")?;
        // The guest is compiled here.
        let mut pods = vec![serving(node, "first", &image)?];
        while machine_memory("MemAvailable")? > EVICTION {
            pods.push(serving(node, &format!("further-{}", pods.len()), &image)?);
        }
        figure::note(&format!(
            "{} idle HTTP Pods in {} MiB, until {} of {} MiB were available",
            pods.len(),
            all >> 10,
            machine_memory("MemAvailable")? >> 10,
            before >> 10
        ))?;
        ensure!(pods.len() >= FEWEST, "only {} Pods fit", pods.len());
        for (number, pod) in pods.iter().enumerate() {
            answers(pod).with_context(|| format!("Pod {number} of {}", pods.len()))?;
        }
        let last = node.run_pod(&Pod::new("fills"))?;
        let fills = last.run(&Container::new("fills", &hello).args(&["fill"]))?;
        let exit = fills.wait()?;
        ensure!((exit.code, &*exit.reason) == (137, "OOMKilled"), "{exit:?}: {:?}", fills.logs()?);
        for (number, pod) in pods.iter().enumerate() {
            answers(pod).with_context(|| format!("afterwards, Pod {number} of {}", pods.len()))?;
        }
        // There is room again.
        for pod in pods.drain(..pods.len() / 2) {
            pod.stop()?;
            pod.remove_in_the_end()?;
        }
        serving(node, "again", &image).map(drop)
    })
}
