//! A histogram of latencies: constant memory, a few nanoseconds a record, 3 % resolution.

use std::time::Duration;

/// Counts by magnitude: each power of two of nanoseconds has [`STEPS`] buckets.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

/// Buckets for each power of two.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (64 * STEPS) as usize], total: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let bucket = bucket_of(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// The latency that this part of all (0 to 1) did not exceed; zero if there are none.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return Duration::from_nanos(upper_bound_of(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEP_BITS;
    (u64::from(shift) * STEPS + (ns >> shift)) as usize
}

fn upper_bound_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}
