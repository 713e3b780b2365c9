//! A cluster that stays after the program that started it has ended.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Cluster, KUBECONFIG, kubectl};
use crate::traces::Traces;
use crate::{config, cri, node};

/// Key of the cluster's directory in its record.
const FOLDER: &str = "folder";

/// A cluster that was left running.
#[derive(Debug)]
pub struct Left {
    folder: PathBuf,
    record: PathBuf,
}

impl Cluster {
    /// Leaves the cluster running until [`Left::end`], and writes a `record` of it.
    pub fn leave(self, record: &Path) -> Result<Left> {
        self.is_alive()?;
        let folder = self.node()?.folder.clone();
        fs::create_dir_all(record)?;
        fs::copy(&self.kubeconfig, record.join(KUBECONFIG))?;
        fs::write(record.join(FOLDER), folder.display().to_string())?;
        std::mem::forget(self);
        Ok(Left { folder, record: record.to_owned() })
    }
}

impl Left {
    /// Returns the cluster in the record, if there is one.
    pub fn find(record: &Path) -> Option<Self> {
        let folder = fs::read_to_string(record.join(FOLDER)).ok()?.into();
        Some(Self { folder, record: record.to_owned() })
    }

    /// Returns the path of the kubeconfig. It is outside the node's directory, whose name must not get into a user's
    /// environment, because processes that contain that name are ended with the node.
    pub fn kubeconfig(&self) -> PathBuf {
        self.record.join(KUBECONFIG)
    }

    /// Returns whether its API server answers.
    pub fn is_up(&self) -> bool {
        kubectl(&self.kubeconfig(), &["get", "--raw=/readyz"]).is_ok_and(|output| output.code == 0)
    }

    /// Ends the cluster with everything that runs on it, and returns what is left nevertheless.
    pub fn end(self) -> Result<Vec<String>> {
        fs::remove_dir_all(&self.record)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let traces = Traces::new(&name, &self.folder);
        // The sockets of shims are only named after their Pods.
        let cri = cri::Client::new(&config::socket(&self.folder))?;
        for pod in cri.pods().unwrap_or_default() {
            traces.watch(node::KUBERNETES, &pod);
        }
        traces.wipe();
        Ok(traces.find(None))
    }
}
