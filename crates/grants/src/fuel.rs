//! Fuel, which bounds how much a guest executes.

use std::fmt;

use provided::FUEL;
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};

use crate::text::Invalid;

/// Units of fuel, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fuel(u64);

impl Fuel {
    /// The number of units.
    pub fn units(self) -> u64 {
        self.0
    }

    fn new(units: u64) -> Option<Fuel> {
        (units > 0).then_some(Fuel(units))
    }
}

impl std::str::FromStr for Fuel {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Fuel, Invalid> {
        let fuel = text.trim().parse().ok().and_then(Fuel::new);
        fuel.ok_or_else(|| Invalid { entry: text.to_owned(), allowed: FUEL.allowed })
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

impl Serialize for Fuel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// As a number. The node's file may also have it as a text, as annotations do.
impl<'de> Deserialize<'de> for Fuel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fuel, D::Error> {
        deserializer.deserialize_any(NumberOrText)
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Fuel;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(FUEL.allowed)
    }

    fn visit_u64<E: Error>(self, units: u64) -> Result<Fuel, E> {
        Fuel::new(units).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(units), &self))
    }

    fn visit_i64<E: Error>(self, units: i64) -> Result<Fuel, E> {
        let fuel = u64::try_from(units).ok().and_then(Fuel::new);
        fuel.ok_or_else(|| E::invalid_value(Unexpected::Signed(units), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Fuel, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_is_a_whole_number_of_at_least_one() {
        let fuel = |text: &str| text.parse::<Fuel>().map(Fuel::units);
        assert_eq!(fuel("1"), Ok(1));
        assert_eq!(fuel("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "0", "-1", "1e9", "1.5", "18446744073709551616"] {
            let error = fuel(text).expect_err(text).to_string();
            assert!(error.ends_with("allowed is a whole number of at least 1"), "{error}");
        }
    }
}
