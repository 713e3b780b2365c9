//! Files, through the directories that the guest was given.

use wasip3::cli::stdout;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::wit_stream;

use crate::Outcome;

/// Copies a file to stdout: its stream is handed on, and no byte of it passes through the guest.
pub async fn cat(path: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await.map_err(failed)?;
    let (content, read) = file.read_via_stream(0);
    let written = stdout::write_via_stream(content).await;
    read.await.map_err(failed)?;
    written.map_err(|error| format!("stdout: {error:?}"))
}

/// Makes a file with this text and a newline, or replaces it.
pub async fn write(path: &str, text: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let how = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let file = open(path, how, DescriptorFlags::WRITE).await.map_err(failed)?;
    let (mut stream, content) = wit_stream::new();
    let written = file.write_via_stream(content, 0);
    // What is left over was refused, and the file says why.
    stream.write_all(format!("{text}\n").into_bytes()).await;
    drop(stream);
    written.await.map_err(failed)
}

/// Opens a file. A path is of the container's root wherever it begins, as the root is the one directory that is given.
async fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    let (root, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    let relative = path.trim_start_matches('/').to_owned();
    root.open_at(PathFlags::SYMLINK_FOLLOW, relative, how, flags).await
}
