//! k3s and RKE2 generate containerd's configuration at each start: from `config-v3.toml.tmpl` or `config.toml.tmpl` if
//! it exists, otherwise from a built-in text. Both texts import drop-ins from `config-v3.toml.d` or `config.toml.d` in
//! versions that support these directories.

use std::path::{Path, PathBuf};

use super::document::{Document, HANDLER, Schema};
use super::{DROP_IN, Edit, Handler, Plan, block, drop_in};
use crate::errors::Error;
use crate::tree::Tree;
use crate::version::Version;

/// A template that contains only the built-in text of k3s.
const BASE: &str = "{{ template \"base\" . }}\n";

/// Decides which file must change.
pub fn plan(tree: &Tree, dir: &Path, version: &Version, handler: &Handler) -> Result<Plan, Error> {
    let generated = dir.join("config.toml");
    let generated = match tree.text(&generated)? {
        Some(text) => Some(Document::parse(&generated, &text)?),
        None => None,
    };
    let schema = schema(tree, dir, version, generated.as_ref())?;
    let drop_ins = dir.join(if schema.version == 2 { "config.toml.d" } else { "config-v3.toml.d" });
    let reads_drop_ins = match &generated {
        Some(main) => main.drop_in_dir().is_some_and(|it| it == drop_ins),
        // k3s was never started. A version that has containerd 2.x supports the directories.
        None => version.merges_imports(),
    };
    if reads_drop_ins && version.merges_imports() {
        let text = schema.drop_in(handler);
        return drop_in(tree, &drop_ins.join(DROP_IN), text, generated.as_ref());
    }
    in_template(tree, template(dir, schema), schema, handler)
}

/// Returns the version of the generated configuration: that of the template, if there is one.
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

/// Plans the handler at the end of the template, which is created if it does not exist. k3s does not look for shims in
/// our directory, so that its own text does not have the same table.
fn in_template(
    tree: &Tree,
    path: PathBuf,
    schema: Schema,
    handler: &Handler,
) -> Result<Plan, Error> {
    let found = tree.text(&path)?;
    let before = block::without(found.as_deref().unwrap_or(BASE));
    if names_handler(&before) {
        // The template may have conditions that we cannot evaluate, and a second table would be an error.
        return Err(Error::HandlerInTemplate { path });
    }
    let text = block::with(&before, &schema.handler_table(handler));
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
