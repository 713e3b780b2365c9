//! Answers that the shim knows and the container does not: its processes, and its rights with their reasons.

use std::fs;

use oci_spec::runtime::Process;
use plan::KeyValue;

use crate::config::ContainerConfig;
use crate::container::Container;
use crate::errors::Error;

/// `env`: the environment of a guest that is executed as this process.
pub fn env(process: &Process) -> String {
    seen(process).iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn seen(process: &Process) -> Vec<(String, String)> {
    plan::environment(process.env().as_deref().unwrap_or_default(), process.cwd())
}

/// `ps`: processes in the cgroup, with their pids on the node.
pub fn ps(container: &Container) -> Result<String, Error> {
    let mut text = "PID\tSECONDS\tCOMMAND\n".to_owned();
    for pid in container.cgroup().pids()? {
        // Processes that have ended in the meantime are left out.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((name, fields)) = stat.split_once('(').and_then(|it| it.1.rsplit_once(')')) else {
            continue;
        };
        // utime and stime (proc(5)), in hundredths of a second (USER_HZ).
        let ticks =
            fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
        text += &format!("{pid}\t{}\t{name}\n", ticks.sum::<u64>() / 100);
    }
    Ok(text)
}

/// `grants`: what the guest may do, and which setting allows it.
pub fn grants(config: &ContainerConfig, container: &Container) -> String {
    let user = config.process().user();
    let mut text = format!(
        "user {}, group {}, groups {:?} (securityContext.runAsUser, runAsGroup, fsGroup)\n",
        user.uid(),
        user.gid(),
        user.additional_gids().as_deref().unwrap_or_default(),
    );
    let root = if config.readonly_rootfs() { "read only" } else { "read and write" };
    text += &format!("mounted / : {root} (securityContext.readOnlyRootFilesystem)\n");
    for mount in config.mounts() {
        let options = mount.options().as_deref().unwrap_or_default();
        // A guest has no file systems of the kernel.
        if mount.typ().as_deref() != Some("bind") && !options.iter().any(|it| it.ends_with("bind"))
        {
            continue;
        }
        let access =
            if options.iter().any(|it| it == "ro") { "read only" } else { "read and write" };
        text += &format!("mounted {} : {access} (volumeMounts)\n", mount.destination().display());
    }
    let names: Vec<String> = seen(config.process()).into_iter().map(|(name, _)| name).collect();
    text +=
        &format!("env {} (env, envFrom, and the image; PWD from workingDir)\n", names.join(" "));
    text += &match config.guest_config() {
        Some(path) => format!("wasi:config {} (annotation {})\n", path.display(), provided::CONFIG),
        None => format!("wasi:config: the env above (no annotation {})\n", provided::CONFIG),
    };
    text += &match config.keyvalue() {
        Some(KeyValue::File(path)) => {
            format!("wasi:keyvalue {} (annotation {})\n", path.display(), provided::KEYVALUE)
        }
        Some(KeyValue::Redis(redis)) => {
            format!("wasi:keyvalue {redis} (annotation {})\n", provided::KEYVALUE)
        }
        None => format!("wasi:keyvalue: in memory (no annotation {})\n", provided::KEYVALUE),
    };
    if let Some(grants) = container.grants() {
        text += &grants.to_string();
    }
    text += "network: that of the Pod (a NetworkPolicy may say less)\n";
    text += "stdin, stdout, stderr, clocks, random\n";
    text += &match config.memory_limit() {
        Some(bytes) => format!("memory: {bytes} bytes (resources.limits.memory)\n"),
        None => "memory: as the node has it (no resources.limits.memory)\n".to_owned(),
    };
    text + "nothing else: no /proc, no /sys, no devices, no capabilities, no other program\n"
}
