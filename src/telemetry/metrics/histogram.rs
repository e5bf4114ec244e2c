//! Distributions of durations.

use super::count::Count;

/// Upper bounds of the buckets: nanoseconds, and the same in seconds for the label `le`.
pub(super) const BOUNDS: [(u64, &str); 14] = [
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
];

/// One bucket for each bound, and one for what is longer.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Durations that one worker counts.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Each duration is in one of them.
    buckets: [Count; BUCKETS],
    nanos: Count,
}

/// Durations of all workers, or of several series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Distribution {
    /// As the buckets of a [`Histogram`].
    pub(super) buckets: [u64; BUCKETS],
    /// Their sum.
    pub(super) nanos: u64,
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub(super) fn count(&self, nanos: u64) {
        self.nanos.add(nanos);
        // What is answered at once needs no search.
        let bucket = if nanos <= BOUNDS[0].0 { 0 } else { longer(nanos) };
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
    }

    /// Adds what was counted to a distribution.
    pub(super) fn add_to(&self, distribution: &mut Distribution) {
        for (sum, bucket) in distribution.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        distribution.nanos = distribution.nanos.wrapping_add(self.nanos.get());
    }
}

/// The bucket of a duration above the first bound.
#[cold]
fn longer(nanos: u64) -> usize {
    BOUNDS.partition_point(|(bound, _)| *bound < nanos)
}

impl Distribution {
    /// Adds the durations of another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// Number of durations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for nanos in [0, 500_000, 500_001, 1_000_000, 10_000_000_000, 10_000_000_001, u64::from(u32::MAX)] {
            histogram.count(nanos);
        }
        let mut distribution = Distribution::default();
        histogram.add_to(&mut distribution);
        assert_eq!(distribution.buckets, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        assert_eq!((distribution.count(), distribution.nanos), (7, 20_002_000_002 + u64::from(u32::MAX)));
    }

    #[test]
    fn the_labels_are_the_bounds_in_order() {
        for (nanos, label) in BOUNDS {
            assert_eq!(label.parse::<f64>().unwrap(), seconds(nanos), "{label}");
        }
        assert!(BOUNDS.is_sorted());
    }
}
