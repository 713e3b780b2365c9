//! Values that are written as text, in settings as well as in messages between processes.

/// An entry that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} is not valid; allowed is {allowed}")]
pub struct Invalid {
    /// The entry.
    pub entry: String,
    /// What is allowed, as the setting says it.
    pub allowed: &'static str,
}

/// A text that is borrowed from what is read, if possible.
pub type Borrowed<'a> = std::borrow::Cow<'a, str>;

/// Splits the entries of a list, which have commas between them. An empty text has none.
///
/// # Errors
/// The first entry that cannot be parsed.
pub fn list<T: std::str::FromStr<Err = Invalid>>(text: &str) -> Result<Vec<T>, Invalid> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|entry| entry.trim().parse()).collect()
}

/// Implements `FromStr` for entries of a setting by `Self::parse`, and serde's traits by that and `Display`. Another type
/// than a text may be read, which must dereference to one.
macro_rules! as_text {
    ($ty:ty, $setting:expr) => {
        crate::text::as_text!($ty, $setting, crate::text::Borrowed<'_>);
    };
    ($ty:ty, $setting:expr, $read:ty) => {
        impl std::str::FromStr for $ty {
            type Err = crate::text::Invalid;

            fn from_str(entry: &str) -> Result<Self, Self::Err> {
                let (entry, allowed) = (entry.to_owned(), $setting.allowed);
                Self::parse(&entry).ok_or(crate::text::Invalid { entry, allowed })
            }
        }

        impl serde::Serialize for $ty {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $ty {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: $read = serde::Deserialize::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use as_text;
