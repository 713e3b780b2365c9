//! What an image asks to be granted, by its labels.

use grants::Requested;
use provided::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FILES, SettingError, Table};

/// Returns what labels or annotations name, as the shim reads them.
///
/// # Errors
/// [`SettingError`] of one that the shim refuses.
pub fn requested(table: &Table, named: &[(String, String)]) -> Result<Requested, SettingError> {
    Requested::of(table, named.iter().map(|(key, value)| (key, value)))
}

/// Returns the labels that ask for a grant, each as `KEY=VALUE`.
pub fn shown(labels: &[(String, String)]) -> Vec<String> {
    let keys = [ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FILES].map(|setting| setting.key);
    let asks = labels.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    asks.map(|(key, value)| format!("{key}={value}")).collect()
}
