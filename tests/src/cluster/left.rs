//! A cluster that was left running by a program that has ended.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Cluster, KUBECONFIG, kubectl};
use crate::traces::Traces;
use crate::{config, cri, node};

/// In the record of a cluster: where its folder is.
const FOLDER: &str = "folder";

/// A cluster that was left running.
#[derive(Debug)]
pub struct Left {
    folder: PathBuf,
    record: PathBuf,
}

impl Cluster {
    /// Leaves all of it running, for [`Left::end`] to end, and says so in `record`.
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
    /// The one that the record tells of, if any.
    pub fn find(record: &Path) -> Option<Self> {
        let folder = fs::read_to_string(record.join(FOLDER)).ok()?.into();
        Some(Self { folder, record: record.to_owned() })
    }

    /// For kubectl. It is outside the node's folder, whose name must not come into a user's environment: what
    /// bears it is ended with the node.
    pub fn kubeconfig(&self) -> PathBuf {
        self.record.join(KUBECONFIG)
    }

    /// Whether its API server answers.
    pub fn is_up(&self) -> bool {
        kubectl(&self.kubeconfig(), &["get", "--raw=/readyz"]).is_ok_and(|output| output.code == 0)
    }

    /// Ends it with all that runs on it, and returns what is left all the same.
    pub fn end(self) -> Result<Vec<String>> {
        fs::remove_dir_all(&self.record)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let traces = Traces::new(&name, &self.folder);
        // Sockets of shims have no other name than their Pod's.
        let cri = cri::Client::new(&config::socket(&self.folder))?;
        for pod in cri.pods().unwrap_or_default() {
            traces.watch(node::KUBERNETES, &pod);
        }
        traces.wipe();
        Ok(traces.find(None))
    }
}
