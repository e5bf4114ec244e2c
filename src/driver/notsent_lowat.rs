//! How much a connection may have in its send buffer that cannot go yet.
//!
//! The kernel lets a send buffer grow to `tcp_wmem`'s maximum, usually 4 MiB, whoever reads or does not. Some hundreds of
//! peers that ask for much and read nothing thus use up what TCP may have in the whole system (`tcp_mem`), and every other
//! connection crawls. So when there are many connections, a new one gets less: `TCP_NOTSENT_LOWAT`, `tcp(7)`. What is on its
//! way does not count, hence a long fat network still gets its full window.
//!
//! The first connections have what the kernel gives, since few large buffers cost less processor time than many turns.
//! Beyond, a buffer shrinks with the square of their number: however many there are, all together take at most twice what
//! the first ones may, and [`UNSENT_MIN`] each.

use std::fs;
use std::os::fd::BorrowedFd;

use socket2::SockRef;

/// What a connection is taken to need if the kernel alone decides.
const UNSENT_MAX: u64 = 4 << 20;

/// Enough that a sender is woken some thousand times a second on a gigabit network, not more often.
const UNSENT_MIN: u64 = 64 << 10;

/// So many connections may have [`UNSENT_MAX`], where there is memory enough.
const UNLIMITED_MAX: u64 = 64;

/// What part of the memory below which TCP feels no pressure the unlimited ones may take.
const MEMORY_PART: u64 = 4;

/// A page is no smaller; where it is larger, we are more careful than we need to be.
const PAGE_BYTES: u64 = 4096;

/// Gives each connection of a driver its room.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotsentLowat {
    unlimited: u64,
}

impl NotsentLowat {
    /// Fit for this machine.
    pub(super) fn of_system() -> Self {
        // A container may hide it.
        let pages = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
        Self::within(pages.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok()))
    }

    /// With so many pages below which TCP feels no pressure.
    fn within(pages: Option<u64>) -> Self {
        let unlimited =
            pages.map_or(UNLIMITED_MAX, |pages| pages.saturating_mul(PAGE_BYTES) / MEMORY_PART / UNSENT_MAX);
        Self { unlimited: unlimited.clamp(1, UNLIMITED_MAX) }
    }

    /// Bytes for the newest of so many connections; `None`: as the kernel likes.
    fn share(self, connections: usize) -> Option<u64> {
        let connections = connections as u64;
        (connections > self.unlimited).then(|| {
            (UNSENT_MAX * self.unlimited * self.unlimited / connections.saturating_mul(connections)).max(UNSENT_MIN)
        })
    }

    /// Sets up the newest of so many connections. One that cannot be set up works as well, so nothing is reported.
    pub(super) fn bound(self, connection: BorrowedFd<'_>, connections: usize) {
        let Some(bytes) = self.share(connections) else { return };
        if let Err(error) = SockRef::from(&connection).set_tcp_notsent_lowat(bytes as u32) {
            // Usually a unix socket, whose buffers do not grow.
            tracing::trace!(%error, "the send buffer stays unbounded");
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
