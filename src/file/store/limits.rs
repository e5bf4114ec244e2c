//! [`StoreLimits`]: how much the store caches, for how long, and how much work it has in progress.

use std::time::Duration;

/// The limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Time for which a result is used before the path is opened again.
    pub valid_for: Duration,
    /// Time for which a result is kept after its last use. Large files and root folders stay open
    /// as long.
    pub idle_for: Duration,
    /// Maximum size of files that are kept in memory; larger ones are kept open. Bytes.
    pub small_bytes_max: u64,
    /// Maximum of cached results.
    pub entries_max: u32,
    /// Maximum of open files in the cache: connections need descriptors, too.
    pub open_max: u32,
    /// Maximum of memory for cached results. Bytes.
    pub bytes_max: usize,
    /// Maximum of file content being compressed at a time; beyond it files are sent uncompressed.
    /// Bytes.
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
