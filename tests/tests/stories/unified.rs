//! What kubelet asks of a node with cgroup v2: devices, memory and huge pages, each beside what the node's default handler makes
//! of it. `make test-node` runs these on a node that has it.

use std::fmt::Debug;

use anyhow::{Context, Result};
use tests::{Container, Node, Pod, RunningContainer, RunningPod, cgroups, on_each_containerd};

const MIB: i64 = 1 << 20;

/// What is found of a container in a Pod of this handler, and of the same with runc's own, which must not differ.
pub fn as_under_runc<T: PartialEq + Debug>(
    node: &Node,
    name: &str,
    find: impl Fn(&RunningPod<'_>) -> Result<T>,
) -> Result<T> {
    let [ours, runcs] = [&*tests::spec::handler(), "runc"].map(|handler| {
        let pod = node.run_pod(&Pod::new(&format!("{name}-{handler}")).handler(handler))?;
        find(&pod).with_context(|| format!("with handler {handler}"))
    });
    let ours = ours?;
    assert_eq!(ours, runcs?, "left ours, right runc's");
    Ok(ours)
}

/// The text of a file in the cgroup of a container's first process.
pub fn file(container: &RunningContainer<'_>, name: &str) -> Result<String> {
    cgroups::read(container.process()?.pid, ("", ""), name)
}

/// A guest that stays, beside the program that `linux` is.
pub fn guest(node: &Node) -> Result<Container> {
    Ok(Container::new("guest", &node.image("hello")?).args(&["sleep", "1000"]))
}

/// A program that stays.
pub fn linux(node: &Node) -> Result<Container> {
    Ok(Container::shell("linux", &node.image("linux")?, "exec sleep 1000"))
}

/// Opens each to read and to write, and says what came of it.
const OPEN: &str = "for each in $DEVICES; do
    (: < $each) 2>/dev/null && echo $each is read; (: >> $each) 2>/dev/null && echo $each is written; done; echo end";

#[test]
#[ignore = "needs cgroup v2: make test-node"]
fn a_program_opens_of_the_nodes_devices_what_it_may_under_runc() -> Result<()> {
    on_each_containerd(|node| {
        let linux = node.image("linux")?;
        let look = |name: &str, devices: &str| {
            Container::shell(name, &linux, OPEN).env("DEVICES", devices)
        };
        let found = as_under_runc(node, "devices", |pod| {
            let volume = look("volume", "/host/vda /host/vdb /host/fuse /host/mem /host/null");
            let volume = pod.run(&volume.mount("/dev".as_ref(), "/host"))?;
            let given = look("given", "/dev/given").device("/dev/vda", "/dev/given", "r");
            let given = pod.run(&given)?;
            volume.wait()?;
            given.wait()?;
            Ok([volume.logs()?.stdout, given.logs()?.stdout])
        })?;
        assert_eq!(found[0], "/host/null is read\n/host/null is written\nend\n");
        assert_eq!(found[1], "/dev/given is read\nend\n");
        Ok(())
    })
}

#[test]
#[ignore = "needs cgroup v2: make test-node"]
fn a_capability_to_make_devices_is_kept_and_what_is_made_is_filtered() -> Result<()> {
    on_each_containerd(|node| {
        let linux = node.image("linux")?;
        let script = "mknod /tmp/disk b 254 0 && echo made; (: < /tmp/disk) 2>/dev/null && echo open; \
            mknod /tmp/null c 1 3 && : > /tmp/null && echo null; grep CapBnd /proc/self/status";
        let found = as_under_runc(node, "mknod", |pod| {
            let able = pod.run(&Container::shell("able", &linux, script).capability("MKNOD"))?;
            able.wait()?;
            Ok(able.logs()?.stdout)
        })?;
        assert!(found.starts_with("made\nnull\n"), "{found}");
        Ok(())
    })
}

#[test]
#[ignore = "needs cgroup v2: make test-node"]
fn a_worker_that_is_killed_for_memory_takes_the_container_with_it_where_kubelet_asks_for_that()
-> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("linux")?;
        let group = |container: Container| {
            container.memory_limit(64 * MIB).cgroup_file("memory.oom.group", "1")
        };
        let script = "tail /dev/zero; echo lived on; sleep 1000";
        let pod = node.run_pod(&Pod::new("guests"))?;
        // Not compared with runc's, which loses the reason now and then: systemd may remove the cgroup before its shim has looked.
        let exit = pod.run(&group(Container::shell("app", &image, script)))?.wait()?;
        assert_eq!((exit.code, &*exit.reason), (137, "OOMKilled"));
        for container in [guest(node)?, linux(node)?] {
            assert_eq!(file(&pod.run(&group(container))?, "memory.oom.group")?, "1");
        }
        Ok(())
    })
}

/// Files of a cgroup that kubelet's requests and limits become. Not `cpu.weight`, which runc before 1.3.2 makes smaller.
const LIMITS: [&str; 9] = [
    "memory.max",
    "memory.swap.max",
    "memory.low",
    "memory.high",
    "cpu.max",
    "cpuset.cpus",
    "pids.max",
    "hugetlb.2MB.max",
    "cgroup.controllers",
];

#[test]
#[ignore = "needs cgroup v2: make test-node"]
fn the_limits_that_kubelet_sends_are_those_of_runcs_container() -> Result<()> {
    on_each_containerd(|node| {
        // kubelet forbids swap by the file, sends a limit for each size of huge pages, and throttles before the limit.
        let limited = |container: Container| {
            let container = container.memory_limit(64 * MIB).cgroup_file("memory.swap.max", "0");
            let container = container.cgroup_file("memory.high", "60000000");
            container.huge_pages("2MB", 0).processors("0").cpu_request(1)
        };
        let files = |container: &RunningContainer<'_>| {
            let mut files = Vec::new();
            for name in LIMITS {
                // A node may have no swap, and so no such file.
                files.push((name, file(container, name).unwrap_or_default()));
            }
            files
        };
        let program =
            as_under_runc(node, "limits", |pod| Ok(files(&pod.run(&limited(linux(node)?))?)))?;
        let is = |name: &str| program.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
        assert_eq!(is("memory.max"), Some("67108864"));
        assert_eq!(is("memory.swap.max"), Some("0"));
        let pod = node.run_pod(&Pod::new("guests"))?;
        assert_eq!(files(&pod.run(&limited(guest(node)?))?), program);
        Ok(())
    })
}
