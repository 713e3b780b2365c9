//! Starts etcd, the API server, the controllers and the scheduler.

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};

use super::Cluster;
use super::component::Ports;
use crate::command;

/// Token of the only user.
const TOKEN: &str = "wasmtime-shim-tests";

impl Cluster {
    /// Starts the control plane, and waits for the API server.
    pub(super) fn start_control_plane(&self, ports: &Ports) -> Result<()> {
        self.start_etcd(ports)?;
        self.start_api_server(ports)?;
        self.until("the API server", || Ok(self.kubectl(&["get", "--raw=/readyz"])?.code == 0))?;
        let common = |port| {
            vec![
                format!("--kubeconfig={}", self.kubeconfig.display()),
                "--bind-address=127.0.0.1".into(),
                "--leader-elect=false".into(),
                format!("--secure-port={port}"),
            ]
        };
        let mut controllers = common(ports.controllers);
        let key = self.path("service-accounts.key")?;
        controllers.push(format!("--service-account-private-key-file={key}"));
        // This is for Pods that do use the API server.
        controllers.push(format!("--root-ca-file={}", self.path("api/apiserver.crt")?));
        self.start_component("kube-controller-manager", controllers)?;
        self.start_component("kube-scheduler", common(ports.scheduler))
    }

    fn start_etcd(&self, ports: &Ports) -> Result<()> {
        let clients = format!("http://127.0.0.1:{}", ports.etcd);
        let peers = format!("http://127.0.0.1:{}", ports.etcd_peers);
        let flags = vec![
            format!("--data-dir={}", self.path("etcd")?),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ];
        self.start_component("etcd", flags)
    }

    fn start_api_server(&self, ports: &Ports) -> Result<()> {
        let key = self.path("service-accounts.key")?;
        let tokens = self.path("tokens.csv")?;
        command::must(&format!("openssl genrsa -out {key} 2048"))?;
        fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n"))?;
        fs::write(&self.kubeconfig, kubeconfig(ports.api).to_string())?;
        let flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            format!("--secure-port={}", ports.api),
            format!("--cert-dir={}", self.path("api")?),
            format!("--token-auth-file={tokens}"),
            "--authorization-mode=AlwaysAllow".into(),
            format!("--service-account-issuer=https://127.0.0.1:{}", ports.api),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            // Pods here do not need the API server.
            "--disable-admission-plugins=ServiceAccount".into(),
            "--service-cluster-ip-range=10.178.0.0/24".into(),
            "--endpoint-reconciler-type=none".into(),
            "--kubelet-preferred-address-types=Hostname".into(),
        ];
        self.start_component("kube-apiserver", flags)
    }
}

fn kubeconfig(port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "admin", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "admin" } }],
        "current-context": "tests",
    })
}
