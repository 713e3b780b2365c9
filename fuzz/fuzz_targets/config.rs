//! Parses an image's config, as a registry sends it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rule::{Config, Platform};

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Config>(bytes) else { return };
    let settings = &config.config;
    assert_ne!(settings.exposed_port(), Some(0));
    let _ = (settings.args(), settings.env(), settings.cwd(), Platform::of_config(&config));
});
