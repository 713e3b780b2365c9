//! Starts kubelet on the node's containerd.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::component::Ports;
use super::{Cluster, NODE};
use crate::{Node, cgroups, config};

/// Limit of the number of processes in a Pod.
pub const POD_PIDS: u64 = 1000;

const NAME: &str = "kubelet";

/// Name of its configuration in the node's directory.
const CONFIGURATION: &str = "kubelet.json";

impl Cluster {
    pub(super) fn start_kubelet(&self, ports: &Ports) -> Result<()> {
        let node = self.node()?;
        cgroups::create(&node.cgroup_parent())?;
        let file = self.path(CONFIGURATION)?;
        fs::write(&file, configuration(node, ports).to_string())?;
        let address = &node.bridge.as_ref().context("no bridge")?.address;
        let flags = vec![
            format!("--config={file}"),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--root-dir={}", self.path("kubelet")?),
            format!("--cert-dir={}", self.path("kubelet/pki")?),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={address}"),
        ];
        self.start_component(NAME, flags)
    }

    /// Restarts kubelet with changed values of its configuration, and returns the former values.
    pub fn reconfigure_kubelet(&self, values: &Value) -> Result<Value> {
        let file = self.path(CONFIGURATION)?;
        let mut configuration: Value = serde_json::from_slice(&fs::read(&file)?)?;
        let mut before = json!({});
        for (key, value) in values.as_object().context("no values by name")? {
            before[key] = std::mem::replace(&mut configuration[key], value.clone());
        }
        fs::write(&file, configuration.to_string())?;
        self.restart_kubelet()?;
        Ok(before)
    }

    /// Restarts kubelet, as its upgrade does.
    pub fn restart_kubelet(&self) -> Result<()> {
        let mut components = self.components();
        let kubelet = components.iter_mut().find(|component| component.name == NAME);
        kubelet.context("kubelet does not run")?.restart()
    }
}

/// Returns a `kubelet.config.k8s.io/v1beta1` for a machine that may have cgroup v1, swap and little disk space.
fn configuration(node: &Node, ports: &Ports) -> Value {
    let folder = &node.folder;
    // The last value allows an image that was pulled under one name to be used under another without a pull.
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": ports.kubelet,
        "healthzPort": ports.kubelet_health,
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{}", config::socket(folder).display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup_parent(),
        "failCgroupV1": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": false,
        "podLogsDir": folder.join("logs"),
        "volumePluginDir": folder.join("volume-plugins"),
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%",
            "nodefs.inodesFree": "1%", "imagefs.available": "1%" },
        "evictionPressureTransitionPeriod": "1s",
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "podPidsLimit": POD_PIDS,
        "syncFrequency": "10s",
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
    })
}
