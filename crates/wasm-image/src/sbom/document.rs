//! Writes a bill of materials as JSON (CycloneDX 1.6). It contains no time and no serial number, so that the same image
//! gets the same document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::contents::{Contents, Crate};

/// Returns the document for an image: its repository and digest, and its contents.
pub fn write(repository: &str, digest: &str, all: &[Contents]) -> Value {
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let mut crates = BTreeMap::new();
    let mut dependencies = vec![depends(digest, all.iter().map(reference))];
    for contents in all {
        dependencies.push(depends(&reference(contents), contents.direct.iter().cloned()));
        for (url, found) in &contents.crates {
            if crates.insert(url.clone(), package(url, found)).is_none() {
                dependencies.push(depends(url, found.dependencies.iter().cloned()));
            }
        }
    }
    let components: Vec<_> = all.iter().map(wasm).chain(crates.into_values()).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": digest,
                "name": name,
                "version": digest,
                "purl": format!("pkg:oci/{name}@{}", digest.replacen(':', "%3A", 1)),
            },
            "tools": { "components": [tool()] },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

fn tool() -> Value {
    json!({ "type": "application", "name": "wasm-image", "version": env!("CARGO_PKG_VERSION") })
}

/// Returns the name of a module or component in the document. Its digest alone would not distinguish two copies.
fn reference(contents: &Contents) -> String {
    format!("{}@{}", contents.name, contents.digest)
}

fn depends(from: &str, on: impl Iterator<Item = String>) -> Value {
    json!({ "ref": from, "dependsOn": on.collect::<Vec<_>>() })
}

fn wasm(contents: &Contents) -> Value {
    let mut component = Map::new();
    component.insert("type".into(), "application".into());
    component.insert("bom-ref".into(), reference(contents).into());
    component.insert("name".into(), contents.name.clone().into());
    let digits = contents.digest.trim_start_matches("sha256:");
    component.insert("hashes".into(), json!([{ "alg": "SHA-256", "content": digits }]));
    for (key, value) in [("version", &contents.version), ("description", &contents.description)] {
        if let Some(value) = value {
            component.insert(key.into(), value.clone().into());
        }
    }
    if let Some(expression) = &contents.licenses {
        component.insert("licenses".into(), json!([{ "expression": expression }]));
    }
    if let Some(source) = &contents.source {
        component.insert("externalReferences".into(), json!([{ "type": "vcs", "url": source }]));
    }
    let producers = contents.producers.iter();
    let producers =
        producers.map(|(field, tool)| (format!("wasm:producers:{field}"), tool.clone()));
    let revision = contents.revision.iter().map(|it| ("wasm:revision".to_owned(), it.clone()));
    let properties: Vec<_> = producers.chain(revision).map(property).collect();
    if !properties.is_empty() {
        component.insert("properties".into(), properties.into());
    }
    Value::Object(component)
}

fn property((name, value): (String, String)) -> Value {
    json!({ "name": name, "value": value })
}

fn package(url: &str, found: &Crate) -> Value {
    json!({
        "type": "library",
        "bom-ref": url,
        "name": found.name,
        "version": found.version,
        "purl": url.split('?').next().unwrap_or(url),
        "scope": if found.is_build { "excluded" } else { "required" },
        "properties": [{ "name": "cargo:source", "value": found.source }],
    })
}
