//! Failure artifacts: files that a failed guest leaves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Container paths of the failure artifacts: termination message and core dump.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureArtifacts {
    /// The file whose end kubelet shows as the container's termination message.
    pub message: Option<PathBuf>,
    /// The file of a core dump, or the directory for a file `core.NAME`.
    pub core_dump: Option<PathBuf>,
}
