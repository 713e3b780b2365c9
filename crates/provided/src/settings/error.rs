//! Why a setting is refused. There is one form for all settings, wherever they are given.

use std::fmt;

use super::Setting;
use crate::unknown::Unknown;

/// Where a setting is given.
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
    /// No setting has that key.
    #[error("{place}: {unknown}")]
    Unknown {
        /// Where it is given.
        place: Place,
        /// The key, and those that there are.
        unknown: Unknown,
    },
    /// The setting cannot have that value.
    #[error("{place} {key}: {value:?} is not valid; allowed is {allowed}")]
    Value {
        /// Where it is given.
        place: Place,
        /// Its key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The values that it can have.
        allowed: &'static str,
    },
}

impl SettingError {
    /// Where the setting is given.
    pub fn place(&self) -> Place {
        match self {
            SettingError::Unknown { place, .. } | SettingError::Value { place, .. } => *place,
        }
    }
}

impl Setting {
    /// The error of a value that the setting cannot have.
    pub fn refused(&self, place: Place, value: &str) -> SettingError {
        let Setting { key, allowed, .. } = *self;
        SettingError::Value { place, key, value: value.to_owned(), allowed }
    }
}
