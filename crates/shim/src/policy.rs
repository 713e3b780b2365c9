//! Grants of a container's guest: the node's file, merged with the labels of the image and the annotations of the Pod.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use grants::policy::{Malformed, Policy, Rules};
use grants::{ExceedsCeiling, Grants, MergeInput, Profile, Requested, merge};
use nix::ifaddrs::getifaddrs;
use provided::{OF_IMAGE, SettingError};

use crate::config::ContainerConfig;
use crate::options::Options;
use crate::pod::blocking;
use crate::{errors, settings};

/// The node's file, unless a setting names another.
const DEFAULT: &str = "/etc/wasmtime-shim/config.toml";

/// Limit for the size of the file, in bytes. It is read for each container.
const SIZE: u64 = 1 << 20;

/// Reason why a guest gets no grants, and so no process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the node's policy for guests {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file does not parse.
    #[error("the node's policy for guests is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// More is asked for than the node allows.
    #[error(transparent)]
    ExceedsCeiling(#[from] ExceedsCeiling),
    /// A label of the image, or the path of the file, is not valid.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// Grants of the guest of a container whose image has these labels.
///
/// # Errors
/// See [`Error`].
pub async fn grants(
    config: &ContainerConfig,
    labels: &HashMap<String, String>,
    options: &Options,
) -> Result<Grants, errors::Error> {
    let _span = trace::span("grants");
    let named = options.node_config.clone();
    let policy = blocking(move || Ok(policy(named)?)).await?;
    let rules = policy.map_or_else(Rules::default, |policy| policy.rules(config.subject()));
    let (image, pod) = (of_image(labels)?, config.requested().clone());
    let grants = merge(&MergeInput { rules, image, pod }).map_err(Error::from)?;
    // The node's own addresses matter only there, and there may be thousands of interfaces.
    let needs_node = grants.profile() == Profile::Restricted;
    let node = if needs_node { blocking(|| Ok(own_addresses())).await? } else { vec![] };
    Ok(Grants { node, ..grants })
}

/// The policy of the node's file; `None` if there is no file, and no setting names one.
fn policy(named: Option<PathBuf>) -> Result<Option<Policy>, Error> {
    let named = named.map_or_else(settings::node_config, |path| Ok(Some(path)))?;
    let path = named.clone().unwrap_or_else(|| DEFAULT.into());
    match read(&path) {
        Ok(text) => Ok(Some(Policy::parse(&path.to_string_lossy(), &text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(source) => Err(Error::File { path, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    if file.take(SIZE + 1).read_to_string(&mut text)? as u64 > SIZE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

fn of_image(labels: &HashMap<String, String>) -> Result<Requested, Error> {
    // They are sorted, so that the same of several mistakes is always reported.
    let sorted: BTreeMap<_, _> = labels.iter().collect();
    Ok(Requested::of(&OF_IMAGE, sorted)?)
}

/// Addresses of the node, where this process is.
fn own_addresses() -> Vec<IpAddr> {
    let found = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let ip = found.filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    let mut all: Vec<IpAddr> = ip.filter(|ip| !ip.is_loopback()).collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_of_an_image_are_requests_of_the_image() {
        let label = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
        let requested = of_image(&label("wasmtime.shim/files", "/data=rw")).expect("is valid");
        assert_eq!(requested.files.map(|files| files.len()), Some(1));
        assert_eq!(of_image(&label("other", "x")).expect("is ignored"), Requested::default());
        let text =
            of_image(&label("wasmtime.shim/files", "/data")).expect_err("refused").to_string();
        assert!(
            text.starts_with("image label wasmtime.shim/files: \"/data\" is not valid"),
            "{text}"
        );
    }

    #[test]
    fn the_node_has_addresses_of_its_own_and_loopback_is_none_of_them() {
        let own = own_addresses();
        assert!(own.iter().all(|address| !address.is_loopback()));
        // The address from which a packet to another machine would be sent, without sending one.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("is bound");
        // A machine without a route has no such address.
        if socket.connect("192.0.2.1:9").is_ok() {
            let address = socket.local_addr().expect("has an address").ip();
            assert!(own.contains(&address), "{address} of {own:?}");
        }
    }

    #[test]
    fn a_file_that_a_setting_names_must_exist_and_be_well_formed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        let refused = |path: &Path| policy(Some(path.to_owned())).expect_err("refused").to_string();
        let text = refused(&path);
        assert!(text.starts_with("cannot read the node's policy for guests /"), "{text}");
        std::fs::write(&path, "[ceiling]\nprofile = 7\n").expect("written");
        assert!(refused(&path).contains("config.toml: line 2, column 11"), "{}", refused(&path));
        std::fs::write(&path, vec![b'#'; (SIZE + 1) as usize]).expect("written");
        assert!(refused(&path).contains("too large"), "{}", refused(&path));
    }
}
