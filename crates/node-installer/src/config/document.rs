//! One file of containerd's configuration (containerd-config.toml(5)), and the handler in it.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::{Candidate, Handler};
use crate::errors::Error;

/// The handler's name, as RuntimeClasses have it.
pub const HANDLER: &str = "wasmtime";

/// containerd's name for the shim.
pub const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// The name by which older k3s know it: the same binary.
const OLD_RUNTIME: &str = "io.containerd.wasmtime.v2";

/// The annotations that containerd hands over to the shim.
const ANNOTATIONS: &str = "wasmtime.shim/*";

/// The plugin with the handlers: of version 2, and of those since.
pub const PLUGINS: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];

const COMMENT: &str =
    "# Added by node-installer of wasmtime-shim; `node-installer uninstall` removes it.\n";

/// The version of a configuration, and with it the names of its sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// 2, 3 or 4.
    pub version: i64,
}

impl Schema {
    /// The plugin that has the handlers.
    pub fn plugin(self) -> &'static str {
        PLUGINS[usize::from(self.version > 2)]
    }

    /// A file with nothing but the handler. It is of the version of the file that imports it: before 2.3, containerd merges
    /// them first, and then takes the last version for that of the whole.
    pub fn drop_in(self, handler: &Handler, systemd: Option<bool>) -> String {
        let mut text = format!("{COMMENT}version = {}\n\n{}", self.version, self.tables(handler));
        if let Some(systemd) = systemd {
            let (plugin, name) = (self.plugin(), HANDLER);
            text += &format!(
                "\n[plugins.\"{plugin}\".containerd.runtimes.{name}.options]\n  SystemdCgroup = {systemd}\n"
            );
        }
        text
    }

    /// The handler's own table as text.
    pub fn tables(self, handler: &Handler) -> String {
        format!(
            "[plugins.\"{}\".containerd.runtimes.{HANDLER}]\n  runtime_type = \"{RUNTIME}\"\n  runtime_path = \
             \"{}\"\n  pod_annotations = [\"{ANNOTATIONS}\"]\n",
            self.plugin(),
            handler.binary.display()
        )
    }
}

/// A file.
#[derive(Debug, Clone)]
pub struct Document {
    path: PathBuf,
    toml: DocumentMut,
}

impl Document {
    /// Reads a text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let broken = |error: toml_edit::TomlError| Error::BrokenConfig {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        };
        Ok(Self { path: path.to_owned(), toml: text.parse().map_err(broken)? })
    }

    /// An empty file of that version.
    pub fn new(path: &Path, version: i64) -> Self {
        let mut toml = DocumentMut::new();
        toml["version"] = value(version);
        Self { path: path.to_owned(), toml }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of its text: what was not changed is as it was, byte for byte.
    pub fn text(&self) -> String {
        self.toml.to_string()
    }

    /// The version that it states; containerd takes a file without one for version 1.
    pub fn schema(&self) -> Result<Schema, Error> {
        let version = self.toml.get("version").and_then(Item::as_integer).unwrap_or(1);
        match version {
            2..=4 => Ok(Schema { version }),
            found => Err(Error::ConfigVersion { path: self.path.clone(), found }),
        }
    }

    /// Whether Kubernetes can use a containerd with it at all.
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

    /// The patterns of files that it imports, absolute.
    pub fn imports(&self) -> Vec<PathBuf> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let imports = self.toml.get("imports").and_then(Item::as_array);
        imports.into_iter().flatten().filter_map(|it| it.as_str()).map(|it| dir.join(it)).collect()
    }

    /// A directory of which it imports every `*.toml`.
    pub fn drop_in_dir(&self) -> Option<PathBuf> {
        let is_all = |path: &PathBuf| path.file_name().is_some_and(|name| name == "*.toml");
        self.imports().into_iter().find(is_all)?.parent().map(Path::to_owned)
    }

    /// What containerd would read if the file had another text, or one more import.
    pub fn candidate(&self, text: String, import: Option<String>) -> Candidate {
        Candidate { path: self.path.clone(), text, import }
    }

    /// Whether the plugin with the handlers is configured in it.
    pub fn has_section(&self) -> bool {
        PLUGINS
            .iter()
            .any(|plugin| self.toml.get("plugins").and_then(|it| it.get(plugin)).is_some())
    }

    /// Whether it has a handler of our name.
    pub fn has_handler(&self) -> bool {
        PLUGINS
            .iter()
            .any(|plugin| runtimes(&self.toml, plugin).iter().any(|(name, _)| name == HANDLER))
    }

    /// What it says for the cgroup driver of the default handler.
    pub fn systemd_cgroup(&self) -> Option<bool> {
        let of_plugin = |plugin: &&str| {
            let containerd = self.toml.get("plugins")?.get(plugin)?.get("containerd")?;
            let name =
                containerd.get("default_runtime_name").and_then(Item::as_str).unwrap_or("runc");
            containerd.get("runtimes")?.get(name)?.get("options")?.get("SystemdCgroup")?.as_bool()
        };
        PLUGINS.iter().find_map(of_plugin)
    }

    /// Names the runtime that there is by default, where it is not named: a table of handlers would otherwise replace it.
    pub fn keep_default_runtime(&mut self) -> Result<(), Error> {
        let runtimes = self.runtimes()?;
        if runtimes.is_empty() {
            let mut runc = Table::new();
            runc["runtime_type"] = value("io.containerd.runc.v2");
            runc.decor_mut().set_prefix(format!("\n{COMMENT}"));
            runtimes.insert("runc", Item::Table(runc));
        }
        Ok(())
    }

    /// Adds the handler, or completes the one that is there.
    pub fn add_handler(&mut self, handler: &Handler, systemd: Option<bool>) -> Result<(), Error> {
        let path = self.path.clone();
        let runtimes = self.runtimes()?;
        let found = runtimes.get(HANDLER).and_then(Item::as_table_like);
        let runtime = found.and_then(|it| it.get("runtime_type")).and_then(Item::as_str);
        let is_foreign = found.is_some() && !matches!(runtime, Some(RUNTIME | OLD_RUNTIME));
        if is_foreign && !handler.replace {
            let runtime = runtime.unwrap_or_default().to_owned();
            return Err(Error::ForeignHandler { path, runtime });
        }
        if is_foreign {
            runtimes.remove(HANDLER);
        }
        match runtimes.get_mut(HANDLER).and_then(Item::as_table_like_mut) {
            Some(table) => complete(table, handler),
            None => {
                runtimes.insert(HANDLER, Item::Table(table(handler, systemd)));
            }
        }
        Ok(())
    }

    /// Removes the handler; whether there was one.
    pub fn remove_handler(&mut self) -> bool {
        if !self.has_handler() {
            return false;
        }
        let Ok(runtimes) = self.runtimes() else { return false };
        let removed = runtimes.remove(HANDLER).is_some();
        // One that was named only so as not to be replaced.
        let is_ours = |item: &Item| {
            let prefix =
                item.as_table().and_then(|it| it.decor().prefix()).and_then(|it| it.as_str());
            prefix.is_some_and(|it| it.contains(COMMENT.trim_end()))
        };
        if runtimes.get("runc").is_some_and(is_ours) {
            runtimes.remove("runc");
        }
        removed
    }

    /// The table of handlers, which is made where there is none.
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

/// A table without a line of its own.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

fn table(handler: &Handler, systemd: Option<bool>) -> Table {
    let mut table = Table::new();
    table["runtime_type"] = value(RUNTIME);
    complete(&mut table, handler);
    table.decor_mut().set_prefix(format!("\n{COMMENT}"));
    if let Some(systemd) = systemd {
        table["options"] = Item::Table(Table::from_iter([("SystemdCgroup", systemd)]));
    }
    table
}

/// Sets what has to be so, and leaves everything else as it is.
fn complete(table: &mut dyn TableLike, handler: &Handler) {
    let path = handler.binary.display().to_string();
    if table.get("runtime_path").and_then(Item::as_str) != Some(path.as_str()) {
        table.insert("runtime_path", value(path));
    }
    let annotations = table.entry("pod_annotations").or_insert(value(Array::new()));
    let Some(annotations) = annotations.as_array_mut() else { return };
    if annotations.iter().all(|it| it.as_str() != Some(ANNOTATIONS)) {
        annotations.push(ANNOTATIONS);
    }
}

/// The handlers of a plugin, and the type of each.
pub fn runtimes(toml: &DocumentMut, plugin: &str) -> Vec<(String, String)> {
    let containerd = toml.get("plugins").and_then(|it| it.get(plugin)?.get("containerd"));
    let runtimes = containerd.and_then(|it| it.get("runtimes")).and_then(Item::as_table_like);
    let entry = |(name, item): (&str, &Item)| {
        let runtime = item.get("runtime_type").and_then(Item::as_str).unwrap_or_default();
        (name.to_owned(), runtime.to_owned())
    };
    runtimes.map(|it| it.iter().map(entry).collect()).unwrap_or_default()
}
