//! Reads the metadata of a module or component and of those inside it: their `producers` sections, the sections of
//! `wasm-tools metadata`, and `.dep-v0`, which `cargo auditable` writes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use auditable_serde::{DependencyKind, Package, Source, VersionInfo};
use wasm_metadata::{Metadata, Payload};

use crate::store::blob;

/// One file of WebAssembly.
#[derive(Debug, Default)]
pub struct Contents {
    /// Name of the layer or file.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// Its version.
    pub version: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// Its licences, as an SPDX expression.
    pub licenses: Option<String>,
    /// Location of its source.
    pub source: Option<String>,
    /// Revision of its source.
    pub revision: Option<String>,
    /// Tools that made it, with the field of the section (`language`, `processed-by`, `sdk`).
    pub producers: BTreeSet<(String, String)>,
    /// Crates that it was built from, by their package URLs.
    pub crates: BTreeMap<String, Crate>,
    /// The crates that it depends on directly.
    pub direct: BTreeSet<String>,
}

/// A crate that something was built from.
#[derive(Debug, PartialEq)]
pub struct Crate {
    /// Name of the crate.
    pub name: String,
    /// Version of the crate.
    pub version: String,
    /// Source of the crate.
    pub source: String,
    /// Whether it was only needed for the build.
    pub is_build: bool,
    /// Package URLs of its dependencies.
    pub dependencies: BTreeSet<String>,
}

impl Contents {
    /// Reads a module or component.
    ///
    /// # Errors
    /// Fails for a section that cannot be parsed.
    pub fn read(name: &str, wasm: &[u8]) -> Result<Self> {
        ensure!(!compose::is_too_deep(wasm), "{name} nests its components too deeply");
        let what = || format!("cannot read the metadata of {name}");
        let payload = Payload::from_binary(wasm).with_context(what)?;
        let mut contents =
            Self { name: name.to_owned(), digest: blob::digest(wasm), ..Self::default() };
        let own = payload.metadata();
        let text = |it: &dyn ToString| it.to_string();
        contents.version = own.version.as_ref().map(|it| text(it));
        contents.description = own.description.as_ref().map(|it| text(it));
        contents.licenses = own.licenses.as_ref().map(|it| text(it));
        contents.source = own.source.as_ref().map(|it| text(it));
        contents.revision = own.revision.as_ref().map(|it| text(it));
        contents.add(&payload);
        Ok(contents)
    }

    fn add(&mut self, payload: &Payload) {
        self.add_one(payload.metadata());
        if let Payload::Component { children, .. } = payload {
            children.iter().for_each(|it| self.add(it));
        }
    }

    fn add_one(&mut self, metadata: &Metadata) {
        for (field, tools) in metadata.producers.iter().flat_map(|it| it.iter()) {
            for (tool, version) in tools.iter() {
                let tool = format!("{tool} {version}").trim_end().to_owned();
                self.producers.insert((field.clone(), tool));
            }
        }
        if let Some(dependencies) = &metadata.dependencies {
            self.add_crates(dependencies.version_info());
        }
    }

    fn add_crates(&mut self, info: &VersionInfo) {
        let named = |package: &Package| -> BTreeSet<String> {
            package.dependencies.iter().filter_map(|&at| info.packages.get(at)).map(url).collect()
        };
        for package in &info.packages {
            let known = self.crates.entry(url(package)).or_insert_with(|| Crate {
                name: package.name.clone(),
                version: package.version.to_string(),
                source: String::from(package.source.clone()),
                is_build: true,
                dependencies: BTreeSet::new(),
            });
            known.is_build &= package.kind == DependencyKind::Build;
            known.dependencies.extend(named(package));
            if package.root {
                self.direct.insert(url(package));
            }
        }
    }
}

/// Returns the URL of a package (package-url specification, "cargo"). It names the source if that is not crates.io.
fn url(package: &Package) -> String {
    let version = package.version.to_string().replace('+', "%2B");
    let plain = format!("pkg:cargo/{}@{version}", package.name);
    match &package.source {
        Source::CratesIo => plain,
        other => format!("{plain}?source={}", String::from(other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::Compression;
    use flate2::read::ZlibEncoder;

    use super::*;

    /// Makes a module that `cargo auditable` built from these packages, as JSON.
    fn audited(packages: &str) -> Vec<u8> {
        let mut metadata = wasm_metadata::AddMetadata::default();
        metadata.processed_by = vec![("rustc".into(), "1.96".into())];
        metadata.language = vec![("Rust".into(), String::new())];
        let module = metadata.to_wasm(&wat::parse_str("(module)").unwrap()).unwrap();
        let json = format!(r#"{{"packages":[{packages}]}}"#);
        let mut list = Vec::new();
        ZlibEncoder::new(json.as_bytes(), Compression::fast()).read_to_end(&mut list).unwrap();
        let section = [b"\x07.dep-v0".as_slice(), &list].concat();
        [module.as_slice(), b"\0", &leb(section.len()), &section].concat()
    }

    #[test]
    fn crates_and_tools_of_a_module_are_those_of_the_component_around_it() {
        let module = audited(
            r#"{"name":"app","version":"0.1.0","source":"local","dependencies":[1],"root":true},
               {"name":"serde","version":"1.0.0+x","source":"crates.io","dependencies":[2]},
               {"name":"cc","version":"1.2.0","source":"crates.io","kind":"build"}"#,
        );
        let component = [b"\0asm\x0d\0\x01\0\x01".as_slice(), &leb(module.len()), &module].concat();
        let contents = Contents::read("app.wasm", &component).unwrap();
        let tool = |field: &str, tool: &str| (field.to_owned(), tool.to_owned());
        let expected = [tool("language", "Rust"), tool("processed-by", "rustc 1.96")];
        assert_eq!(contents.producers, expected.into());
        let urls: Vec<_> = contents.crates.keys().map(String::as_str).collect();
        let app = "pkg:cargo/app@0.1.0?source=local";
        assert_eq!(urls, [app, "pkg:cargo/cc@1.2.0", "pkg:cargo/serde@1.0.0%2Bx"]);
        assert!(contents.crates["pkg:cargo/cc@1.2.0"].is_build);
        assert_eq!(contents.crates[app].dependencies, ["pkg:cargo/serde@1.0.0%2Bx".into()].into());
        assert_eq!(contents.direct, [app.to_owned()].into());
    }

    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let section = b"\0\x0a\x07.dep-v0xx";
        let wasm = [b"\0asm\x01\0\0\0".as_slice(), section].concat();
        let error = Contents::read("app.wasm", &wasm).unwrap_err();
        assert!(error.to_string().contains("the metadata of app.wasm"), "{error}");
    }
}
