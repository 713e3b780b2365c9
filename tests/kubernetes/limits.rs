//! What a container may use, as its cgroup says and counts.

use anyhow::{Context, Result};
use tests::cluster::POD_PIDS;
use tests::limits::Limits;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_busy_guest_keeps_to_its_cpu_limit", a_busy_guest_keeps_to_its_cpu_limit),
    ("limits_of_memory_and_processes", limits_of_memory_and_processes),
    ("a_container_without_bound_is_oom_killed", a_container_without_bound_is_oom_killed),
    ("cpu_and_memory_are_resized_in_place", cpu_and_memory_are_resized_in_place),
];

const BUSY: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: busy }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [spin]
      resources:
        requests: { cpu: 100m, memory: 32Mi }
        limits: { cpu: 200m, memory: 64Mi }
"#;

/// In microseconds: `cpu: 200m` of periods that are Kubernetes' own choice.
const QUOTA: u64 = 20_000;
const PERIOD: u64 = 100_000;

/// How many periods are looked at.
const PERIODS: u64 = 20;

fn a_busy_guest_keeps_to_its_cpu_limit(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(BUSY)?;
    namespace.until_ready("busy")?;
    let limits = limits(namespace, "busy")?;
    assert_eq!(limits.cpu()?, (QUOTA, PERIOD));
    let first = limits.throttling()?;
    // On a machine with much else to do, it does not use its quota in every period.
    namespace.until("some periods to pass, and it to be throttled", || {
        let now = limits.throttling()?;
        Ok(now.periods >= first.periods + PERIODS && now.throttled > first.throttled)
    })?;
    let last = limits.throttling()?;
    let periods = last.periods - first.periods;
    // One may have begun before the first reading and not ended at the second, and each CPU takes a slice of
    // the quota at a time.
    let allowed = (periods + 2) * QUOTA + QUOTA;
    assert!(last.used - first.used <= allowed, "{first:?}, {last:?}");
    Ok(())
}

fn limits_of_memory_and_processes(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(BUSY)?;
    namespace.until_ready("busy")?;
    let limits = limits(namespace, "busy")?;
    assert_eq!(limits.memory()?, 64 << 20);
    assert_eq!(limits.of_pod().memory()?, 64 << 20);
    // Kubernetes counts processes by Pod.
    assert_eq!(limits.of_pod().pids()?, POD_PIDS);
    let now = limits.pids_now()?;
    assert!((1..10).contains(&now), "{now} processes and threads");
    Ok(())
}

fn a_container_without_bound_is_oom_killed(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: greedy }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - name: app
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      # A line without an end.
      command: [tail, /dev/zero]
      resources: { limits: { memory: 64Mi } }
"#,
    )?;
    namespace.until_phase("greedy", "Failed")?;
    let ended = namespace.ended("greedy")?;
    assert_eq!(ended["exitCode"], 137);
    assert_eq!(ended["reason"], "OOMKilled");
    Ok(())
}

fn cpu_and_memory_are_resized_in_place(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(BUSY)?;
    namespace.until_ready("busy")?;
    let before = namespace.container("busy")?["containerID"].clone();
    let patch = r#"{"spec":{"containers":[{"name":"app","resources":{
        "requests":{"cpu":"100m","memory":"32Mi"},"limits":{"cpu":"300m","memory":"128Mi"}}}]}}"#;
    namespace.must(&["patch", "pod", "busy", "--subresource=resize", "--patch", patch])?;
    namespace.until_pod("busy", "to be resized", |pod| {
        let limits = &pod["status"]["containerStatuses"][0]["resources"]["limits"];
        limits["cpu"] == "300m" && limits["memory"] == "128Mi"
    })?;
    let limits = limits(namespace, "busy")?;
    assert_eq!(limits.cpu()?, (30_000, PERIOD));
    assert_eq!(limits.memory()?, 128 << 20);
    let after = namespace.container("busy")?;
    assert_eq!((&after["containerID"], &after["restartCount"]), (&before, &0.into()));
    Ok(())
}

/// Those of the Pod's first container.
fn limits(namespace: &Namespace<'_>, pod: &str) -> Result<Limits> {
    let container = namespace.container(pod)?;
    let id = container["containerID"].as_str().and_then(|id| id.strip_prefix("containerd://"));
    Limits::of(&namespace.cluster.node()?.cgroup_parent(), id.context("no container yet")?)
}
