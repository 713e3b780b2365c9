//! What an image asks to be granted, by its labels.

use grants::Requested;
use provided::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FEATURES, FILES, FUEL, INTERFACES, LOG_RATE,
    MAX_MEMORY, Setting, SettingError, TIMEOUT, Table,
};

/// Labels by which an image asks for a grant, or has a limit.
const ASKS: [Setting; 10] = [
    ALLOW_CONNECT,
    ALLOW_HTTP,
    ALLOW_LISTEN,
    FEATURES,
    FILES,
    FUEL,
    INTERFACES,
    LOG_RATE,
    MAX_MEMORY,
    TIMEOUT,
];

/// Returns what labels or annotations name, as the shim reads them.
///
/// # Errors
/// [`SettingError`] of one that the shim refuses.
pub fn requested(table: &Table, named: &[(String, String)]) -> Result<Requested, SettingError> {
    Requested::of(table, named.iter().map(|(key, value)| (key, value)))
}

/// Returns these labels, each as `KEY=VALUE`.
pub fn shown(labels: &[(String, String)]) -> Vec<String> {
    let asks = labels.iter().filter(|(key, _)| ASKS.iter().any(|setting| setting.key == key));
    asks.map(|(key, value)| format!("{key}={value}")).collect()
}
