//! What is said when something runs out and connections wait for it: the reason and the remedy, rate-limited. From
//! outside, a connection that waits looks like one that is being served.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{limits, sys};

/// Each warning is given at most once in this time, for all workers together: they share what is short.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

static ACCEPT_PAUSED: WarningTime = WarningTime::now();
static NO_BUFFER: WarningTime = WarningTime::now();

/// When something may be said again, in nanoseconds of the monotonic clock.
struct WarningTime(AtomicU64);

impl WarningTime {
    const fn now() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Whether it is to be said now; then not again for a while.
    fn take(&self) -> bool {
        let (now, due) = (sys::monotonic_ns(), self.0.load(Ordering::Relaxed));
        let next = now + WARN_INTERVAL.as_nanos() as u64;
        // Of several workers one says it.
        now >= due && self.0.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Accepting pauses, since `accept(2)` failed so.
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

/// The pool has no receive buffer left, and may make no other.
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
            "give the system, its sockets (sysctl net.ipv4.tcp_mem) or this control group more memory"
        }
        Some(libc::ENOSPC) => "raise the user's limit of epoll watches (sysctl fs.epoll.max_user_watches)",
        Some(libc::EPERM | libc::EACCES) => "look for a firewall or security policy that forbids accepting",
        _ => "see accept(2)",
    }
}
