//! Decides which export satisfies which import, by names alone and without looking at types.
//!
//! Another layer satisfies an import if it exports an interface of that name. Otherwise the host must provide it. The
//! exact version is preferred. If no layer has it, a compatible one is used, as when Wasmtime links guests to their
//! host (Semantic Versioning: the same major version; below 1.0, the same minor version). The application's own exports
//! are considered last, because a layer that imports from the application forms a circle with it. The error then shows
//! the circle.

use std::collections::BTreeSet;

use provided::{Interface, Version, provides};

use crate::error::{Error, Missing};

/// The names of a component's imports and exports.
#[derive(Debug, Default)]
pub struct Names {
    /// Name of the component in errors.
    pub name: String,
    /// Imported interfaces and functions, in order.
    pub imports: Vec<String>,
    /// The imports that consist of types alone. They need no provider.
    pub types: BTreeSet<String>,
    /// Exported interfaces and functions, in order.
    pub exports: Vec<String>,
}

/// An import and the export that satisfies it. Components are given by their position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Position of the component that imports.
    pub importer: usize,
    /// Name of the import.
    pub import: String,
    /// Position of the component that exports.
    pub exporter: usize,
    /// Name of the export, which may have another version than the import.
    pub export: String,
}

/// Returns the wires of the application, which is the first layer, and of all components that it needs. The wires of
/// one component are adjacent.
///
/// # Errors
/// [`Error::Missing`], [`Error::Ambiguous`], [`Error::Cycle`].
pub fn choose(layers: &[Names], host: &[Interface]) -> Result<Vec<Wire>, Error> {
    let (mut wires, mut missing) = (Vec::new(), Vec::new());
    let (mut reached, mut next) = (BTreeSet::from([0]), vec![0]);
    while let Some(importer) = next.pop() {
        for import in &layers[importer].imports {
            // It does not matter which component provides an interface of types alone.
            let is_needed = !layers[importer].types.contains(import);
            let found = match exporter(layers, importer, import) {
                Err(_) if !is_needed => None,
                found => found?,
            };
            match found {
                Some(wire) => {
                    if reached.insert(wire.exporter) {
                        next.push(wire.exporter);
                    }
                    wires.push(wire);
                }
                None if !is_needed || provides(host, import, None) => {}
                None => missing.push(missing_import(layers, importer, import)),
            }
        }
    }
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    match circle(layers.len(), &wires) {
        Some(circle) => Err(Error::Cycle(circle.iter().map(|it| describe(layers, it)).collect())),
        None => Ok(wires),
    }
}

/// Finds the layer that satisfies an import. Returns `None` if no other layer does.
fn exporter(layers: &[Names], importer: usize, import: &str) -> Result<Option<Wire>, Error> {
    let others = || (1..layers.len()).chain([0]).filter(|it| *it != importer);
    let exact = others().filter_map(|it| find(layers, it, |export| export == import));
    let mut found: Vec<_> = exact.collect();
    if found.is_empty() {
        found = others().filter_map(|it| compatible(layers, it, import)).collect();
    }
    if found.len() > 1 {
        found.retain(|(exporter, _)| *exporter != 0);
    }
    match found.as_slice() {
        [] => Ok(None),
        [(exporter, export)] => {
            let (import, export) = (import.to_owned(), (*export).to_owned());
            Ok(Some(Wire { importer, import, exporter: *exporter, export }))
        }
        several => {
            let described =
                |(at, export): &(usize, &str)| format!("{} ({export})", layers[*at].name);
            Err(Error::Ambiguous {
                importer: layers[importer].name.clone(),
                import: import.to_owned(),
                candidates: several.iter().map(described).collect(),
            })
        }
    }
}

fn find(layers: &[Names], at: usize, is_it: impl Fn(&str) -> bool) -> Option<(usize, &str)> {
    let mut exports = layers[at].exports.iter().map(String::as_str);
    exports.find(|export| is_it(export)).map(|export| (at, export))
}

/// Finds the newest version in a layer that is compatible with the imported one.
fn compatible<'a>(layers: &'a [Names], at: usize, import: &str) -> Option<(usize, &'a str)> {
    let (name, wanted) = versioned(import)?;
    let stand_ins = layers[at].exports.iter().filter_map(|export| {
        let (other, version) = versioned(export)?;
        (other == name && version.is_compatible(&wanted)).then_some((version, export.as_str()))
    });
    stand_ins.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, export)| (at, export))
}

/// Splits `acme:db/query@1.0.0` into name and version.
fn versioned(name: &str) -> Option<(&str, Version)> {
    let (name, version) = name.split_once('@')?;
    Some((name, Version::parse(version)?))
}

fn missing_import(layers: &[Names], importer: usize, import: &str) -> Missing {
    let base = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let others = (0..layers.len()).filter(|it| *it != importer).filter_map(|at| {
        let (_, export) = find(layers, at, |export| base(export) == base(import))?;
        Some(format!("{} exports {export}", layers[at].name))
    });
    let others = others.collect();
    Missing { importer: layers[importer].name.clone(), import: import.to_owned(), others }
}

/// Finds wires that lead from a component back to it, if there are any.
fn circle(count: usize, wires: &[Wire]) -> Option<Vec<&Wire>> {
    let mut done = vec![false; count];
    walk(0, wires, &mut Vec::new(), &mut done)
}

/// The recursion is at most as deep as there are layers.
fn walk<'a>(
    at: usize,
    wires: &'a [Wire],
    path: &mut Vec<&'a Wire>,
    done: &mut [bool],
) -> Option<Vec<&'a Wire>> {
    for wire in wires.iter().filter(|it| it.importer == at) {
        path.push(wire);
        if let Some(start) = path.iter().position(|it| it.importer == wire.exporter) {
            return Some(path.split_off(start));
        }
        if !done[wire.exporter]
            && let Some(circle) = walk(wire.exporter, wires, path, done)
        {
            return Some(circle);
        }
        path.pop();
    }
    done[at] = true;
    None
}

fn describe(layers: &[Names], wire: &Wire) -> String {
    let (importer, exporter) = (&layers[wire.importer].name, &layers[wire.exporter].name);
    format!("{importer} imports {} of {exporter}", wire.import)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads lines of the form `name: import import > export export`. The first layer is the application.
    fn layers(lines: &[&str]) -> Vec<Names> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let layer = |line: &&str| {
            let (name, rest) = line.split_once(": ").unwrap();
            let (imports, exports) = rest.split_once('>').unwrap();
            let (imports, exports) = (words(imports), words(exports));
            Names { name: name.into(), imports, exports, ..Names::default() }
        };
        lines.iter().map(layer).collect()
    }

    /// Each wire as `importer<exporter export`.
    fn wires(lines: &[&str]) -> Vec<String> {
        let layers = layers(lines);
        let name = |at: usize| layers[at].name.clone();
        let wires = choose(&layers, &provided::interfaces()).unwrap();
        let written =
            |it: &Wire| format!("{}<{} {}", name(it.importer), name(it.exporter), it.export);
        wires.iter().map(written).collect()
    }

    fn refusal(lines: &[&str]) -> String {
        choose(&layers(lines), &provided::interfaces()).unwrap_err().to_string()
    }

    #[test]
    fn imports_are_followed_from_layer_to_layer_and_the_host_is_asked_last() {
        let app = "app: a:b/c@1.0.0 wasi:cli/environment@0.2.3 >";
        let found = wires(&[app, "two: a:b/d@1.0.0 > a:b/c@1.0.0", "three: > a:b/d@1.0.0"]);
        assert_eq!(found, ["app<two a:b/c@1.0.0", "two<three a:b/d@1.0.0"]);
        // A layer may stand between the application and the host.
        let between = "between: wasi:cli/environment@0.2.3 > wasi:cli/environment@0.2.3";
        let app = "app: wasi:cli/environment@0.2.3 >";
        assert_eq!(wires(&[app, between]), ["app<between wasi:cli/environment@0.2.3"]);
    }

    #[test]
    fn the_very_version_is_preferred_and_else_the_newest_of_its_track() {
        let app = "app: a:b/c@1.2.0 >";
        let both = "both: > a:b/c@1.9.0 a:b/c@1.10.0 a:b/c@2.0.0";
        assert_eq!(wires(&[app, both]), ["app<both a:b/c@1.10.0"]);
        assert_eq!(wires(&[app, both, "exact: > a:b/c@1.2.0"]), ["app<exact a:b/c@1.2.0"]);
        let text = refusal(&[app, "two: > a:b/c@2.0.0", "three: > a:b/c"]);
        assert!(
            text.starts_with("app imports a:b/c@1.2.0 (two exports a:b/c@2.0.0, three"),
            "{text}"
        );
    }

    #[test]
    fn an_import_that_two_layers_export_is_an_error() {
        let text = refusal(&["app: a:b/c@1.2.0 >", "two: > a:b/c@1.3.0", "three: > a:b/c@1.4.0"]);
        assert!(text.contains("two (a:b/c@1.3.0), three (a:b/c@1.4.0)"), "{text}");
        // If nothing imports an export, several layers may have it.
        let unused = ["app: a >", "two: > a z", "three: > z"];
        assert_eq!(wires(&unused), ["app<two a"]);
    }

    #[test]
    fn an_error_names_everything_that_is_missing() {
        let text = refusal(&["app: a:x/y@1.0.0 wasi:nn/tensor@0.2.0 b >", "two: f > b"]);
        for word in ["app imports a:x/y@1.0.0", "app imports wasi:nn/tensor@0.2.0", "two imports f"]
        {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn an_error_shows_a_circle_component_by_component() {
        let text = refusal(&["app: b >", "two: c > b", "three: d > c", "four: c > d"]);
        let circle = "three imports d of four, four imports c of three";
        assert!(text.ends_with(&format!("circle: {circle}")), "{text}");
        let text = refusal(&["app: b > a", "two: a > b"]);
        assert!(text.contains("app imports b of two, two imports a of app"), "{text}");
    }

    #[test]
    fn an_export_of_the_application_makes_no_import_ambiguous() {
        let handler = "wasi:http/incoming-handler@0.2.3";
        let middleware = format!("app: {handler} > {handler}");
        let second = format!("two: b > {handler}");
        assert_eq!(wires(&[&middleware, &second, "three: > b"]).len(), 2);
    }
}
