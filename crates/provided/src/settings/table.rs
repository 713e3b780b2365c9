//! Tables of settings that are looked up by a key from outside.

use super::error::{Place, SettingError};
use super::{ANNOTATIONS, LABELS, RUNTIME_OPTIONS, Setting};
use crate::unknown::Unknown;

/// The settings of one place, which are looked up by their keys.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    place: Place,
    settings: &'static [Setting],
}

/// Annotations of the Pod.
pub const OF_POD: Table = Table { place: Place::Annotation, settings: &ANNOTATIONS };

/// Labels of the image.
pub const OF_IMAGE: Table = Table { place: Place::Label, settings: &LABELS };

/// Runtime options.
pub const OF_RUNTIME: Table = Table { place: Place::RuntimeOption, settings: &RUNTIME_OPTIONS };

impl Table {
    /// Refuses a key that no setting has.
    ///
    /// # Errors
    /// [`SettingError::Unknown`].
    pub fn check(&self, key: &str) -> Result<(), SettingError> {
        match self.settings.iter().any(|setting| setting.key == key) {
            true => Ok(()),
            false => Err(self.unknown(key)),
        }
    }

    /// Returns the error for a value that the setting with that key cannot have.
    pub fn refused(&self, key: &str, value: &str) -> SettingError {
        let setting = self.settings.iter().find(|setting| setting.key == key);
        setting.map_or_else(|| self.unknown(key), |setting| setting.refused(self.place, value))
    }

    /// Returns the error for a value that the setting with that key cannot have because of one part. It does not repeat the
    /// value, which may be secret.
    pub fn refused_part(&self, key: &str, part: &'static str) -> SettingError {
        let setting = self.settings.iter().find(|setting| setting.key == key);
        setting.map_or_else(|| self.unknown(key), |setting| setting.refused_part(self.place, part))
    }

    fn unknown(&self, key: &str) -> SettingError {
        let keys = self.settings.iter().map(|setting| setting.key).collect();
        SettingError::Unknown { place: self.place, unknown: Unknown::new(key, keys) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LAYERS_LABEL, PREFIX, PREINIT};

    #[test]
    fn each_key_of_a_table_is_known_there() {
        for table in [OF_POD, OF_IMAGE, OF_RUNTIME] {
            for Setting { key, allowed, .. } in table.settings {
                assert_eq!(table.check(key), Ok(()));
                let text = table.refused(key, "\0").to_string();
                let expected =
                    format!("{} {key}: \"\\0\" is not valid; allowed is {allowed}", table.place);
                assert_eq!(text, expected);
            }
        }
        assert!(ANNOTATIONS.iter().all(|setting| setting.key.starts_with(PREFIX)));
    }

    #[test]
    fn a_label_of_an_image_is_known_only_where_an_image_may_have_it() {
        assert!(OF_IMAGE.check(PREINIT).is_ok() && OF_IMAGE.check(LAYERS_LABEL).is_ok());
        let refused = OF_IMAGE.check("wasmtime.shim/http-listen").expect_err("is refused");
        let text = refused.to_string();
        assert!(
            text.starts_with("image label: unknown key \"wasmtime.shim/http-listen\""),
            "{text}"
        );
        assert!(text.ends_with("wasmtime.shim/preinit or wasmtime.shim/timeout"), "{text}");
        let text = OF_IMAGE.refused("wasmtime.shim/http-listen", "x").to_string();
        assert!(text.contains("unknown key"), "{text}");
    }
}
