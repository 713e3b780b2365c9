//! Who satisfies which import: decided by names alone, without looking at types.
//!
//! An import is satisfied by another layer that exports an interface of that name, and else by the host. The very
//! version is preferred; without it, another one that can stand for it (Semantic Versioning: the same major version,
//! below 1.0 the same minor one), as Wasmtime links guests to their host. The application's own exports come last:
//! who needs them is in a circle with it, and is told so.

use std::collections::BTreeSet;

use provided::{Interface, Version, provides};

use crate::error::{Error, Missing};

/// A component, as far as names go.
#[derive(Debug, Default)]
pub struct Names {
    /// What it is called.
    pub name: String,
    /// The interfaces and functions it imports, in order.
    pub imports: Vec<String>,
    /// Of the imports, those of types alone: nobody has to provide them.
    pub types: BTreeSet<String>,
    /// What it exports, in order.
    pub exports: Vec<String>,
}

/// An import with the export that satisfies it; components by their position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// Who imports.
    pub importer: usize,
    /// By which name.
    pub import: String,
    /// Who exports.
    pub exporter: usize,
    /// By which name: perhaps of another version.
    pub export: String,
}

/// The wires of the application, which is the first, and of all components that it needs, those of one component
/// together.
///
/// # Errors
/// [`Error::Missing`], [`Error::Ambiguous`], [`Error::Cycle`].
pub fn choose(layers: &[Names], host: &[Interface]) -> Result<Vec<Wire>, Error> {
    let (mut wires, mut missing) = (Vec::new(), Vec::new());
    let (mut reached, mut next) = (BTreeSet::from([0]), vec![0]);
    while let Some(importer) = next.pop() {
        for import in &layers[importer].imports {
            // Of types alone it is no matter whose they are.
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
                None => missing.push(nobody(layers, importer, import)),
            }
        }
    }
    if !missing.is_empty() {
        return Err(Error::Missing(missing));
    }
    match circle(layers.len(), &wires) {
        Some(circle) => Err(Error::Cycle(circle.iter().map(|it| told(layers, it)).collect())),
        None => Ok(wires),
    }
}

/// The layer that satisfies an import; none when no other one does.
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
            let told = |(at, export): &(usize, &str)| format!("{} ({export})", layers[*at].name);
            Err(Error::Ambiguous {
                importer: layers[importer].name.clone(),
                import: import.to_owned(),
                candidates: several.iter().map(told).collect(),
            })
        }
    }
}

fn find(layers: &[Names], at: usize, is_it: impl Fn(&str) -> bool) -> Option<(usize, &str)> {
    let mut exports = layers[at].exports.iter().map(String::as_str);
    exports.find(|export| is_it(export)).map(|export| (at, export))
}

/// The newest version that a layer has which can stand for what is imported.
fn compatible<'a>(layers: &'a [Names], at: usize, import: &str) -> Option<(usize, &'a str)> {
    let (name, wanted) = versioned(import)?;
    let stand_ins = layers[at].exports.iter().filter_map(|export| {
        let (other, version) = versioned(export)?;
        (other == name && version.is_compatible(&wanted)).then_some((version, export.as_str()))
    });
    stand_ins.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, export)| (at, export))
}

/// `acme:db/query@1.0.0` in its two parts.
fn versioned(name: &str) -> Option<(&str, Version)> {
    let (name, version) = name.split_once('@')?;
    Some((name, Version::parse(version)?))
}

fn nobody(layers: &[Names], importer: usize, import: &str) -> Missing {
    let base = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    let others = (0..layers.len()).filter(|it| *it != importer).filter_map(|at| {
        let (_, export) = find(layers, at, |export| base(export) == base(import))?;
        Some(format!("{} exports {export}", layers[at].name))
    });
    let others = others.collect();
    Missing { importer: layers[importer].name.clone(), import: import.to_owned(), others }
}

/// Wires that lead from a component back to it, if there are any.
fn circle(count: usize, wires: &[Wire]) -> Option<Vec<&Wire>> {
    let mut done = vec![false; count];
    walk(0, wires, &mut Vec::new(), &mut done)
}

/// As deep as there are layers.
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

fn told(layers: &[Names], wire: &Wire) -> String {
    let (importer, exporter) = (&layers[wire.importer].name, &layers[wire.exporter].name);
    format!("{importer} imports {} of {exporter}", wire.import)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name: import import > export export`, the first the application.
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
        let told = |it: &Wire| format!("{}<{} {}", name(it.importer), name(it.exporter), it.export);
        wires.iter().map(told).collect()
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
    fn what_two_layers_export_is_for_nobody_to_guess() {
        let text = refusal(&["app: a:b/c@1.2.0 >", "two: > a:b/c@1.3.0", "three: > a:b/c@1.4.0"]);
        assert!(text.contains("two (a:b/c@1.3.0), three (a:b/c@1.4.0)"), "{text}");
        // Of what nobody needs there may be two.
        let unused = ["app: a >", "two: > a z", "three: > z"];
        assert_eq!(wires(&unused), ["app<two a"]);
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let text = refusal(&["app: a:x/y@1.0.0 wasi:nn/tensor@0.2.0 b >", "two: f > b"]);
        for word in ["app imports a:x/y@1.0.0", "app imports wasi:nn/tensor@0.2.0", "two imports f"]
        {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_circle_is_told_component_by_component() {
        let text = refusal(&["app: b >", "two: c > b", "three: d > c", "four: c > d"]);
        let circle = "three imports d of four, four imports c of three";
        assert!(text.ends_with(&format!("circle: {circle}")), "{text}");
        let text = refusal(&["app: b > a", "two: a > b"]);
        assert!(text.contains("app imports b of two, two imports a of app"), "{text}");
    }

    #[test]
    fn the_application_s_export_is_nobody_s_rival() {
        let handler = "wasi:http/incoming-handler@0.2.3";
        let middleware = format!("app: {handler} > {handler}");
        let second = format!("two: b > {handler}");
        assert_eq!(wires(&[&middleware, &second, "three: > b"]).len(), 2);
    }
}
