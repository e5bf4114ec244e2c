//! Sizes of a worker's rings, and the choice of the largest size that fits.
//!
//! Since Linux 6.14 the kernel counts rings as locked memory (`RLIMIT_MEMLOCK`), for all processes
//! of a user together, unless they have `CAP_IPC_LOCK`. It frees the memory of a closed ring with a
//! delay. So the size is found by trial, with the rings of all future workers at once, and a failed
//! trial is repeated a few times.

use std::io;
use std::thread;
use std::time::Duration;

use super::buffer_ring::BufferRing;
use super::ring::Ring;
use super::{LARGE_GROUP, LARGE_TARGET, SMALL_GROUP, SMALL_TARGET, Uring, UringConfig};
use crate::buffer::{Pool, PoolConfig, SizeClass};
use crate::driver::{Feature, FeatureSet, limits};

/// Sizes of the rings of one worker, in entries; each a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Submission queue entries. More than this in one turn take several system calls.
    pub submissions: u32,
    /// Completion queue entries. Completions beyond these wait in kernel memory, which is slower.
    pub completions: u32,
    /// Small receive buffers that the kernel may pick from.
    pub small_buffers: u16,
    /// Large receive buffers that the kernel may pick from.
    pub large_buffers: u16,
}

impl RingSize {
    /// The size for a server.
    pub const FULL: Self = Self { submissions: 1024, completions: 16_384, small_buffers: 4096, large_buffers: 256 };

    /// All sizes, the largest first. The smallest still works, with more system calls under load.
    pub const ALL: [Self; 4] = [
        Self::FULL,
        Self { submissions: 512, completions: 4096, small_buffers: 1024, large_buffers: 256 },
        Self { submissions: 128, completions: 1024, small_buffers: 512, large_buffers: 128 },
        Self { submissions: 64, completions: 256, small_buffers: 256, large_buffers: 64 },
    ];

    /// About how much memory the kernel counts as locked, in whole pages, in bytes.
    pub const fn locked_bytes(self) -> u64 {
        const PAGE: u64 = 4096;
        const HEADER: u64 = 256;
        let parts = [
            self.submissions as u64 * 64,
            self.completions as u64 * 16 + HEADER,
            self.small_buffers as u64 * 16,
            self.large_buffers as u64 * 16,
        ];
        let [submissions, completions, small, large] = parts;
        (submissions.div_ceil(PAGE) + completions.div_ceil(PAGE) + small.div_ceil(PAGE) + large.div_ceil(PAGE)) * PAGE
    }
}

impl Uring {
    /// As [`Uring::new`], but with smaller rings if the memory that was free when the size was
    /// chosen is in use now.
    ///
    /// # Errors
    /// As [`Uring::new`].
    pub fn new_or_smaller(config: UringConfig) -> io::Result<Self> {
        let smaller = RingSize::ALL.into_iter().filter(|size| size.locked_bytes() < config.size.locked_bytes());
        let mut made = Self::new(config.clone());
        for size in smaller {
            match made {
                Err(error) if is_out_of_memory(&error) => made = Self::new(UringConfig { size, ..config.clone() }),
                made => return made,
            }
        }
        made
    }
}

/// The rings of a driver: everything that counts as locked memory.
pub(super) struct Rings {
    pub(super) ring: Ring,
    pub(super) small: Option<BufferRing>,
    pub(super) large: Option<BufferRing>,
}

impl Rings {
    /// Creates rings of this size for the `wanted` features; the kernel has those in `has`.
    pub(super) fn new(size: RingSize, wanted: FeatureSet, has: FeatureSet) -> io::Result<Self> {
        let ring = Ring::new(size.submissions, size.completions, wanted)?;
        let has_small = has.has(Feature::BufferRing);
        let has_large = has_small && has.has(Feature::LargeBuffers);
        let (small, large) = {
            let submitter = ring.submitter();
            let of = |group, class, room, target| BufferRing::new(&submitter, group, class, room, target);
            let small = has_small.then(|| of(SMALL_GROUP, SizeClass::Small, size.small_buffers, SMALL_TARGET));
            let small = small.transpose()?;
            let large = has_large.then(|| of(LARGE_GROUP, SizeClass::Large, size.large_buffers, LARGE_TARGET));
            match large.transpose() {
                Ok(large) => (small, large),
                Err(error) => {
                    discard(&ring, [small, None]);
                    return Err(error);
                }
            }
        };
        Ok(Self { ring, small, large })
    }

    /// As [`Rings::new`], but retries while the memory of closed rings is not free yet.
    pub(super) fn patiently(size: RingSize, wanted: FeatureSet, has: FeatureSet) -> io::Result<Self> {
        patiently(PATIENCE, || Self::new(size, wanted, has))
    }

    fn discard(self) {
        discard(&self.ring, [self.small, self.large]);
    }
}

/// Unregisters buffer rings that were never filled.
fn discard(ring: &Ring, buffers: [Option<BufferRing>; 2]) {
    let pool = Pool::new(PoolConfig { small_max: 0, large_max: 0, ..PoolConfig::default() });
    for buffers in buffers.into_iter().flatten() {
        if let Err(error) = buffers.close(&ring.submitter(), &pool) {
            tracing::debug!(%error, "cannot unregister a buffer ring of a trial");
        }
    }
}

/// Retries on ENOMEM, and the time between two: the memory of closed rings is about to be freed.
const PATIENCE: u32 = 50;
const PATIENCE_OF_A_TRIAL: u32 = 25;
const STEP: Duration = Duration::from_millis(20);

/// Calls `attempt`, and retries at most `times` times while it fails with ENOMEM.
pub(super) fn patiently<T>(times: u32, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = times;
    loop {
        match attempt() {
            Err(error) if is_out_of_memory(&error) && left > 0 => left -= 1,
            result => return result,
        }
        thread::sleep(STEP);
    }
}

pub(super) fn is_out_of_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

/// The largest size of which `workers` rings can exist at a time.
///
/// # Errors
/// Even the smallest size does not fit, or no ring can be created.
pub fn fitting(workers: usize, wanted: FeatureSet, has: FeatureSet) -> io::Result<RingSize> {
    let limit = limits::locked_memory().ok().and_then(|limit| limit.soft);
    let mut last = None;
    for size in RingSize::ALL {
        // A size beyond the limit is not retried: without `CAP_IPC_LOCK` it fails at once.
        let needed = size.locked_bytes().saturating_mul(workers as u64);
        let times = if limit.is_some_and(|limit| needed > limit) { 0 } else { PATIENCE_OF_A_TRIAL };
        match patiently(times, || try_all(workers, size, wanted, has)) {
            Ok(()) => return Ok(size),
            Err(error) if is_out_of_memory(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM)))
}

fn try_all(workers: usize, size: RingSize, wanted: FeatureSet, has: FeatureSet) -> io::Result<()> {
    let mut all: Vec<Rings> = Vec::new();
    let mut result = Ok(());
    for _ in 0..workers.max(1) {
        match Rings::new(size, wanted, has) {
            Ok(rings) => all.push(rings),
            // The limit of descriptors may not have been raised yet. It says nothing about memory.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) && !all.is_empty() => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    all.into_iter().for_each(Rings::discard);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_smaller_than_the_one_before() {
        for pair in RingSize::ALL.windows(2) {
            assert!(pair[1].locked_bytes() < pair[0].locked_bytes(), "{pair:?}");
        }
        // Two workers fit into 64 KiB, the lowest limit that systems set.
        assert!(RingSize::ALL[3].locked_bytes() <= 24 << 10, "{}", RingSize::ALL[3].locked_bytes());
    }

    #[test]
    fn memory_that_is_given_back_soon_is_waited_for() {
        let mut attempts = 0;
        let result = patiently(3, || {
            attempts += 1;
            if attempts < 3 { Err(io::Error::from_raw_os_error(libc::ENOMEM)) } else { Ok(attempts) }
        });
        assert_eq!(result.unwrap(), 3);
        let refused = patiently(2, || Err::<(), _>(io::Error::from_raw_os_error(libc::ENOMEM)));
        assert!(is_out_of_memory(&refused.unwrap_err()));
        let mut attempts = 0;
        let other = patiently(3, || {
            attempts += 1;
            Err::<(), _>(io::Error::from_raw_os_error(libc::EPERM))
        });
        assert!(other.is_err() && attempts == 1);
    }
}
