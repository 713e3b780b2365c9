//! Compares what the volumes of a spec ask for with what their mounts have.

use serde_json::Value;
use tests::isolation::mounts::Mount;
use tests::isolation::specs::Spec;

/// Links in the image, and where they lead.
const LINKS: [(&str, &str); 2] = [("/link/", "/data/"), ("/away/", "/away-to/")];

/// What a mount has of each propagation type that is asked for.
const TAGS: [(&str, &str); 4] = [
    ("shared", "shared-within"),
    ("shared", "master"),
    ("slave", "master"),
    ("unbindable", "unbindable"),
];

/// Whether any volume was to pass mounts on, or the root.
pub fn has_peers(spec: &Spec) -> bool {
    passes_on(spec) || volumes(spec).any(|it| has(it, "shared"))
}

fn passes_on(spec: &Spec) -> bool {
    let of_root = spec.config["linux"]["rootfsPropagation"].as_str();
    of_root.is_some_and(|it| it.ends_with("shared"))
}

/// Whether any volume has ids of its own.
pub fn has_ids(spec: &Spec) -> bool {
    volumes(spec).any(|it| it["uidMappings"].is_array())
}

/// Whether the spec masks or protects that path, or one above it.
pub fn is_hidden(spec: &Spec, path: &str) -> bool {
    let lists = ["maskedPaths", "readonlyPaths"].map(|list| spec.config["linux"][list].as_array());
    let mut paths = lists.into_iter().flatten().flatten().filter_map(Value::as_str);
    paths.any(|it| is_below(path, it))
}

/// Whether the mounts at that place keep all the options that they had, and are of the propagation type that is asked for there.
pub fn has_its_own_bounds(spec: &Spec, place: &str, before: &str, now: &str) -> bool {
    let (before, now): (Vec<_>, Vec<_>) =
        (before.split(" | ").collect(), now.split(" | ").collect());
    before.len() == now.len()
        && before.iter().zip(now).all(|(before, now)| is_bounded(spec, place, before, now))
}

fn is_bounded(spec: &Spec, place: &str, before: &str, now: &str) -> bool {
    let (Some(before), Some(now)) = (Mount::parts(before), Mount::parts(now)) else { return false };
    let is_kept = |option: &&str| now.1.contains(option);
    let is_added = |option: &&&str| !before.1.contains(*option);
    let only_devices = now.1.iter().filter(is_added).all(|it| *it == "nodev");
    let asked: Vec<&Value> = volumes(spec).filter(|it| is_below(place, &destination(it))).collect();
    // A peer on the node is meant only where the root's mounts are passed on.
    let to_node = |tag: &&str| *tag == "shared" && passes_on(spec);
    let is_asked = |tag: &&str| {
        let kinds = TAGS.iter().filter(|(_, own)| own == tag);
        kinds.into_iter().any(|(kind, _)| asked.iter().any(|it| has(it, kind)))
    };
    before.0 == now.0
        && before.1.iter().all(is_kept)
        && only_devices
        && now.2.iter().all(|tag| is_asked(tag) || to_node(tag))
}

fn volumes(spec: &Spec) -> impl Iterator<Item = &Value> {
    spec.config["mounts"].as_array().into_iter().flatten()
}

fn destination(volume: &Value) -> String {
    let at = volume["destination"].as_str().unwrap_or_default();
    let link = LINKS.iter().find_map(|(link, to)| Some(format!("{to}{}", at.strip_prefix(link)?)));
    link.unwrap_or_else(|| at.to_owned())
}

fn is_below(place: &str, at: &str) -> bool {
    place.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn has(volume: &Value, option: &str) -> bool {
    let options = volume["options"].as_array().into_iter().flatten().filter_map(Value::as_str);
    options.into_iter().any(|it| it == option || it.strip_prefix('r') == Some(option))
}
