//! A number that one worker counts and all threads read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter or a gauge of one worker. Only that worker writes to it, so an addition is no locked
/// instruction. A negative number is stored as its two's complement.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: u64) {
        self.0.store(self.get().wrapping_add(number), Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, number: u64) {
        self.add(number.wrapping_neg());
    }

    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
