//! The warnings that a limit of connections or of handshakes is reached.
//!
//! A client that waits for a free connection slot looks like one that waits for a response. The log
//! shows which it is. This module does not know how connections and handshakes are counted.

use std::time::Duration;

use crate::driver::Time;
use crate::limit::Admission;

/// Minimum time between two warnings of one worker about the same limit.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Times of the last warnings.
#[derive(Debug, Default)]
pub(super) struct LimitNotice {
    of_connections: Option<Time>,
    of_handshakes: Option<Time>,
}

impl LimitNotice {
    /// Warns that this worker, with its `connections`, cannot serve another one.
    pub(super) fn tell_of_connections(&mut self, connections: usize, admission: &Admission, now: Time) {
        if !is_due(&mut self.of_connections, now) {
            return;
        }
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

    /// Warns that this worker has as many TLS handshakes in progress as it may have.
    #[cold]
    pub(super) fn tell_of_handshakes(&mut self, handshakes: usize, now: Time) {
        if is_due(&mut self.of_handshakes, now) {
            let further = "with each further one, the oldest is closed";
            let remedy = "shorten limits.http.head_timeout, or raise limits.handshakes_max";
            tracing::warn!(handshakes, further, remedy, "limit of TLS handshakes of this worker reached");
        }
    }
}

/// Whether a warning is due; if so, this is the last one from now on.
fn is_due(last: &mut Option<Time>, now: Time) -> bool {
    let is_due = last.is_none_or(|told| now.since(told) >= WARN_INTERVAL);
    if is_due {
        *last = Some(now);
    }
    is_due
}
