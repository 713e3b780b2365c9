//! Durations, sizes and numbers as people write them in settings.

use std::fmt;
use std::ops::{Deref, RangeInclusive};
use std::time::Duration;

use provided::{FUEL, HTTP_MAX_BODY, HTTP_MAX_HEADER, LOG_RATE, MAX_MEMORY, TIMEOUT};
use serde::de::{self, Deserialize, Deserializer};

use crate::text::as_text;

/// Units of durations in milliseconds, the largest first.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of sizes in bytes, the largest first.
const SIZES: [(&str, u64); 4] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10), ("", 1)];

/// A page of a linear memory. With less, a guest has no memory at all.
const PAGE: u64 = 64 << 10;

/// hyper takes no less for a head, and allocates as much for a connection where it is used.
const HEADS: RangeInclusive<u64> = 8 << 10..=1 << 20;

/// Parses `250ms`, `30s`, `5m` or `1h`; not zero.
pub fn duration(text: &str) -> Option<Duration> {
    let milliseconds = parse(text, &TIMES).filter(|milliseconds| *milliseconds > 0)?;
    Some(Duration::from_millis(milliseconds))
}

/// Parses a quantity of bytes (Kubernetes API, "Quantity"), with the usual ones of its binary suffixes.
pub fn size(text: &str) -> Option<u64> {
    parse(text, &SIZES)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes a number with the largest unit of which it is a whole multiple.
fn show(formatter: &mut fmt::Formatter<'_>, number: u64, units: &[(&str, u64)]) -> fmt::Result {
    let is_whole = |(_, factor): &&(&str, u64)| number > 0 && number.is_multiple_of(*factor);
    let (name, factor) = units.iter().find(is_whole).unwrap_or(&("", 1));
    write!(formatter, "{}{name}", number / factor)
}

/// A type of values of a setting, with the units in which they are written, and the values that are allowed.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $setting:expr, $units:expr, $is_allowed:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(u64);

        as_text!($name, $setting, Written);

        impl $name {
            fn parse(entry: &str) -> Option<$name> {
                parse(entry, $units).filter($is_allowed).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                show(formatter, self.0, $units)
            }
        }
    };
}

quantity!(
    /// A duration, not zero.
    Time, TIMEOUT, &TIMES, |it| *it > 0
);
quantity!(
    /// A size of memory, at least a page.
    Memory, MAX_MEMORY, &SIZES, |it| *it >= PAGE
);
quantity!(
    /// A size of a request's body.
    Body, HTTP_MAX_BODY, &SIZES, |_| true
);
quantity!(
    /// A size of a request's head, as hyper takes it.
    Head, HTTP_MAX_HEADER, &SIZES, |it| HEADS.contains(it)
);
quantity!(
    /// A number of things, at least 1.
    Count, LOG_RATE, &[("", 1)], |it| (1..=u64::from(u32::MAX)).contains(it)
);

quantity!(
    /// Units of fuel, at least 1.
    Fuel, FUEL, &[("", 1)], |it| *it > 0
);

impl Time {
    /// The duration.
    pub fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Memory {
    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Body {
    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Head {
    /// The size in bytes.
    pub fn bytes(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Fuel {
    /// The number of units.
    pub fn units(self) -> u64 {
        self.0
    }
}

impl Count {
    /// The number.
    pub fn get(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// A value as it is written in TOML or JSON: a text, or a whole number.
struct Written(String);

impl Deref for Written {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Written, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Written;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or a whole number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
                Ok(Written(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Written, E> {
                Ok(Written(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use provided::Setting;

    use super::*;

    #[test]
    fn a_quantity_is_written_with_the_largest_unit_and_read_as_it_is_written() {
        fn same<T: std::str::FromStr + fmt::Display>(written: &str, shown: &str) {
            let Ok(read) = written.parse::<T>() else { panic!("{written} is not valid") };
            assert_eq!(read.to_string(), shown);
            assert!(shown.parse::<T>().is_ok_and(|it| it.to_string() == shown), "{shown}");
        }
        for (written, shown) in
            [("1500ms", "1500ms"), ("60s", "1m"), ("90s", "90s"), ("120m", "2h"), ("1ms", "1ms")]
        {
            same::<Time>(written, shown);
        }
        for (written, shown) in
            [("65536", "64Ki"), ("1024Mi", "1Gi"), ("65537", "65537"), ("96Mi", "96Mi")]
        {
            same::<Memory>(written, shown);
        }
        same::<Body>("0", "0");
        same::<Head>("8192", "8Ki");
        same::<Count>("4294967295", "4294967295");
        same::<Fuel>("18446744073709551615", "18446744073709551615");
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_what_is_allowed() {
        fn refused<T: std::str::FromStr<Err = crate::text::Invalid>>(
            texts: &[&str],
            setting: Setting,
        ) {
            for text in texts {
                let Err(invalid) = text.parse::<T>() else { panic!("{text} is valid") };
                assert_eq!((invalid.entry.as_str(), invalid.allowed), (*text, setting.allowed));
            }
        }
        refused::<Time>(&["", "30", "0s", "1.5s", "-1s", "1d", "99999999999999999999s"], TIMEOUT);
        refused::<Memory>(&["", "63Ki", "0", "1MB", "64Mi ", "18446744073709551615Gi"], MAX_MEMORY);
        refused::<Head>(&["1Ki", "5Gi", "8191"], HTTP_MAX_HEADER);
        refused::<Fuel>(&["", "0", "-1", "1e9", "1.5", "18446744073709551616"], FUEL);
        refused::<Count>(&["", "0", "-1", "1.0", "4294967296", "1Ki"], LOG_RATE);
    }
}
