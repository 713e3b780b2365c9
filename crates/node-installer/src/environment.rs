//! Variables for the shims. They are set for containerd's service, because the shims inherit its environment.

use std::path::{Path, PathBuf};

use crate::distribution::{Distribution, Layout, Service};
use crate::errors::Error;
use crate::tree::Tree;

const PREFIX: &str = "WASMTIME_SHIM_";

/// Returns the file with the variables, its text, and whether the whole file is ours. Returns `None` if the service has
/// no such file.
pub fn plan(
    tree: &Tree,
    layout: &Layout,
    variables: &[(String, String)],
) -> Result<Option<(PathBuf, String, bool)>, Error> {
    let Service::Systemd(unit) = layout.service else { return Ok(None) };
    let lines = |form: fn(&str, &str) -> String| {
        variables.iter().map(|(key, value)| form(key, value)).collect::<String>()
    };
    let file = match layout.distribution {
        Distribution::K3s { .. } => {
            PathBuf::from(format!("/etc/systemd/system/{unit}.service.env"))
        }
        Distribution::Rke2 { .. } => PathBuf::from(format!("/etc/default/{unit}")),
        _ => {
            let path = PathBuf::from(format!(
                "/etc/systemd/system/{unit}.service.d/10-wasmtime-shim.conf"
            ));
            let lines = lines(|key, value| format!("Environment=\"{key}={value}\"\n"));
            return Ok(Some((path, format!("[Service]\n{lines}"), true)));
        }
    };
    let found = tree.text(&file)?;
    let mut text = without(found.as_deref().unwrap_or_default());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &lines(|key, value| format!("{key}={value}\n"));
    Ok(Some((file, text, found.is_none())))
}

/// Returns whether a file has variables of a service.
pub fn is_file(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "env") || path.starts_with("/etc/default")
}

/// Returns a file of variables without those of the shim.
pub fn without(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(PREFIX)).collect()
}
