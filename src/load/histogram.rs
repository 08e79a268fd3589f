//! How long things took, in a fixed number of buckets: a run of any length takes the same memory.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets for each power of two: a value is known to 1.6 %.
const FINE: u64 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();
/// Nanoseconds up to 2^44, almost five hours; what is longer counts as that.
const BUCKETS: usize = (44 - FINE_BITS as usize + 1) * FINE as usize;

/// Counts of durations.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

/// What is shown of one, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The mean.
    pub mean: f64,
    /// Half are shorter.
    pub p50: f64,
    /// Nine of ten are shorter.
    pub p90: f64,
    /// 99 of 100 are shorter.
    pub p99: f64,
    /// 999 of 1000 are shorter.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), count: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.buckets.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// So many of a thousand are at most this long: the middle of the bucket that says so.
    pub fn permille(&self, permille: u64) -> Duration {
        let wanted = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(middle(index).min(self.max));
            }
        }
        Duration::from_nanos(self.max)
    }

    /// The usual figures.
    pub fn percentiles(&self) -> Percentiles {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1e3;
        Percentiles {
            mean: self.sum as f64 / 1e3 / self.count.max(1) as f64,
            p50: micros(self.permille(500)),
            p90: micros(self.permille(900)),
            p99: micros(self.permille(990)),
            p999: micros(self.permille(999)),
            max: self.max as f64 / 1e3,
        }
    }
}

/// Below [`FINE`] each value has its own; above, each power of two has as many.
fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - FINE_BITS;
    let index = u64::from(shift + 1) * FINE + (nanos >> shift) - FINE;
    (index as usize).min(BUCKETS - 1)
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    if index < FINE {
        return index;
    }
    let shift = index / FINE - 1;
    ((index % FINE + FINE) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_again_to_two_percent() {
        for nanos in [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456, 987_654_321, 60_000_000_000_u64] {
            let found = middle(bucket(nanos));
            assert!(found.abs_diff(nanos) * 50 <= nanos, "{nanos} became {found}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_follow_one_another_without_a_gap() {
        let mut last = 0;
        for nanos in 0..100_000 {
            let this = bucket(nanos);
            assert!(this == last || this == last + 1, "{nanos}: {last} then {this}");
            last = this;
        }
    }

    #[test]
    fn percentiles_of_what_was_counted() {
        let mut histogram = Histogram::default();
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        let shown = histogram.percentiles();
        assert_eq!(histogram.count(), 1000);
        for (figure, millis) in [(shown.p50, 500.0), (shown.p90, 900.0), (shown.p99, 990.0)] {
            assert!((figure / 1e3 / millis - 1.0_f64).abs() < 0.02, "{figure} for {millis} ms");
        }
        assert_eq!((shown.mean, shown.max), (500_500.0, 1_000_000.0));
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
    }
}
