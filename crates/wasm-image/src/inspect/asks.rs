//! What an image asks to be granted, by its labels.

use grants::Requested;
use provided::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FILES, OF_IMAGE, SettingError};

/// Returns what the labels name, as the shim reads them.
///
/// # Errors
/// [`SettingError`] of a label that the shim refuses.
pub fn of_image(labels: &[(String, String)]) -> Result<Requested, SettingError> {
    let mut requested = Requested::default();
    for (key, value) in labels {
        OF_IMAGE.check(key)?;
        requested.set(key, value).map_err(|invalid| OF_IMAGE.refused(key, &invalid.entry))?;
    }
    Ok(requested)
}

/// Returns the labels that ask for a grant, each as `KEY=VALUE`.
pub fn shown(labels: &[(String, String)]) -> Vec<String> {
    let keys = [ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FILES].map(|setting| setting.key);
    let asks = labels.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    asks.map(|(key, value)| format!("{key}={value}")).collect()
}
