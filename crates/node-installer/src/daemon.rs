//! Work of the installer in a DaemonSet, besides its work on the node.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DaemonArgs;
use crate::cluster::Api;
use crate::cri;

/// The node in the cluster, if it should be labelled.
#[derive(Debug)]
pub struct Daemon(Option<(String, Api)>);

impl Daemon {
    /// Reads the credentials from the container's files, which cannot be reached after the node's mount namespace is
    /// entered.
    pub fn prepare(args: &DaemonArgs) -> Result<Self> {
        let Some(node) = args.label_node.clone() else { return Ok(Self(None)) };
        Ok(Self(Some((node, Api::of_pod(&args.api)?))))
    }

    /// Labels the node, or removes the label.
    pub fn label(&self, is_ready: bool) -> Result<()> {
        match &self.0 {
            Some((node, api)) => api.label(node, is_ready),
            None => Ok(()),
        }
    }
}

/// Waits for SIGTERM or ctrl-C.
pub fn stay() -> Result<()> {
    cri::runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
