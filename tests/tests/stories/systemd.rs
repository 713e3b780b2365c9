//! Scopes that systemd makes, beside those of the node's default handler, and systemd reloading under them. `make test-node` runs
//! these on a node with systemd.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_cri::v1::LinuxContainerResources;
use tests::{Node, Pod, RunningContainer, cgroups, command, on_each_containerd};

use crate::unified::{as_under_runc, file, guest, linux};

const MIB: i64 = 1 << 20;

/// Properties of a scope (systemd.resource-control(5)) that other tools read, and that systemd writes again when it reloads.
const PROPERTIES: [&str; 12] = [
    "ActiveState",
    "AllowedCPUs",
    "CPUQuotaPerSecUSec",
    "CPUWeight",
    "Delegate",
    "Description",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "Slice",
    "TasksMax",
    "DefaultDependencies",
];

/// The scope of a Pod's sandbox or container.
fn unit(id: &str) -> String {
    format!("cri-containerd-{id}.scope")
}

/// Not compared: runc writes a swap limit of 0 into the cgroup, but does not pass it to systemd. This shim does both.
const SWAP: &str = "MemorySwapMax";

/// The properties of it, without what names it.
fn properties(id: &str) -> Result<BTreeMap<String, String>> {
    let text = command::must(&format!("systemctl show {}", unit(id)))?;
    let each = text.lines().filter_map(|line| line.split_once('='));
    let named = each.filter(|(name, _)| PROPERTIES.contains(name));
    Ok(named.map(|(name, value)| (name.to_owned(), value.replace(id, "ID"))).collect())
}

fn on_systemd(story: impl Fn(&Node) -> Result<()>) -> Result<()> {
    ensure!(cgroups::by_systemd()?, "WASMTIME_SHIM_TEST_CGROUPS is not systemd");
    on_each_containerd(story)
}

#[test]
#[ignore = "needs systemd: make test-node"]
fn scopes_are_as_those_of_runc() -> Result<()> {
    on_systemd(|node| {
        let limited = |it: tests::Container| it.memory_limit(64 * MIB).processors("0");
        let (sandbox, program) = as_under_runc(node, "scopes", |pod| {
            let program = pod.run(&limited(linux(node)?))?;
            Ok((without_swap(properties(&pod.id)?), without_swap(properties(&program.id)?)))
        })?;
        assert_eq!(sandbox["Delegate"], "yes");
        assert_eq!(program["MemoryMax"], "67108864");
        let pod = node.run_pod(&Pod::new("guests"))?;
        let guest = properties(&pod.run(&limited(guest(node)?))?.id)?;
        assert_eq!(guest[SWAP], "0");
        assert_eq!(without_swap(guest), program);
        Ok(())
    })
}

fn without_swap(mut properties: BTreeMap<String, String>) -> BTreeMap<String, String> {
    properties.remove(SWAP);
    properties
}

#[test]
#[ignore = "needs systemd: make test-node"]
fn limits_that_are_changed_stay_so_when_systemd_reloads() -> Result<()> {
    on_systemd(|node| {
        let found = as_under_runc(node, "reload", |pod| changed(node, &pod.run(&linux(node)?)?))?;
        let pod = node.run_pod(&Pod::new("guests"))?;
        assert_eq!(changed(node, &pod.run(&guest(node)?)?)?, found);
        Ok(())
    })
}

/// What systemd says and the kernel has after a change of limits and a reload.
fn changed(node: &Node, container: &RunningContainer<'_>) -> Result<Vec<String>> {
    let resources = LinuxContainerResources {
        memory_limit_in_bytes: 128 * MIB,
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 200_000,
        ..Default::default()
    };
    node.cri.update(&container.id, resources)?;
    let files = || {
        let files = ["memory.max", "cpu.max"].map(|name| file(container, name));
        files.into_iter().collect::<Result<Vec<_>>>()
    };
    // How a request becomes a weight differs by the version of runc.
    let weight = || file(container, "cpu.weight");
    let (now, weighs, told) = (files()?, weight()?, properties(&container.id)?);
    ensure!(weighs == told["CPUWeight"] && weighs != "100", "{weighs}: {told:?}");
    command::must("systemctl daemon-reload")?;
    ensure!(files()? == now, "after a reload {:?}, before {now:?}", files()?);
    ensure!(weight()? == weighs, "after a reload {}, before {weighs}", weight()?);
    ensure!(now[0] == (128 * MIB).to_string(), "{now:?}");
    let told = ["MemoryMax", "CPUQuotaPerSecUSec"].map(|name| told[name].clone());
    Ok([now, told.to_vec()].concat())
}

#[test]
#[ignore = "needs systemd: make test-node"]
fn pods_of_guests_start_while_systemd_executes_itself_anew_and_leave_no_unit() -> Result<()> {
    on_systemd(|node| {
        node.image("hello")?;
        let is_over = AtomicBool::new(false);
        let ids = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = command::must("systemctl daemon-reexec");
                    sleep(Duration::from_secs(2));
                }
            });
            let started: Result<Vec<_>> = (0..6)
                .map(|number| {
                    let pod = node.run_pod(&Pod::new(&format!("during-{number}")))?;
                    let guest = pod.run(&guest(node)?)?;
                    guest.stop(Duration::ZERO)?;
                    pod.stop()?;
                    pod.remove_in_the_end()?;
                    Ok([pod.id.clone(), guest.id.clone()])
                })
                .collect();
            is_over.store(true, Ordering::Relaxed);
            started
        })?;
        let units = command::must("systemctl list-units --all --plain --no-legend *.scope")?;
        for id in ids.concat() {
            assert!(!units.contains(&id), "{id} is left in {units}");
        }
        Ok(())
    })
}
