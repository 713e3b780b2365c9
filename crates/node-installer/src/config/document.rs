//! One file of containerd's configuration (containerd-config.toml(5)), and the handler in it.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::{Candidate, Handler, block};
use crate::errors::Error;

/// Name of the handler in RuntimeClasses.
pub const HANDLER: &str = "wasmtime";

/// containerd's name for the shim.
pub const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// Name of the same binary in older versions of k3s.
const OLD_RUNTIME: &str = "io.containerd.wasmtime.v2";

/// Annotations that containerd passes on to the shim.
const ANNOTATIONS: &str = "wasmtime.shim/*";

/// Plugin with the handlers: that of version 2, and that of later versions.
pub const PLUGINS: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

const COMMENT: &str =
    "# Written by node-installer of wasmtime-shim; `node-installer uninstall` removes it.\n";

/// Version of a configuration. It determines the names of the sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// 2, 3 or 4.
    pub version: i64,
}

impl Schema {
    /// Returns the plugin that has the handlers.
    pub fn plugin(self) -> &'static str {
        PLUGINS[usize::from(self.version > 2)]
    }

    /// Returns a file that has only the handler. It must have the version of the file that imports it, because
    /// containerd before 2.3 merges the files first and then takes the last version as that of the whole.
    pub fn drop_in(self, handler: &Handler) -> String {
        format!("{COMMENT}version = {}\n\n{}", self.version, self.handler_table(handler))
    }

    /// Returns the handler's own table as text. It has no options, not even `SystemdCgroup`, which the shim does not need:
    /// containerd 2.0.5 to 2.4.2 starts no container with a user namespace if the handler has options and is not runc's.
    pub fn handler_table(self, handler: &Handler) -> String {
        let mut text = format!("[{}]\n", self.table(HANDLER));
        for (key, path) in handler.keys() {
            text += &format!("  {key} = \"{path}\"\n");
        }
        text + &format!("  pod_annotations = [\"{ANNOTATIONS}\"]\n")
    }

    /// Returns the default handler. A file that has a table of handlers would otherwise remove it.
    fn default_tables(self) -> String {
        format!("[{}]\n  runtime_type = \"io.containerd.runc.v2\"\n\n", self.table("runc"))
    }

    fn table(self, name: &str) -> String {
        format!("plugins.\"{}\".containerd.runtimes.{name}", self.plugin())
    }
}

impl Handler {
    /// Returns the keys that name the shim.
    fn keys(&self) -> Vec<(&'static str, String)> {
        let path = self.binary.display().to_string();
        match self.path_is_type {
            true => vec![("runtime_type", path)],
            false => vec![("runtime_type", RUNTIME.to_owned()), ("runtime_path", path)],
        }
    }

    /// Returns whether a handler of that type is this shim's.
    fn is_of(&self, runtime: &str) -> bool {
        [RUNTIME, OLD_RUNTIME].contains(&runtime) || Path::new(runtime) == self.binary
    }
}

/// A parsed file.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    text: String,
    toml: DocumentMut,
}

impl Document {
    /// Parses a text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let broken = |error: toml_edit::TomlError| {
            let before = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
            let reason = format!("line {line}: {}", error.message().replace('\n', ", "));
            Error::BrokenConfig { path: path.to_owned(), reason }
        };
        let toml = text.parse().map_err(broken)?;
        Ok(Self { path: path.to_owned(), text: text.to_owned(), toml })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the version that the file gives. containerd treats a file without a version as version 1.
    pub fn schema(&self) -> Result<Schema, Error> {
        let version = self.toml.get("version").and_then(Item::as_integer).unwrap_or(1);
        match version {
            2..=4 => Ok(Schema { version }),
            found => Err(Error::ConfigVersion { path: self.path.clone(), found }),
        }
    }

    /// Checks whether Kubernetes can use a containerd with this file at all.
    pub fn check(&self) -> Result<(), Error> {
        let disabled = self.toml.get("disabled_plugins").and_then(Item::as_array);
        let names = disabled.into_iter().flatten().filter_map(|it| it.as_str());
        match names.into_iter().find(|name| *name == "cri" || PLUGINS.contains(name)) {
            Some(plugin) => {
                Err(Error::CriDisabled { path: self.path.clone(), plugin: plugin.into() })
            }
            None => self.schema().map(drop),
        }
    }

    /// Returns the absolute patterns of the files that this one imports.
    pub fn imports(&self) -> Vec<PathBuf> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let imports = self.toml.get("imports").and_then(Item::as_array);
        imports.into_iter().flatten().filter_map(|it| it.as_str()).map(|it| dir.join(it)).collect()
    }

    /// Returns a directory from which this file imports every `*.toml`.
    pub fn drop_in_dir(&self) -> Option<PathBuf> {
        let is_all = |path: &PathBuf| path.file_name().is_some_and(|name| name == "*.toml");
        self.imports().into_iter().find(is_all)?.parent().map(Path::to_owned)
    }

    /// Returns what containerd would read if this file had another text, or one more import.
    pub fn candidate(&self, text: String, import: Option<String>) -> Candidate {
        Candidate { path: self.path.clone(), text, import }
    }

    /// Returns whether the file configures the plugin with the handlers.
    pub fn has_section(&self) -> bool {
        PLUGINS
            .iter()
            .any(|plugin| self.toml.get("plugins").and_then(|it| it.get(plugin)).is_some())
    }

    /// Returns the type of the handler with our name, if there is one.
    pub fn handler(&self) -> Option<String> {
        let all = PLUGINS.iter().flat_map(|plugin| runtimes(&self.toml, plugin));
        all.into_iter().find(|(name, _)| name == HANDLER).map(|(_, runtime)| runtime)
    }

    /// Returns the text with the handler. The handler is added at the end if that is possible; otherwise it is
    /// completed or inserted where it must be. `defaults` is true if containerd keeps its default handler beside
    /// those that a file names.
    pub fn with_handler(&self, handler: &Handler, defaults: bool) -> Result<String, Error> {
        let mut base = Self::parse(&self.path, &block::without(&self.text))?;
        let schema = base.schema()?;
        match base.handler() {
            Some(runtime) if handler.is_of(&runtime) => {
                let runtimes = base.runtimes()?;
                if let Some(table) = runtimes.get_mut(HANDLER).and_then(Item::as_table_like_mut) {
                    complete(table, handler);
                }
                return Ok(base.toml.to_string());
            }
            Some(runtime) if !handler.replace => {
                return Err(Error::ForeignHandler { path: self.path.clone(), runtime });
            }
            Some(_) => {
                base.runtimes()?.remove(HANDLER);
                base.text = base.toml.to_string();
            }
            None => {}
        }
        let names_none = runtimes(&base.toml, schema.plugin()).is_empty();
        let default = if names_none && !defaults { schema.default_tables() } else { String::new() };
        let tables = default + &schema.handler_table(handler);
        let text = block::with(&base.text, &tables);
        // A table that is written in one line cannot be continued further down.
        if Self::parse(&self.path, &text).is_ok() {
            return Ok(text);
        }
        let mut table = Table::new();
        complete(&mut table, handler);
        base.runtimes()?.insert(HANDLER, Item::Table(table));
        Ok(base.toml.to_string())
    }

    /// Returns the text without the handler, wherever it is.
    pub fn without_handler(mut self) -> Result<String, Error> {
        if self.handler().is_none() {
            return Ok(self.text);
        }
        self.runtimes()?.remove(HANDLER);
        Ok(self.toml.to_string())
    }

    /// Returns the table of handlers. It is created if it does not exist.
    fn runtimes(&mut self) -> Result<&mut dyn TableLike, Error> {
        let plugin = self.schema()?.plugin();
        let path = self.path.clone();
        let mut table: &mut dyn TableLike = self.toml.as_table_mut();
        for key in ["plugins", plugin, "containerd", "runtimes"] {
            let item = table.entry(key).or_insert_with(implicit);
            let no_table = || Error::NoTable { path: path.clone(), key: key.to_owned() };
            table = item.as_table_like_mut().ok_or_else(no_table)?;
        }
        Ok(table)
    }
}

/// Makes a table without a header line of its own.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Sets the required keys and leaves all others as they are.
fn complete(table: &mut dyn TableLike, handler: &Handler) {
    for (key, wanted) in handler.keys() {
        if table.get(key).and_then(Item::as_str) != Some(wanted.as_str()) {
            table.insert(key, value(wanted));
        }
    }
    let annotations = table.entry("pod_annotations").or_insert(value(Array::new()));
    let Some(annotations) = annotations.as_array_mut() else { return };
    if annotations.iter().all(|it| it.as_str() != Some(ANNOTATIONS)) {
        annotations.push(ANNOTATIONS);
    }
}

/// Returns the handlers of a plugin, each with its type.
pub fn runtimes(toml: &DocumentMut, plugin: &str) -> Vec<(String, String)> {
    let containerd = toml.get("plugins").and_then(|it| it.get(plugin)?.get("containerd"));
    let runtimes = containerd.and_then(|it| it.get("runtimes")).and_then(Item::as_table_like);
    let entry = |(name, item): (&str, &Item)| {
        let runtime = item.get("runtime_type").and_then(Item::as_str).unwrap_or_default();
        (name.to_owned(), runtime.to_owned())
    };
    runtimes.map(|it| it.iter().map(entry).collect()).unwrap_or_default()
}
