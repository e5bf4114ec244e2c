//! Rate-limited warnings when connections wait for a resource, with the reason and the remedy.
//!
//! Without them the cause is hard to find: to a client, a connection that waits looks like one that
//! is being served.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{limits, sys};

/// Each warning is logged at most once per interval, for all workers together: they share the
/// resource.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

static ACCEPT_PAUSED: WarningTime = WarningTime::now();
static NO_BUFFER: WarningTime = WarningTime::now();

/// The time from which a warning may be logged again, in nanoseconds of the monotonic clock.
struct WarningTime(AtomicU64);

impl WarningTime {
    const fn now() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether to log the warning now. If so, the next one waits for the interval.
    fn take(&self) -> bool {
        let (now, due) = (sys::monotonic_ns(), self.0.load(Ordering::Relaxed));
        let next = now + WARN_INTERVAL.as_nanos() as u64;
        // Only one of several workers succeeds.
        now >= due && self.0.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Warns that accepting pauses because `accept(2)` failed with this error.
pub(super) fn warn_accept_paused(error: &io::Error) {
    tracing::debug!(%error, "accepting pauses");
    if !ACCEPT_PAUSED.take() {
        return;
    }
    let limit = match error.raw_os_error() {
        Some(libc::EMFILE) => limits::descriptors().ok().and_then(|limit| limit.soft),
        _ => None,
    };
    let remedy = accept_remedy(error);
    tracing::warn!(%error, limit, remedy, "accepting pauses: new connections wait in the kernel");
}

/// Warns that the pool of receive buffers is at its limit and has no free buffer.
pub(super) fn warn_no_buffer() {
    if NO_BUFFER.take() {
        let remedy = "raise limits.pool.small_max, or lower limits.pipe_bytes_max";
        tracing::warn!(remedy, "receive buffers are used up: connections wait for one");
    }
}

fn accept_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "raise this process's limit of descriptors (ulimit -n, LimitNOFILE=)",
        Some(libc::ENFILE) => "raise the system's limit of open files (sysctl fs.file-max)",
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "raise the memory of the system, of TCP (sysctl net.ipv4.tcp_mem) or of this control group"
        }
        Some(libc::ENOSPC) => "raise the user's limit of epoll watches (sysctl fs.epoll.max_user_watches)",
        Some(libc::EPERM | libc::EACCES) => "check for a firewall or security policy that forbids accepting",
        _ => "see accept(2)",
    }
}
