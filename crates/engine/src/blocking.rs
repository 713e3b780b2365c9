//! Work that may wait for a disk.

use tokio::task::{JoinError, spawn_blocking};

/// Does it on the guest's own thread if the guest is all that this thread runs (`is_sequential`), or on another.
///
/// # Errors
/// If it panics on another thread.
pub async fn blocking<R: Send + 'static>(
    is_sequential: bool,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, JoinError> {
    match is_sequential {
        true => Ok(work()),
        false => spawn_blocking(work).await,
    }
}
