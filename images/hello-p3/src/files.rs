//! Files, through the directories that the guest was given.

use wasip3::cli::stdout;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip3::wit_stream;

use crate::{Outcome, output};

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

/// Gives a file another name.
pub async fn rename(from: &str, to: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{from}: {error:?}");
    let (here, there) = (root().map_err(failed)?, root().map_err(failed)?);
    here.rename_at(relative(from), &there, relative(to)).await.map_err(failed)
}

/// Prints what a link says.
pub async fn read_link(path: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{path}: {error:?}");
    let target = root().map_err(failed)?.readlink_at(relative(path)).await.map_err(failed)?;
    output::write(stdout::write_via_stream, format!("{target}\n")).await
}

async fn open(path: &str, how: OpenFlags, flags: DescriptorFlags) -> Result<Descriptor, ErrorCode> {
    root()?.open_at(PathFlags::SYMLINK_FOLLOW, relative(path), how, flags).await
}

/// The container's root, the one directory that is given.
fn root() -> Result<Descriptor, ErrorCode> {
    get_directories().into_iter().next().map(|(root, _)| root).ok_or(ErrorCode::NoEntry)
}

/// A path is of the root wherever it begins.
fn relative(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}
