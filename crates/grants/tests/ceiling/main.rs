//! The merge, with generated and with chosen policies: its result never exceeds the ceiling.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod chosen;
mod code;
mod generated;
mod interfaces;
mod oracle;

use grants::policy::{Policy, Subject};
use grants::{Grants, MergeInput, Protocol, Requested, merge};

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Display,
{
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn pod(requested: &[(&str, &str)]) -> Requested {
    let mut pod = Requested::default();
    for (key, value) in requested {
        let set = pod.set(&format!("wasmtime.shim/{key}"), value);
        assert!(set.unwrap_or_else(|error| panic!("{error}")), "{key}");
    }
    pod
}

fn of_pod(requested: &[(&str, &str)]) -> Grants {
    merge(&MergeInput { pod: pod(requested), ..MergeInput::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The grants of a Pod with these annotations and an image with these labels, on a node with this file.
fn on_node(file: &str, image: &[(&str, &str)], asked: &[(&str, &str)]) -> Grants {
    let policy = Policy::parse("/p.toml", file).unwrap_or_else(|error| panic!("{error}"));
    let rules = policy.rules(Subject { namespace: "shop", image: "" });
    merge(&MergeInput { rules, image: pod(image), pod: pod(asked) })
        .unwrap_or_else(|error| panic!("{error}"))
}

fn connects(grants: &Grants, address: &str, names: &[&str]) -> bool {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    grants.connect(Protocol::Tcp, parse(address), &names).is_ok()
}

fn refused(file: &str, requested: &[(&str, &str)]) -> String {
    let policy = Policy::parse("/p.toml", file).unwrap_or_else(|error| panic!("{error}"));
    let rules = policy.rules(Subject { namespace: "shop", image: "" });
    let merged = merge(&MergeInput { rules, pod: pod(requested), ..MergeInput::default() });
    merged.expect_err("is more than the ceiling").to_string()
}
