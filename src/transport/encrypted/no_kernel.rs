//! Without the feature `ktls-tx` the kernel encrypts nothing.

use super::{Encrypted, Life};
use crate::driver::{Ops, Outcome};

/// The kernel has no part in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kernel(());

impl Kernel {
    pub(super) const fn encrypts(self) -> bool {
        false
    }

    pub(super) const fn is_unsettled(self) -> bool {
        false
    }
}

impl Encrypted {
    pub(super) const fn note_kernel(&self, outcome: Outcome) -> Outcome {
        outcome
    }

    pub(super) const fn consider_kernel(&self, _: u64) {}

    pub(super) const fn drive_kernel(&self, _: &Ops) -> bool {
        false
    }

    pub(super) const fn send_close_notify_by_kernel(&self, _: &Ops) -> Option<Life> {
        None
    }
}
