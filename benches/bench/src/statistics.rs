//! Statistics of many measurements: the median, and how far they spread.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

/// Quantiles of times, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Times {
    /// Half are below.
    pub median: f64,
    /// A tenth is below.
    pub low: f64,
    /// A tenth is above.
    pub high: f64,
    /// A hundredth is above. With fewer than a hundred times, it is the longest.
    pub p99: f64,
    /// Number of times.
    pub count: usize,
}

impl Times {
    /// Computes the quantiles of at least one time.
    pub fn of(mut times: Vec<f64>) -> Times {
        times.sort_by(f64::total_cmp);
        let last = times.len().saturating_sub(1);
        let at = |part: f64| times.get((last as f64 * part).round() as usize).copied();
        let at = |part| at(part).unwrap_or(f64::NAN);
        // For an even number, the median is between the two in the middle.
        let middle = times.len() / 2;
        let median = match times.len() % 2 {
            0 if middle > 0 => (times[middle - 1] + times[middle]) / 2.0,
            _ => at(0.5),
        };
        Times { median, low: at(0.1), high: at(0.9), p99: at(0.99), count: times.len() }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:.1} ({:.1}–{:.1})", self.median, self.low, self.high)
    }
}

/// As [`each_in_turn`], for measurements of one time.
pub fn in_turn<T>(
    all: &[T],
    rounds: usize,
    measure: impl FnMut(&T, usize) -> Result<f64>,
) -> Result<Vec<Times>> {
    Ok(each_in_turn(all, rounds, measure)?.into_iter().map(Times::of).collect())
}

/// Measures all of them in turn, so that a disturbance affects all of them. The first round fills caches and does not
/// count.
pub fn each_in_turn<T, M>(
    all: &[T],
    rounds: usize,
    mut measure: impl FnMut(&T, usize) -> Result<M>,
) -> Result<Vec<Vec<M>>> {
    let mut measured: Vec<_> = all.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (one, measured) in all.iter().zip(&mut measured) {
            let found = measure(one, round)?;
            if round > 0 {
                measured.push(found);
            }
        }
    }
    Ok(measured)
}
