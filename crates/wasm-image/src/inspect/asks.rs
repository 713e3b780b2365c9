//! What an image asks to be granted, by its labels.

use grants::{CodeSettings, MergeInput, Requested, merge};
use provided::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FEATURES, FILES, FUEL, SettingError, Table,
};

/// Returns what labels or annotations name, as the shim reads them.
///
/// # Errors
/// [`SettingError`] of one that the shim refuses.
pub fn requested(table: &Table, named: &[(String, String)]) -> Result<Requested, SettingError> {
    Requested::of(table, named.iter().map(|(key, value)| (key, value)))
}

/// Returns how the code of an image's guest is made on a node without a file of its own.
pub fn code(image: Requested) -> CodeSettings {
    merge(&MergeInput { image, ..MergeInput::default() }).map(|it| it.code).unwrap_or_default()
}

/// Returns the labels that ask for a grant, each as `KEY=VALUE`.
pub fn shown(labels: &[(String, String)]) -> Vec<String> {
    let grants = [ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FEATURES, FILES, FUEL];
    let is_grant = |key: &str| grants.iter().any(|setting| setting.key == key);
    let asks = labels.iter().filter(|(key, _)| is_grant(key));
    asks.map(|(key, value)| format!("{key}={value}")).collect()
}
