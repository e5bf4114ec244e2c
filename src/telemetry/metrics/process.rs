//! What is known of the process: its build, its start, its reloads.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What is known of the process.
#[derive(Clone, Debug)]
pub(super) struct ProcessFacts {
    /// When it was started, in seconds since 1970.
    pub(super) started: f64,
    /// The same, on the monotonic clock.
    pub(super) since: Instant,
    /// The name that it calls itself.
    pub(super) server_name: String,
    /// The back-end in use; empty: not known.
    pub(super) backend: &'static str,
    /// Why it is not the preferred one; empty: it is.
    pub(super) reason: String,
    pub(super) reloads: u64,
    pub(super) reloads_refused: u64,
    /// When the configuration in force was applied, in seconds since 1970.
    pub(super) configured: f64,
}

impl ProcessFacts {
    /// Facts of a process that begins now.
    pub(super) fn new() -> Self {
        let now = now();
        Self {
            started: now,
            since: Instant::now(),
            server_name: "xps".to_owned(),
            backend: "",
            reason: String::new(),
            reloads: 0,
            reloads_refused: 0,
            configured: now,
        }
    }

    /// Notes the result of a reload.
    pub(super) fn reload(&mut self, is_applied: bool) {
        if is_applied {
            self.reloads += 1;
            self.configured = now();
        } else {
            self.reloads_refused += 1;
        }
    }
}

/// Seconds since 1970, to the millisecond.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1e3)
}
