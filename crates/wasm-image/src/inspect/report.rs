//! The report of `inspect`, for programs and for people.

use std::fmt;

use grants::{CodeSettings, Names, Package};
use serde::Serialize;

use super::guest::Guest;
use super::{asks, verdict};
use crate::composition::{self, Composition, Part};
use crate::progress::size;

/// A report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name of the inspected image or file.
    pub image: String,
    /// Digest of the manifest or index.
    pub digest: Option<String>,
    /// Platforms of the image.
    pub platforms: Vec<String>,
    /// The node for which the image is judged: its platform and containerd. `None` for a file.
    pub node: Option<String>,
    /// Entrypoint of the image.
    pub entrypoint: Vec<String>,
    /// Layers of the image.
    pub layers: Vec<Layer>,
    /// What the image asks to be granted, each as the label that says so.
    pub asks: Vec<String>,
    /// The modules and components that run. Empty for a Linux image.
    pub guests: Vec<Guest>,
    /// How several components are composed.
    pub composition: Option<Composition>,
    /// Further remarks.
    pub notes: Vec<String>,
    /// Whether a Pod must give a `command`, because the image has no entrypoint.
    pub needs_command: bool,
    /// Whether this version of the shim can run it.
    pub runs: bool,
    /// The reason if it cannot.
    pub reason: Option<String>,
    /// This version of the shim.
    pub shim: &'static str,
    /// Why no container is made of it, whatever its guests are.
    #[serde(skip)]
    pub refused: Option<String>,
    /// How the code of its guests is made, as the image asks for.
    #[serde(skip)]
    pub code: CodeSettings,
    /// What its guests are offered, as the image asks for.
    #[serde(skip)]
    pub interfaces: Names<Package>,
}

/// A layer of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: String,
    /// Size in bytes, as it is transferred.
    pub size: u64,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            image: String::new(),
            digest: None,
            platforms: Vec::new(),
            node: None,
            entrypoint: Vec::new(),
            layers: Vec::new(),
            asks: Vec::new(),
            guests: Vec::new(),
            composition: None,
            notes: Vec::new(),
            needs_command: false,
            runs: true,
            reason: None,
            shim: env!("CARGO_PKG_VERSION"),
            refused: None,
            code: CodeSettings::default(),
            interfaces: Names::default(),
        }
    }
}

impl Report {
    /// Adds what the image asks for by its labels.
    pub fn add_labels(&mut self, labels: &[(String, String)]) {
        match asks::requested(&provided::OF_IMAGE, labels) {
            Ok(requested) => {
                self.asks = asks::shown(labels);
                self.code = CodeSettings::of_image(&requested);
                self.interfaces = Names::of_image(requested.interfaces);
            }
            Err(why) => {
                self.refused.get_or_insert_with(|| why.to_string());
            }
        }
    }

    /// Adds the application and the components that it is composed with. Judges them by their world, or by the `export`
    /// that the entrypoint names.
    pub fn add(&mut self, parts: &[Part], export: Option<&str>) {
        self.guests = parts.iter().map(Guest::of).collect();
        let reason = |guest: &Guest| verdict::reason(guest, export, &self.code, &self.interfaces);
        let reason = match self.guests.as_slice() {
            [] => None,
            [application] => reason(application),
            [_, ..] => match composition::compose(parts) {
                Ok((whole, composition)) => {
                    self.composition = Some(composition);
                    reason(&Guest::of(&whole))
                }
                Err(reason) => Some(reason),
            },
        };
        self.reason = self.refused.clone().or(reason);
        self.runs = self.reason.is_none();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.image)?;
        let mut line = |name: &str, text: &str| match text.is_empty() {
            true => Ok(()),
            false => writeln!(f, "  {name:<14}{text}"),
        };
        line("digest", self.digest.as_deref().unwrap_or_default())?;
        line("platform", &self.platforms.join(", "))?;
        line("node", self.node.as_deref().unwrap_or_default())?;
        line("entrypoint", &self.entrypoint.join(" "))?;
        for layer in &self.layers {
            line("layer", &format!("{:<12}{}", size(layer.size), layer.media_type))?;
        }
        for ask in &self.asks {
            line("asks for", ask)?;
        }
        for guest in &self.guests {
            describe(guest, f)?;
        }
        for wire in self.composition.iter().flat_map(|it| &it.wires) {
            writeln!(f, "  {:<14}{wire}", "composed")?;
        }
        for unused in self.composition.iter().flat_map(|it| &it.unused) {
            writeln!(f, "  {:<14}{unused}: nothing that is run imports from it", "left out")?;
        }
        for note in &self.notes {
            writeln!(f, "  {:<14}{note}", "note")?;
        }
        match &self.reason {
            None if self.needs_command => {
                let shim = self.shim;
                write!(f, "  {:<14}yes, on wasmtime-shim {shim}, in a Pod with a `command`", "runs")
            }
            None => write!(f, "  {:<14}yes, on wasmtime-shim {}", "runs", self.shim),
            Some(reason) => {
                write!(f, "  {:<14}no, not on wasmtime-shim {}: {reason}", "runs", self.shim)
            }
        }
    }
}

fn describe(guest: &Guest, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = |name: &str, text: &str| writeln!(f, "  {name:<14}{text}");
    line("guest", &format!("{}, a {} of {}", guest.name, guest.kind, size(guest.size)))?;
    line("world", guest.world.unwrap_or("none that runs by itself"))?;
    for (field, names) in &guest.producers {
        line(field, &names.join(", "))?;
    }
    let mut name = "imports";
    for import in &guest.imports {
        line(name, &import.name)?;
        name = "";
    }
    name = "exports";
    for export in &guest.exports {
        line(name, export)?;
        name = "";
    }
    if !guest.features.is_empty() {
        line("WebAssembly", &format!("2.0 with {}", guest.features.join(", ")))?;
    }
    if !guest.interfaces.is_empty() {
        let names: Vec<&str> = guest.interfaces.iter().map(|it| it.name()).collect();
        line("interfaces", &names.join(", "))?;
    }
    name = "needs";
    for grant in &guest.needs {
        line(name, grant.in_words())?;
        name = "";
    }
    Ok(())
}
