//! Files, through the directories that the guest was given.

use wasip3::cli::stdout;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

use crate::Outcome;

/// Copies a file to stdout: its stream is handed on, and no byte of it passes through the guest.
pub async fn cat(path: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let file = open(path).await.map_err(failed)?;
    let (content, read) = file.read_via_stream(0);
    let written = stdout::write_via_stream(content).await;
    read.await.map_err(failed)?;
    written.map_err(|error| format!("stdout: {error:?}"))
}

/// Opens a file for reading. A path is of the container's root wherever it begins, as the root is
/// the one directory that is given.
async fn open(path: &str) -> Result<Descriptor, ErrorCode> {
    let (root, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    let relative = path.trim_start_matches('/').to_owned();
    root.open_at(PathFlags::SYMLINK_FOLLOW, relative, OpenFlags::empty(), DescriptorFlags::READ)
        .await
}
