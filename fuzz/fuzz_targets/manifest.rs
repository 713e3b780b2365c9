//! Parses an image's manifest and index, as a registry sends them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rule::{Index, Manifest, Platform};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let layers = rule::wasm_layers(&manifest).unwrap_or_default();
        layers.into_iter().for_each(|layer| drop(rule::layer_name(layer)));
        let _ = (manifest.is_image(), rule::ignored(&manifest).count());
    }
    if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
        let _ = rule::by_preference(&index);
        let _ = rule::by_choice(&Platform::here(), &index);
    }
});
