//! What the installer does as part of a DaemonSet, beside its work on the node.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DaemonArgs;
use crate::cluster::Api;
use crate::cri;

/// The node in the cluster, where it is to be labelled.
#[derive(Debug)]
pub struct Daemon(Option<(String, Api)>);

impl Daemon {
    /// Reads what is needed from the container's files, which are out of reach once the node's are entered.
    pub fn prepare(args: &DaemonArgs) -> Result<Self> {
        let Some(node) = args.label_node.clone() else { return Ok(Self(None)) };
        Ok(Self(Some((node, Api::of_pod(&args.api)?))))
    }

    /// Labels the node, or takes the label away.
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
