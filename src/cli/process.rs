//! What is settled when a process starts: the keys that a reload cannot change.

use crate::buffer::PoolConfig;
use crate::config::{BackendChoice, ServerConfig};
use crate::driver::FeatureSet;

/// The values that the process runs with.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    workers: usize,
    pin_workers: bool,
    backend: BackendChoice,
    uring_off: FeatureSet,
    pool: PoolConfig,
}

impl ProcessSettings {
    /// Those that it is started with.
    pub fn of(config: &ServerConfig) -> Self {
        let ServerConfig { workers, pin_workers, backend, uring_off, limits, .. } = config;
        // What a connection may hold bounds the size of a buffer, which is made once.
        let pool = limits.pool.within(limits.pipe_bytes_max);
        Self { workers: *workers, pin_workers: *pin_workers, backend: *backend, uring_off: *uring_off, pool }
    }

    /// Gives a configuration that is read anew the values that the process has, and warns of each that it wants to be
    /// another: silence would be taken for consent.
    pub fn keep(&self, config: &mut ServerConfig) {
        for key in self.differing(config) {
            tracing::warn!(
                key,
                "a reload does not change this key; to change it, replace the process (SIGUSR2) or restart it"
            );
        }
        let Self { workers, pin_workers, backend, uring_off, pool: _ } = *self;
        // Buffers stay as they are by themselves; the rest is divided among the workers that there are.
        *config = ServerConfig { workers, pin_workers, backend, uring_off, ..config.clone() };
    }

    fn differing(&self, config: &ServerConfig) -> impl Iterator<Item = &'static str> {
        let Self { workers, pin_workers, backend, uring_off, pool } = Self::of(config);
        [
            (workers != self.workers, "workers"),
            (pin_workers != self.pin_workers, "pin_workers"),
            (backend != self.backend, "backend"),
            (uring_off != self.uring_off, "uring_off"),
            (pool != self.pool, "limits.pool"),
        ]
        .into_iter()
        .filter_map(|(differs, key)| differs.then_some(key))
    }
}
