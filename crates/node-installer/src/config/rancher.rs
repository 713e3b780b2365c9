//! k3s and RKE2, which generate containerd's configuration at each start: from `config-v3.toml.tmpl` or `config.toml.tmpl`
//! where there is one, or else from a text of their own. Both texts import drop-ins from `config-v3.toml.d` or
//! `config.toml.d` in versions that know these directories.

use std::path::{Path, PathBuf};

use super::document::{Document, HANDLER, Schema};
use super::{DROP_IN, Edit, Handler, Plan, block, drop_in, imports, systemd_cgroup};
use crate::errors::Error;
use crate::tree::Tree;
use crate::version::Version;

/// A template of nothing but the text that k3s has by itself.
const BASE: &str = "{{ template \"base\" . }}\n";

/// Decides which file has to be another.
pub fn plan(tree: &Tree, dir: &Path, version: &Version, handler: &Handler) -> Result<Plan, Error> {
    let generated = dir.join("config.toml");
    let generated = match tree.text(&generated)? {
        Some(text) => Some(Document::parse(&generated, &text)?),
        None => None,
    };
    let schema = schema(tree, dir, version, generated.as_ref())?;
    let drop_ins = dir.join(if schema.version == 2 { "config.toml.d" } else { "config-v3.toml.d" });
    let imported = match &generated {
        Some(main) => imports(tree, main)?,
        None => Vec::new(),
    };
    let systemd = generated.as_ref().and_then(|main| systemd_cgroup(main, &imported));
    let reads_drop_ins = match &generated {
        Some(main) => main.drop_in_dir().is_some_and(|it| it == drop_ins),
        // Never started: a version that brings containerd 2.x has them.
        None => version.merges_imports(),
    };
    if reads_drop_ins && version.merges_imports() {
        let text = schema.drop_in(handler, systemd);
        return drop_in(tree, &drop_ins.join(DROP_IN), text, generated.as_ref());
    }
    in_template(tree, template(dir, schema), schema, handler, systemd)
}

/// The version of the configuration that is generated: that of the template, if there is one.
fn schema(
    tree: &Tree,
    dir: &Path,
    version: &Version,
    generated: Option<&Document>,
) -> Result<Schema, Error> {
    if version.major >= 2 && tree.exists(&template(dir, Schema { version: 3 })) {
        return Ok(Schema { version: 3 });
    }
    if tree.exists(&template(dir, Schema { version: 2 })) {
        return Ok(Schema { version: 2 });
    }
    generated.map_or(Ok(Schema { version: version.config_version() }), Document::schema)
}

fn template(dir: &Path, schema: Schema) -> PathBuf {
    dir.join(if schema.version == 2 { "config.toml.tmpl" } else { "config-v3.toml.tmpl" })
}

/// The handler at the end of the template, which is made where there is none. k3s does not look for shims where ours is put,
/// so that its own text does not have the same table.
fn in_template(
    tree: &Tree,
    path: PathBuf,
    schema: Schema,
    handler: &Handler,
    systemd: Option<bool>,
) -> Result<Plan, Error> {
    let found = tree.text(&path)?;
    let before = block::without(found.as_deref().unwrap_or(BASE));
    if names_handler(&before) {
        // Perhaps with conditions: not ours to judge, and a second table would be an error.
        return Err(Error::HandlerInTemplate { path });
    }
    let text = block::with(&before, &schema.tables(handler, systemd));
    let is_there = found.as_ref() == Some(&text);
    let edit = Edit { path, text, is_ours: found.is_none() };
    Ok(Plan { edits: if is_there { Vec::new() } else { vec![edit] }, candidate: None })
}

fn names_handler(template: &str) -> bool {
    let names = [
        format!("runtimes.{HANDLER}]"),
        format!("runtimes.\"{HANDLER}\"]"),
        format!("runtimes.'{HANDLER}']"),
    ];
    names.iter().any(|name| template.contains(name))
}
