//! Errors for settings. All have one form, wherever the setting comes from.

use std::fmt;

use super::Setting;
use crate::unknown::Unknown;

/// The place where a setting is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// An annotation of the Pod.
    Annotation,
    /// A label of the image.
    Label,
    /// A variable in the environment of the container.
    Container,
    /// A variable in the environment of containerd.
    Node,
    /// A runtime option in containerd's configuration.
    RuntimeOption,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Place::Annotation => "annotation",
            Place::Label => "image label",
            Place::Container => "env",
            Place::Node => "containerd's env",
            Place::RuntimeOption => "runtime option",
        })
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this key.
    #[error("{place}: {unknown}")]
    Unknown {
        /// The place where it is given.
        place: Place,
        /// The key, and the keys that exist.
        unknown: Unknown,
    },
    /// The setting has an invalid value.
    #[error("{place} {key}: {value:?} is not valid; allowed is {allowed}")]
    Value {
        /// The place where it is given.
        place: Place,
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// A part of the setting's value is invalid, and the value may be secret.
    #[error("{place} {key}: {part} is not valid; allowed is {allowed}")]
    Part {
        /// The place where it is given.
        place: Place,
        /// The key.
        key: &'static str,
        /// The name of the part.
        part: &'static str,
        /// The allowed values.
        allowed: &'static str,
    },
}

impl SettingError {
    /// Returns the place where the setting is given.
    pub fn place(&self) -> Place {
        match self {
            SettingError::Unknown { place, .. }
            | SettingError::Value { place, .. }
            | SettingError::Part { place, .. } => *place,
        }
    }
}

impl Setting {
    /// Returns the error for a value that is not allowed.
    pub fn refused(&self, place: Place, value: &str) -> SettingError {
        let Setting { key, allowed, .. } = *self;
        SettingError::Value { place, key, value: value.to_owned(), allowed }
    }

    /// Returns the error for a value that is not allowed because of one part, without the value.
    pub fn refused_part(&self, place: Place, part: &'static str) -> SettingError {
        let Setting { key, allowed, .. } = *self;
        SettingError::Part { place, key, part, allowed }
    }
}
