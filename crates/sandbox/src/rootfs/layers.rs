//! Layers of an overlay, in its option `lowerdir=`.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::Error;

/// Name of the option.
pub const LOWER_DIR: &str = "lowerdir=";

/// Directories of the layers; `None` if there is no such option.
pub fn lower_dirs(data: &[String]) -> Option<Vec<PathBuf>> {
    let dirs = data.iter().find_map(|option| option.strip_prefix(LOWER_DIR))?;
    Some(dirs.split(':').map(PathBuf::from).collect())
}

/// Deepest directory above all of them.
pub fn common_parent(dirs: &[PathBuf]) -> Option<PathBuf> {
    let mut parent = dirs.first()?.parent()?;
    while !dirs.iter().all(|dir| dir.starts_with(parent)) {
        parent = parent.parent()?;
    }
    Some(parent.to_owned())
}

/// Shortens the option, because mount(2) takes one page of options, and an image with many layers needs more. It names the
/// layers by a descriptor of their common parent directory, which must stay open until the mount is made.
pub fn shorten(data: &mut [String]) -> Result<Option<File>, Error> {
    let Some(dirs) = lower_dirs(data) else { return Ok(None) };
    let Some(option) = data.iter_mut().find(|option| option.starts_with(LOWER_DIR)) else {
        return Ok(None);
    };
    let Some(parent) = common_parent(&dirs) else {
        return Ok(None);
    };
    let directory = File::open(&parent).map_err(Error::io(format!("open {}", parent.display())))?;
    let short: Vec<String> = dirs
        .iter()
        .filter_map(|dir| dir.strip_prefix(&parent).ok())
        .map(|rest| format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), rest.display()))
        .collect();
    *option = format!("{LOWER_DIR}{}", short.join(":"));
    Ok(Some(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_from_their_common_parent() {
        let dirs = ["/snapshots/1/fs", "/snapshots/22/fs"].map(PathBuf::from);
        assert_eq!(common_parent(&dirs), Some(PathBuf::from("/snapshots")));
    }
}
