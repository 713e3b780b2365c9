//! Makes directories as kubelet lays them out for a Pod's volumes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::Result;

/// Makes the directory of a ConfigMap or Secret. Each key is a link through `..data` to a dated directory, so that all
/// keys change at once.
pub fn atomic_volume(folder: &Path, keys: &[(&str, &str)], mode: u32) -> Result<()> {
    let dated = "..2024_01_02_03_04_05.678901234";
    fs::create_dir_all(folder.join(dated))?;
    for (key, value) in keys {
        let file = folder.join(dated).join(key);
        fs::write(&file, value)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        symlink(Path::new("..data").join(key), folder.join(key))?;
    }
    symlink(dated, folder.join("..data"))?;
    Ok(())
}
