//! The layers of an overlay, as its option `lowerdir=` names them.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use crate::Error;

/// The option's name.
pub const LOWER_DIR: &str = "lowerdir=";

/// Directories of the layers, as the options name them.
pub fn lower_dirs(data: &[String]) -> Option<Vec<PathBuf>> {
    let dirs = data.iter().find_map(|option| option.strip_prefix(LOWER_DIR))?;
    Some(dirs.split(':').map(PathBuf::from).collect())
}

/// The deepest directory that all of them are below.
pub fn common_parent(dirs: &[PathBuf]) -> Option<PathBuf> {
    let mut parent = dirs.first()?.parent()?;
    while !dirs.iter().all(|dir| dir.starts_with(parent)) {
        parent = parent.parent()?;
    }
    Some(parent.to_owned())
}

/// mount(2) takes one page of options, which an image of many layers overflows: names the layers from
/// a descriptor of their common parent folder, which must stay open until the mount is made.
pub fn shorten(data: &mut [String]) -> Result<Option<File>, Error> {
    let Some(dirs) = lower_dirs(data) else { return Ok(None) };
    let Some(option) = data.iter_mut().find(|option| option.starts_with(LOWER_DIR)) else {
        return Ok(None);
    };
    let Some(parent) = common_parent(&dirs) else {
        return Ok(None);
    };
    let folder = File::open(&parent).map_err(Error::io(format!("open {}", parent.display())))?;
    let short: Vec<String> = dirs
        .iter()
        .filter_map(|dir| dir.strip_prefix(&parent).ok())
        .map(|rest| format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), rest.display()))
        .collect();
    *option = format!("{LOWER_DIR}{}", short.join(":"));
    Ok(Some(folder))
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
