//! Constants for what this version of the shim provides to guests and accepts of images. The shim enforces them, and
//! the tools for CI can report them to an image's author before the image is on a node.
//!
//! This crate does not use Wasmtime. A test of `engine` checks that its linkers provide exactly what [`interfaces`] and
//! [`MODULE_FUNCTIONS`] list, and that it compiles what [`wasm::check`] accepts.
#![forbid(unsafe_code)]

mod settings;
mod unknown;
mod version;
pub mod wasm;
mod world;

pub use settings::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, ANNOTATIONS, BACKLOG, CACHE, COMPILE_MEMORY,
    COMPILE_TIME, CONFIG, CORE_DUMP, FEATURES, FILES, FUEL, GRANT_PROFILE, Group,
    HTTP_IDLE_TIMEOUT, HTTP_MAX_BODY, HTTP_MAX_CONNECTIONS, HTTP_MAX_HEADER, HTTP_MAX_REQUESTS,
    HTTP_REQUEST_TIMEOUT, INTERFACES, KEYVALUE, KEYVALUE_PASSWORD_FILE, LISTEN, LOG_RATE,
    MAX_MEMORY, NODE_CONFIG, OF_IMAGE, OF_POD, OF_RUNTIME, PREFIX, PREINIT, Place, RUNTIME_OPTIONS,
    SETTINGS, Setting, SettingError, TIMEOUT, Table, Unset,
};
pub use unknown::Unknown;
pub use version::Version;
pub use world::World;

/// Limit in bytes for all wasm layers of an image together, or for one file in a root file system. Layers are held in
/// memory until they are compiled, which takes about 30 times their size. The largest components in use, an interpreter
/// with its libraries, have some tens of MB.
pub const WASM_BYTES: u64 = 128 << 20;

/// Limit for the number of wasm layers in one image. Each is an open file in the shim, which may have 1024 for a whole
/// Pod. Compositions in use have fewer than ten parts.
pub const LAYERS: usize = 32;

/// Media type of a module or component that is compressed with Zstandard (RFC 6838, section 4.2.8).
pub const ZSTD_LAYER: &str = "application/wasm+zstd";

/// Media types of wasm layers: that of the CNCF Wasm OCI artifact, that of compressed layers, and the two of images
/// made for runwasi.
pub const WASM_LAYERS: [&str; 4] = [
    "application/wasm",
    ZSTD_LAYER,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

/// Annotation of a layer with its name (OCI image specification, "Pre-Defined Annotation Keys").
pub const LAYER_TITLE: &str = "org.opencontainers.image.title";

/// Label of an image that identifies its wasm layers, by the ChainID of their digests (OCI image specification, "Layer
/// ChainID"). It gives images with different layers different configs, because CRI identifies an image by the digest of
/// its config.
pub const LAYERS_LABEL: &str = "wasmtime.shim/layers";

/// Prefix of the labels by which a wasm layer in containerd's store refers to its compiled code. containerd's garbage
/// collection follows them.
pub const CODE_LABEL: &str = "containerd.io/gc.ref.content.wasmtime-shim.";

/// Extension of a container in containerd that contains CRI's own record of it. The shim reads from it which image the
/// Pod asks for.
pub const CRI_RECORD: &str = "io.cri-containerd.container.metadata";

/// Longest part of a layer's title that is shown, in characters.
const TITLE: usize = 80;

/// Returns the name of one of several layers: its title if that can be printed, otherwise the beginning of its digest.
pub fn layer_name(title: Option<&str>, digest: &str) -> String {
    let is_plain = |title: &&str| {
        !title.is_empty() && title.chars().all(|it| it.is_ascii_graphic() || it == ' ')
    };
    let digest = digest.get(.."sha256:".len() + 12).unwrap_or(digest);
    title.filter(is_plain).unwrap_or(digest).chars().take(TITLE).collect()
}

/// Name of the module that core modules import from.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// Functions of [`MODULE`] (WASI 0.1).
pub const MODULE_FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The interfaces of WASI 0.2 and 0.3, each followed by its functions and resources. The list is written by hand from
/// the WIT of the crates `wasmtime-wasi` and `wasmtime-wasi-http`, without the unstable parts, and from the drafts that
/// toolchains emit.
const TABLE: &str = include_str!("interfaces.txt");

/// An interface that components can import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Package and interface, such as `wasi:cli/environment`.
    pub name: &'static str,
    /// Newest known release of the interface. Older ones of the same track are provided as well. `None` for a draft
    /// without a version.
    pub version: Option<Version>,
    /// Functions and resources, as a component names them: `now`, `fields`, `[method]fields.get`.
    pub items: Vec<&'static str>,
}

/// Returns all interfaces that components can import.
pub fn interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for line in TABLE.lines() {
        match (line.strip_prefix(' '), interfaces.last_mut()) {
            (Some(items), Some(last)) => last.items.extend(items.split_whitespace()),
            _ => interfaces.extend(headline(line)),
        }
    }
    interfaces
}

fn headline(line: &'static str) -> Option<Interface> {
    let (name, version) = parsed(line)?;
    Some(Interface { name, version, items: Vec::new() })
}

/// Splits an interface into its name and its version, if it has one.
fn parsed(interface: &str) -> Option<(&str, Option<Version>)> {
    match interface.split_once('@') {
        Some((name, version)) => Some((name, Some(Version::parse(version)?))),
        None => Some((interface, None)),
    }
}

/// Returns whether the shim provides `item` of `interface` (such as `wasi:cli/environment@0.2.3`). Without an item,
/// returns whether it provides the interface.
pub fn provides(interfaces: &[Interface], interface: &str, item: Option<&str>) -> bool {
    let Some((name, version)) = parsed(interface) else { return false };
    let is_it = |it: &&Interface| it.name == name && stands_for(&it.version, &version);
    let found = interfaces.iter().find(is_it);
    found.is_some_and(|it| item.is_none_or(|item| it.items.contains(&item)))
}

fn stands_for(provided: &Option<Version>, wanted: &Option<Version>) -> bool {
    match (provided, wanted) {
        (Some(provided), Some(wanted)) => provided.is_compatible(wanted),
        (provided, wanted) => provided.is_none() && wanted.is_none(),
    }
}

impl std::fmt::Display for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        self.version.as_ref().map_or(Ok(()), |version| write!(f, "@{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_called_by_its_title_or_the_beginning_of_its_digest() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let name = |title| layer_name(title, &digest);
        assert_eq!(name(Some("lib.wasm")), "lib.wasm");
        for title in [None, Some(""), Some("a\nb")] {
            assert_eq!(name(title), "sha256:0123456789ab", "{title:?}");
        }
        assert_eq!(name(Some(&"x".repeat(1000))).len(), 80);
    }

    #[test]
    fn every_line_of_the_table_is_understood() {
        let (interfaces, lines) = (interfaces(), TABLE.lines());
        let headlines = lines.filter(|line| !line.starts_with(' ')).count();
        assert_eq!(interfaces.len(), headlines);
        assert!(interfaces.iter().all(|it| it.name.starts_with("wasi:")), "{interfaces:?}");
    }

    #[test]
    fn another_release_of_the_same_track_is_provided_and_another_track_is_not() {
        let table = interfaces();
        let has = |interface: &str| provides(&table, interface, None);
        assert!(has("wasi:cli/environment@0.2.0") && has("wasi:cli/environment@0.2.3"));
        assert!(has("wasi:cli/environment@0.3.0"));
        for other in ["0.1.0", "0.4.0", "0.3.0-rc-2025-09-16", "1.0.0", ""] {
            assert!(!has(&format!("wasi:cli/environment@{other}")), "{other}");
        }
        assert!(!has("wasi:nn/tensor@0.2.0") && !has("wasi:cli/environment"));
    }

    #[test]
    fn a_draft_stands_for_itself_alone_and_so_does_one_without_a_version() {
        let table = interfaces();
        let has = |interface: &str| provides(&table, interface, None);
        for draft in ["0.2.0-draft", "0.2.0-draft-2024-09-27", "0.2.0-rc.1"] {
            assert!(has(&format!("wasi:config/store@{draft}")), "{draft}");
        }
        assert!(!has("wasi:config/store@0.2.0") && !has("wasi:config/store"));
        assert!(has("wasi:logging/logging") && has("wasi:logging/logging@0.1.0-draft"));
        assert!(!has("wasi:logging/logging@0.1.0"));
    }

    #[test]
    fn a_function_that_an_interface_does_not_have_is_missing() {
        let table = interfaces();
        let has = |item| provides(&table, "wasi:clocks/wall-clock@0.2.0", Some(item));
        assert!(has("now") && !has("timezone"));
    }
}
