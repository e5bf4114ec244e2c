//! How much the store may keep, for how long, and how much it may have under way.

use std::time::Duration;

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// For how long a result is used before the path is opened again.
    pub valid_for: Duration,
    /// How long after its last use a result is kept; a large file stays open for so long, and so does a folder that is served.
    pub idle_for: Duration,
    /// Files up to so many bytes are kept in memory, larger ones open.
    pub small_bytes_max: u64,
    /// The most results kept.
    pub entries_max: u32,
    /// The most files kept open that nobody is being sent: connections need descriptors, too.
    pub open_max: u32,
    /// The most bytes of memory that results may hold.
    pub bytes_max: usize,
    /// The most bytes of files that are being compressed at once; beyond that a file is sent as it is.
    pub coding_bytes_max: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            valid_for: Duration::from_secs(1),
            idle_for: Duration::from_secs(20),
            small_bytes_max: 32 << 10,
            entries_max: 4096,
            open_max: 4096,
            bytes_max: 64 << 20,
            coding_bytes_max: 64 << 20,
        }
    }
}
