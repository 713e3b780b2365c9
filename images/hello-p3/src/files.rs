//! Accesses files through the preopened directories.

use wasip3::cli::stdout;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::wit_stream;

use crate::{Outcome, output};

/// Copies a file to stdout. Its stream is passed on, so that no byte goes through the guest.
pub async fn cat(path: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ).await.map_err(failed)?;
    let (content, read) = file.read_via_stream(0);
    let written = stdout::write_via_stream(content).await;
    read.await.map_err(failed)?;
    written.map_err(|error| format!("stdout: {error:?}"))
}

/// Creates or replaces a file with this text and a newline.
pub async fn write(path: &str, text: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let how = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let file = open(path, how, DescriptorFlags::WRITE).await.map_err(failed)?;
    let (mut stream, content) = wit_stream::new();
    let written = file.write_via_stream(content, 0);
    // The host refused the rest. The file's result has the reason.
    stream.write_all(format!("{text}\n").into_bytes()).await;
    drop(stream);
    written.await.map_err(failed)
}

/// Renames a file.
pub async fn rename(from: &str, to: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{from}: {error:?}");
    let (here, there) = (root().map_err(failed)?, root().map_err(failed)?);
    here.rename_at(relative(from), &there, relative(to)).await.map_err(failed)
}

/// Prints the target of a link.
pub async fn read_link(path: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let target = root().map_err(failed)?.readlink_at(relative(path)).await.map_err(failed)?;
    output::write(stdout::write_via_stream, format!("{target}\n")).await
}

async fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    root()?.open_at(PathFlags::SYMLINK_FOLLOW, relative(path), how, flags).await
}

/// Returns the container's root, the only preopened directory.
fn root() -> Result<Descriptor, ErrorCode> {
    get_directories().into_iter().next().map(|(root, _)| root).ok_or(ErrorCode::NoEntry)
}

/// Makes a path relative to the root.
fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}
