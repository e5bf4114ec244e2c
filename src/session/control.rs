//! [`Control`]: what the requests of those who operate the server share with the server itself.

use std::sync::atomic::{AtomicBool, Ordering};

/// The state of the server for its operators. The supervisor sets it, and the operator worker reads it.
#[derive(Debug, Default)]
pub struct Control {
    /// It drains, or is about to.
    is_leaving: AtomicBool,
}

impl Control {
    /// Whether the server accepts connections and goes on doing so. Balancers ask for it.
    pub fn is_ready(&self) -> bool {
        !self.is_leaving.load(Ordering::Relaxed)
    }

    /// Says from now on that the server is not ready.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }
}
