//! Parses annotations of a Pod and variables of a container that set how a guest runs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use plan::{HttpSettings, Plan, World};

fuzz_target!(|text: &str| {
    let mut settings = HttpSettings::default();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        let key = format!("wasmtime.shim/{key}");
        if HttpSettings::knows(&key)
            && let Err(error) = settings.annotate(&key, value)
        {
            let shown = format!("{key:?}");
            assert!(error.to_string().contains(shown.trim_matches('"')), "{error}");
        }
    }
    assert!(settings.instances(None) > 0 && settings.requests(World::HttpService03) > 0);
    let env: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = Plan::new(World::HttpProxy02, None, vec!["app".into()], &env, "/".into());
});
