//! The limit of unsent bytes in a connection's send buffer (`TCP_NOTSENT_LOWAT`, tcp(7)).
//!
//! The kernel lets a send buffer grow to `tcp_wmem`'s maximum, usually 4 MiB, even if the peer does
//! not read. Some hundreds of peers that request much and read nothing can thus use up the memory
//! of TCP in the whole system (`tcp_mem`), and every other connection becomes slow. So if there are
//! many connections, a new one gets a smaller buffer. Bytes that were sent and not acknowledged do
//! not count, so a path with a large bandwidth-delay product still gets its full window.
//!
//! The first connections have the kernel's buffers, since few large buffers cost less processor
//! time than many turns. After them, the limit shrinks with the square of the number of
//! connections: for any number, all together use at most twice what the first ones may use, plus
//! [`UNSENT_MIN`] each.

use std::fs;
use std::os::fd::BorrowedFd;

use socket2::SockRef;

/// The assumed size of a send buffer without a limit, in bytes.
const UNSENT_MAX: u64 = 4 << 20;

/// The smallest limit, in bytes: on a gigabit network a sender wakes some thousand times a second.
const UNSENT_MIN: u64 = 64 << 10;

/// The number of connections without a limit, if there is enough memory.
const UNLIMITED_MAX: u64 = 64;

/// The connections without a limit may use one part in `MEMORY_PART` of the memory below which TCP
/// is not under pressure.
const MEMORY_PART: u64 = 4;

/// The smallest size of a page, in bytes. Where pages are larger, the limits are stricter than
/// needed.
const PAGE_BYTES: u64 = 4096;

/// Sets the limit of each connection of a driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotsentLowat {
    unlimited: u64,
}

impl NotsentLowat {
    /// Limits according to `net.ipv4.tcp_mem`.
    pub(super) fn of_system() -> Self {
        // A container may hide the setting.
        let pages = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
        Self::within(pages.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()))
    }

    /// Limits for a system where TCP is not under pressure below this number of pages.
    fn within(pages: Option<u64>) -> Self {
        let unlimited =
            pages.map_or(UNLIMITED_MAX, |pages| pages.saturating_mul(PAGE_BYTES) / MEMORY_PART / UNSENT_MAX);
        Self { unlimited: unlimited.clamp(1, UNLIMITED_MAX) }
    }

    /// The limit of the newest of this many connections, in bytes; `None`: no limit.
    fn share(self, connections: usize) -> Option<u64> {
        let connections = connections as u64;
        (connections > self.unlimited).then(|| {
            (UNSENT_MAX * self.unlimited * self.unlimited / connections.saturating_mul(connections)).max(UNSENT_MIN)
        })
    }

    /// Sets the limit of the newest of this many connections. A failure is not reported, since the
    /// connection works without a limit.
    pub(super) fn bound(self, connection: BorrowedFd<'_>, connections: usize) {
        let Some(bytes) = self.share(connections) else { return };
        if let Err(error) = SockRef::from(&connection).set_tcp_notsent_lowat(bytes as u32) {
            // Usually a unix socket, whose buffers do not grow.
            tracing::trace!(%error, "cannot set TCP_NOTSENT_LOWAT");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_not_bounded() {
        let lowat = NotsentLowat::within(None);
        assert_eq!(lowat.share(1), None);
        assert_eq!(lowat.share(64), None);
        assert_eq!(lowat.share(128), Some(1 << 20));
    }

    #[test]
    fn a_machine_with_little_memory_bounds_sooner() {
        let lowat = NotsentLowat::within(Some(10_000));
        assert_eq!(lowat.share(2), None);
        assert_eq!(lowat.share(4), Some(1 << 20));
    }

    #[test]
    fn many_together_take_no_more_than_the_documented_sum() {
        for pages in [None, Some(0), Some(10_000), Some(u64::MAX)] {
            let lowat = NotsentLowat::within(pages);
            for many in [100, 10_000, 1_000_000] {
                let sum: u64 = (1..=many).map(|n| lowat.share(n).unwrap_or(UNSENT_MAX)).sum();
                assert!(sum <= 2 * lowat.unlimited * UNSENT_MAX + many as u64 * UNSENT_MIN, "{many} take {sum}");
            }
        }
    }
}
