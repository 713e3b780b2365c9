//! Parses annotations of a Pod and variables of a container that set how a guest runs.
#![no_main]

use grants::{MergeInput, Requested, merge};
use libfuzzer_sys::fuzz_target;
use plan::{HttpSettings, Plan, World};
use provided::OF_POD;

fuzz_target!(|text: &str| {
    let (mut settings, mut requested) = (HttpSettings::default(), Requested::default());
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = format!("wasmtime.shim/{key}");
        let taken = match requested.set(&key, value) {
            Err(invalid) => Err(OF_POD.refused(&key, &invalid.entry)),
            Ok(true) => Ok(()),
            Ok(false) => settings.annotate(&key, value),
        };
        if let Err(error) = taken {
            let shown = format!("{key:?}");
            assert!(error.to_string().contains(shown.trim_matches('"')), "{error}");
        }
    }
    let merged = merge(&MergeInput { pod: requested, ..MergeInput::default() });
    settings.limit(&merged.unwrap_or_default().limits);
    assert!(settings.instances(None) > 0 && settings.requests(World::HttpService03) > 0);
    let env: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = Plan::new(World::HttpProxy02, None, vec!["app".into()], &env, "/".into());
});
