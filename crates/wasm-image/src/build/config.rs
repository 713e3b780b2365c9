//! Writes the JSON documents that describe an image.
//!
//! They are written with `json!` in a fixed order, so that the same image has the same digest.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wasmparser::{Parser, Payload};

use crate::args::{Build, KeyValue, Port};
use crate::platform::Platform;
use crate::store::blob;

/// Time of creation, which the config of an artifact must have. It is fixed, so that builds are reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// The layers in the config of an image.
#[derive(Debug, Default)]
pub struct Layers {
    /// Digests of the uncompressed layers of the root file system. containerd 2 does not count layers that it cannot
    /// unpack, and refuses an image if the number of the others differs.
    pub rootfs: Vec<String>,
    /// Digests of the wasm layers. Images with different guests must have different configs, because CRI uses the
    /// digest of the config as the image's id.
    pub wasm: Vec<String>,
}

/// Returns the config of an image (OCI image specification, "OCI Image Configuration").
pub fn of_image(
    build: &Build,
    entrypoint: &[String],
    platform: &Platform,
    layers: &Layers,
) -> Vec<u8> {
    let Platform { os, architecture } = platform;
    let mut config = json!({
        "architecture": architecture,
        "os": os,
        "config": run_config(build, entrypoint),
        "rootfs": { "type": "layers", "diff_ids": layers.rootfs },
    });
    if !layers.wasm.is_empty() {
        name_layers(&mut config, &layers.wasm);
    }
    config.to_string().into_bytes()
}

/// Adds the wasm layers to an image's config. They are a label, because other tools drop unknown fields of a config but
/// keep labels.
pub fn name_layers(config: &mut Value, wasm: &[String]) {
    config["config"]["Labels"][provided::LAYERS_LABEL] = json!(blob::chain_id(wasm));
}

/// Returns how to run the image. Options that were not given are left out, as other builders do.
fn run_config(build: &Build, entrypoint: &[String]) -> Value {
    let mut config = serde_json::Map::new();
    let mut put = |key: &str, empty: bool, value: Value| {
        if !empty {
            config.insert(key.into(), value);
        }
    };
    put("User", build.user.is_none(), json!(build.user));
    put("ExposedPorts", build.expose.is_empty(), ports(&build.expose));
    put("Env", build.env.is_empty(), build.env.iter().map(assignment).collect());
    put("Entrypoint", entrypoint.is_empty(), json!(entrypoint));
    put("Cmd", build.cmd.is_empty(), json!(build.cmd));
    put("WorkingDir", build.workdir.is_none(), json!(build.workdir));
    put("Labels", build.labels.is_empty(), map(&build.labels));
    Value::Object(config)
}

/// Formats an environment variable.
pub fn assignment(KeyValue { key, value }: &KeyValue) -> String {
    format!("{key}={value}")
}

/// Formats a set, which OCI writes as an object of empty objects.
fn ports(ports: &[Port]) -> Value {
    ports.iter().map(|it| (it.to_string(), json!({}))).collect()
}

/// Formats labels or annotations.
pub fn map(pairs: &[KeyValue]) -> Value {
    pairs.iter().map(|it| (it.key.clone(), Value::from(it.value.clone()))).collect()
}

/// Returns the config of a CNCF Wasm OCI artifact (TAG Runtime, "Wasm OCI Artifact").
pub fn of_artifact(wasm: &[u8], layer_digest: &str) -> Result<Vec<u8>> {
    let mut config = json!({
        "created": CREATED,
        "architecture": "wasm",
        "os": "wasip1",
        "layerDigests": [layer_digest],
    });
    if Parser::is_component(wasm) {
        let (imports, exports) = interfaces(wasm)?;
        config["os"] = "wasip2".into();
        config["component"] = json!({ "imports": imports, "exports": exports });
    } else {
        ensure!(
            Parser::is_core_wasm(wasm),
            "it has the header of neither a module nor a component"
        );
    }
    Ok(config.to_string().into_bytes())
}

/// Returns the names of a component's imports and exports, in the component's order.
fn interfaces(wasm: &[u8]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_given_is_left_out() {
        let config = of_image(&Build::default(), &[], &Platform::wasip1(), &Layers::default());
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["config"], json!({}));
        assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": [] }));
    }

    #[test]
    fn the_user_is_written_as_given() {
        let build = Build { user: Some("www-data:100".into()), ..Build::default() };
        let config = of_image(&build, &[], &Platform::host(), &Layers::default());
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["config"], json!({ "User": "www-data:100" }));
    }

    #[test]
    fn ports_are_a_set_and_the_working_directory_a_path() {
        let expose = ["8080", "53/udp"].map(|it| it.parse().unwrap()).to_vec();
        let build = Build { expose, workdir: Some("/data".into()), ..Build::default() };
        let config = of_image(&build, &[], &Platform::wasip2(), &Layers::default());
        let config: Value = serde_json::from_slice(&config).unwrap();
        let ports = json!({ "8080/tcp": {}, "53/udp": {} });
        assert_eq!(config["config"], json!({ "ExposedPorts": ports, "WorkingDir": "/data" }));
    }

    #[test]
    fn a_module_is_a_wasip1_artifact_without_interfaces() {
        let config = of_artifact(b"\0asm\x01\0\0\0", "sha256:00").unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["os"], "wasip1");
        assert_eq!(config.get("component"), None);
    }

    #[test]
    fn an_artifact_lists_what_the_component_exports_itself() {
        let component = wat::parse_str(
            r#"(component
                (import "acme:db/query@1.0.0" (instance))
                (component (import "not-this" (func)))
                (core module (func))
                (instance $i)
                (export "acme:app/main@0.1.0" (instance $i)))"#,
        );
        let config = of_artifact(&component.unwrap(), "sha256:00").unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["component"]["imports"], json!(["acme:db/query@1.0.0"]));
        assert_eq!(config["component"]["exports"], json!(["acme:app/main@0.1.0"]));
    }
}
