//! Runtime options: `options` of a runtime in containerd's configuration.
//!
//! They come as runc's own message, or as a TOML text in `runtimeoptions.v1.Options` for a runtime that containerd does not
//! know. All options of runc's shim are accepted, so that a configuration for it works (k3s sets `BinaryName` and
//! `SystemdCgroup`). Some have no effect here.

use std::path::{Path, PathBuf};

use containerd_shim::api::Options as RuncOptions;
use containerd_shim::bootstrap::any_is;
use containerd_shim::protos::protobuf::Message as _;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::User;
use prost::Message as _;
use provided::{OF_RUNTIME, SettingError};
use sandbox::runtime::{self, Runtime};
use serde::{Deserialize, Deserializer, de};

/// Error of runtime options.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The message cannot be decoded.
    #[error("runtime options: {type_url} does not decode: {reason}")]
    Encoding {
        /// The message's type.
        type_url: String,
        /// Reason of the decoder.
        reason: String,
    },
    /// The message is of another runtime.
    #[error(
        "runtime options of type {0:?} are not understood; allowed are containerd.runc.v1.Options and runtimeoptions.v1.Options"
    )]
    Type(String),
    /// A key is unknown, or a value is invalid.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The text in containerd's configuration is not TOML, for the parser's reason.
    #[error("the runtime options in containerd's configuration are not valid TOML: {0}")]
    Toml(String),
    /// The file of `ConfigPath` cannot be read.
    #[error("runtime options: ConfigPath {path:?}: {source}")]
    Path {
        /// The file.
        path: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

/// Options that have an effect.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Options {
    /// Whether systemd manages the cgroups.
    pub systemd_cgroup: bool,
    /// Whether the root is changed with `chroot`.
    pub no_pivot_root: bool,
    /// Cgroup of the shim itself; empty for none.
    pub shim_cgroup: String,
    /// Path or name of the OCI runtime for Linux programs; empty for runc.
    pub binary_name: String,
    /// Directory of its state; empty for that of containerd's own shim.
    pub root: String,
    /// Whether Linux programs keep the session keyring of the node.
    pub no_new_keyring: bool,
    /// The node's file, which says what guests may be granted; `None` for that of the environment.
    #[serde(deserialize_with = "absolute")]
    pub node_config: Option<PathBuf>,
    /// User that owns the stdio of a Linux program; 0 for the program's own.
    pub io_uid: u32,
    /// Group that owns it; 0 for the program's own.
    pub io_gid: u32,
}

/// Prefix of the names of containerd's shims.
const SHIM: &str = "containerd-shim-";

/// `runtimeoptions.v1.Options` of containerd's API.
#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeOptions {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    config_body: Vec<u8>,
}

impl Options {
    /// Parses the options of a Create, which may have none.
    pub fn parse(any: Option<&Any>) -> Result<Options, Error> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Options::default());
        };
        if any_is::<RuncOptions>(any) {
            let options = RuncOptions::parse_from_bytes(&any.value);
            return options.map(Options::from).map_err(|error| encoding(any, &error));
        }
        if !any.type_url.ends_with("runtimeoptions.v1.Options") {
            return Err(Error::Type(any.type_url.clone()));
        }
        let options =
            RuntimeOptions::decode(any.value.as_slice()).map_err(|error| encoding(any, &error))?;
        Options::from_toml(&toml_text(options, any)?)
    }

    /// OCI runtime for Linux programs in a namespace of containerd.
    pub fn runtime(&self, namespace: &str) -> Runtime {
        // k3s names the shim itself, which is not an OCI runtime.
        let file_name = Path::new(&self.binary_name).file_name().unwrap_or_default();
        let is_shim = file_name.to_string_lossy().starts_with(SHIM);
        let or = |given: &str, default: &str| {
            if given.is_empty() { default.to_owned() } else { given.to_owned() }
        };
        let program = if is_shim { "" } else { &self.binary_name };
        Runtime {
            program: or(program, runtime::DEFAULT_PROGRAM),
            root: Path::new(&or(&self.root, runtime::DEFAULT_ROOT)).join(namespace),
            no_pivot_root: self.no_pivot_root,
            no_new_keyring: self.no_new_keyring,
        }
    }

    /// User and group that own the stdio of a Linux program that runs as `user`.
    pub fn owner_of_stdio(&self, user: &User) -> User {
        let mut owner = user.clone();
        if self.io_uid != 0 {
            owner.set_uid(self.io_uid);
        }
        if self.io_gid != 0 {
            owner.set_gid(self.io_gid);
        }
        owner
    }

    pub(crate) fn from_toml(text: &str) -> Result<Options, Error> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| Error::Toml(error.message().to_owned()))?;
        for (key, value) in &table {
            OF_RUNTIME.check(key)?;
            // Each value is parsed alone, because the parser does not report which of several it refuses.
            let alone = toml::Table::from_iter([(key.clone(), value.clone())]);
            alone.try_into::<Options>().map_err(|_| OF_RUNTIME.refused(key, &shown(value)))?;
        }
        table.try_into().map_err(|error: toml::de::Error| Error::Toml(error.message().to_owned()))
    }
}

impl From<RuncOptions> for Options {
    fn from(options: RuncOptions) -> Options {
        Options {
            systemd_cgroup: options.systemd_cgroup,
            no_pivot_root: options.no_pivot_root,
            shim_cgroup: options.shim_cgroup,
            binary_name: options.binary_name,
            root: options.root,
            no_new_keyring: options.no_new_keyring,
            node_config: None,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
        }
    }
}

/// An absolute path, because the shim runs in another directory for each Pod. An empty text is no path.
fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    match path.as_os_str().is_empty() {
        true => Ok(None),
        false if path.is_absolute() => Ok(Some(path)),
        false => Err(de::Error::custom("it is not absolute")),
    }
}

/// Text of a value, as written in the configuration.
fn shown(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn toml_text(options: RuntimeOptions, any: &Any) -> Result<String, Error> {
    let bytes = if options.config_body.is_empty() && !options.config_path.is_empty() {
        std::fs::read(&options.config_path)
            .map_err(|source| Error::Path { path: options.config_path, source })?
    } else {
        options.config_body
    };
    String::from_utf8(bytes).map_err(|error| encoding(any, &error))
}

fn encoding(any: &Any, error: &dyn std::error::Error) -> Error {
    Error::Encoding { type_url: any.type_url.clone(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.into(), value, ..Default::default() }
    }

    fn toml_options(body: &str) -> Any {
        let options = RuntimeOptions { config_body: body.into(), ..Default::default() };
        any("runtimeoptions.v1.Options", options.encode_to_vec())
    }

    #[test]
    fn the_path_of_the_nodes_file_is_absolute() {
        let parse =
            |path: &str| Options::parse(Some(&toml_options(&format!("NodeConfig = {path:?}"))));
        assert_eq!(parse("/a.toml").map(|it| it.node_config).ok(), Some(Some("/a.toml".into())));
        assert_eq!(parse("").map(|it| it.node_config).ok(), Some(None));
        let text = parse("a.toml").map(drop).expect_err("refused").to_string();
        assert!(text.contains("NodeConfig: \"a.toml\" is not valid"), "{text}");
    }

    #[test]
    fn what_k3s_writes_is_accepted() {
        let body =
            "BinaryName = \"/usr/local/bin/containerd-shim-wasmtime-v1\"\nSystemdCgroup = true\n";
        let options = Options::parse(Some(&toml_options(body))).expect("parses");
        assert!(options.systemd_cgroup);
        assert_eq!(options.runtime("k8s.io").program, "runc", "the shim is no OCI runtime");
    }

    #[test]
    fn the_oci_runtime_is_found_as_containerds_own_shim_finds_it() {
        let runtime =
            |body| Options::parse(Some(&toml_options(body))).expect("parses").runtime("ns");
        let default = runtime("");
        assert_eq!(default.program, "runc");
        assert_eq!(default.root, Path::new("/run/containerd/runc/ns"));
        let body = "BinaryName = \"/opt/crun\"\nRoot = \"/run/x\"\nNoPivotRoot = true\nNoNewKeyring = true";
        let named = runtime(body);
        assert_eq!(named.program, "/opt/crun");
        assert_eq!(named.root, Path::new("/run/x/ns"));
        assert!(named.no_pivot_root && named.no_new_keyring);
    }

    #[test]
    fn the_stdio_of_a_program_is_whose_the_options_say() {
        let user: User = serde_json::from_str(r#"{ "uid": 7, "gid": 8 }"#).expect("a user");
        let owner = |body| {
            let options = Options::parse(Some(&toml_options(body))).expect("parses");
            let owner = options.owner_of_stdio(&user);
            (owner.uid(), owner.gid())
        };
        assert_eq!(owner(""), (7, 8));
        assert_eq!(owner("IoUid = 1000\nIoGid = 2000"), (1000, 2000));
    }

    #[test]
    fn runcs_own_message_is_accepted() {
        let message =
            RuncOptions { systemd_cgroup: true, binary_name: "x".into(), ..Default::default() };
        let value = message.write_to_bytes().expect("encodes");
        let options =
            Options::parse(Some(&any("containerd.runc.v1.Options", value))).expect("parses");
        assert!(options.systemd_cgroup);
    }

    #[test]
    fn an_unknown_key_is_named_with_those_allowed() {
        let error =
            Options::parse(Some(&toml_options("SystemdCGroup = true"))).expect_err("a typo");
        let begin =
            "runtime option: unknown key \"SystemdCGroup\", did you mean \"SystemdCgroup\"?";
        assert!(error.to_string().starts_with(begin), "{error}");
        assert!(error.to_string().contains("BinaryName, "), "{error}");
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key_and_what_is_allowed() {
        for (key, value, expected) in [
            ("SystemdCgroup", "3", "SystemdCgroup: \"3\" is not valid; allowed is true or false"),
            ("Root", "true", "Root: \"true\" is not valid; allowed is "),
            ("IoUid", "\"me\"", "IoUid: \"me\" is not valid; allowed is a user id"),
        ] {
            let options = toml_options(&format!("NoPivotRoot = true\n{key} = {value}"));
            let error = Options::parse(Some(&options)).expect_err("a wrong type").to_string();
            assert!(error.starts_with(&format!("runtime option {expected}")), "{error}");
        }
    }

    #[test]
    fn another_runtimes_options_are_refused_by_type() {
        let error = Options::parse(Some(&any("io.kata.Options", vec![]))).expect_err("not ours");
        assert!(error.to_string().contains("io.kata.Options"), "{error}");
    }

    #[test]
    fn the_default_that_the_table_says_is_the_default() {
        for provided::Setting { key, unset, .. } in provided::RUNTIME_OPTIONS {
            let provided::Unset::Is(value) = unset else { continue };
            let options = Options::parse(Some(&toml_options(&format!("{key} = {value}"))));
            assert_eq!(options.expect("parses"), Options::default(), "{key}");
        }
    }

    #[test]
    fn no_options_are_the_defaults() {
        assert_eq!(Options::parse(None).expect("parses"), Options::default());
        assert_eq!(Options::parse(Some(&toml_options(""))).expect("parses"), Options::default());
    }
}
