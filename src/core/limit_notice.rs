//! The warning that a connection limit is reached.
//!
//! A client that waits for a free connection slot looks like one that waits for a response. The log
//! shows which it is. This module does not know how connections are counted.

use std::time::Duration;

use crate::driver::Time;
use crate::limit::Admission;

/// Minimum time between two warnings of one worker.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Time of the last warning.
#[derive(Debug, Default)]
pub(super) struct LimitNotice(Option<Time>);

impl LimitNotice {
    /// Warns that this worker, with its `connections`, cannot serve another one.
    pub(super) fn tell(&mut self, connections: usize, admission: &Admission, now: Time) {
        if self.0.is_some_and(|told| now.since(told) < WARN_INTERVAL) {
            return;
        }
        self.0 = Some(now);
        let further = if admission.refuses() { "HTTP clients get 503, others wait" } else { "they wait in the kernel" };
        if admission.has_capacity() {
            let remedy = "raise limits.connections_max, or the limit of descriptors (ulimit -n, LimitNOFILE=)";
            tracing::warn!(connections, further, remedy, "connection limit of this worker reached");
        } else {
            tracing::warn!(
                connections,
                further,
                remedy = "raise max_connections (--max-connections)",
                "connection limit of the server reached"
            );
        }
    }
}
