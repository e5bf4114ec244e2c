//! The size of a socket's receive buffers, chosen from its recent reads.
//!
//! Large buffers make bulk transfer cheap, since it takes fewer operations. Small buffers keep the
//! working set of message traffic in the processor's cache.

use crate::buffer::SizeClass;

/// A socket switches to large buffers when consecutive reads that each filled a small buffer add up
/// to this many bytes.
const BULK_BYTES: u32 = 64 << 10;

/// A socket switches back to small buffers after this many consecutive reads that fit into one.
const SMALL_READS: u8 = 2;

/// The size of a socket's receive buffers, with the state of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecvSize {
    /// Small buffers. The last reads filled theirs with this many bytes, fewer than [`BULK_BYTES`].
    Small { full_bytes: u32 },
    /// Large buffers. The last reads, this many, would have fit into small ones.
    Large { small_reads: u8 },
}

impl Default for RecvSize {
    fn default() -> Self {
        Self::Small { full_bytes: 0 }
    }
}

impl RecvSize {
    /// The class of buffer to receive into.
    pub(super) const fn class(self) -> SizeClass {
        match self {
            Self::Small { .. } => SizeClass::Small,
            Self::Large { .. } => SizeClass::Large,
        }
    }

    /// The state after a read of `length` bytes; a small buffer holds `small` bytes.
    pub(super) const fn after(self, length: usize, small: usize) -> Self {
        match self {
            Self::Small { .. } if length < small => Self::Small { full_bytes: 0 },
            Self::Small { full_bytes } if length < (BULK_BYTES - full_bytes) as usize => {
                Self::Small { full_bytes: full_bytes + length as u32 }
            }
            Self::Small { .. } => Self::Large { small_reads: 0 },
            Self::Large { .. } if length > small => Self::Large { small_reads: 0 },
            Self::Large { small_reads } if small_reads + 1 < SMALL_READS => {
                Self::Large { small_reads: small_reads + 1 }
            }
            Self::Large { .. } => Self::Small { full_bytes: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: usize = 16 << 10;

    #[test]
    fn bulk_earns_large_buffers_and_two_small_reads_lose_them() {
        let mut recv_size = RecvSize::default();
        for _ in 0..3 {
            recv_size = recv_size.after(SMALL, SMALL);
            assert_eq!(recv_size.class(), SizeClass::Small);
        }
        recv_size = recv_size.after(SMALL, SMALL);
        assert_eq!(recv_size, RecvSize::Large { small_reads: 0 });
        recv_size = recv_size.after(100, SMALL).after(SMALL + 1, SMALL).after(100, SMALL);
        assert_eq!(recv_size, RecvSize::Large { small_reads: 1 });
        assert_eq!(recv_size.after(100, SMALL), RecvSize::default());
    }

    #[test]
    fn a_read_that_leaves_room_starts_the_count_again() {
        let recv_size = RecvSize::default().after(SMALL, SMALL).after(SMALL - 1, SMALL);
        assert_eq!(recv_size, RecvSize::default());
    }
}
