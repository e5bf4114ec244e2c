//! Settings that are fixed when a process starts: the keys that a reload cannot change.

use std::path::PathBuf;

use crate::buffer::PoolConfig;
use crate::config::{BackendChoice, ServerConfig};
use crate::driver::FeatureSet;

/// The values that the process was started with.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    workers: usize,
    pin_workers: bool,
    backend: BackendChoice,
    uring_off: FeatureSet,
    pool: PoolConfig,
    pid_file: Option<PathBuf>,
}

impl ProcessSettings {
    /// Takes the values from the configuration of the start.
    pub fn of(config: &ServerConfig) -> Self {
        let ServerConfig { workers, pin_workers, backend, uring_off, limits, operator, .. } = config;
        // `pipe_bytes_max` limits the size of a buffer, and buffers are created once.
        let pool = limits.pool.within(limits.pipe_bytes_max);
        let pid_file = operator.pid_file.clone();
        Self { workers: *workers, pin_workers: *pin_workers, backend: *backend, uring_off: *uring_off, pool, pid_file }
    }

    /// Puts the values of the process into a reloaded configuration, and warns of each key that the
    /// configuration changes without effect.
    pub fn keep(&self, config: &mut ServerConfig) {
        for key in self.differing(config) {
            tracing::warn!(
                key,
                "a reload does not change this key; to change it, replace the process (SIGUSR2) or restart it"
            );
        }
        let Self { workers, pin_workers, backend, uring_off, .. } = *self;
        // The buffers of the process stay unchanged without this; other limits are divided among the
        // existing workers.
        *config = ServerConfig { workers, pin_workers, backend, uring_off, ..config.clone() };
        config.operator.pid_file.clone_from(&self.pid_file);
    }

    fn differing(&self, config: &ServerConfig) -> impl Iterator<Item = &'static str> {
        let Self { workers, pin_workers, backend, uring_off, pool, pid_file } = Self::of(config);
        [
            (workers != self.workers, "workers"),
            (pin_workers != self.pin_workers, "pin_workers"),
            (backend != self.backend, "backend"),
            (uring_off != self.uring_off, "uring_off"),
            (pool != self.pool, "limits.pool"),
            (pid_file != self.pid_file, "pid_file"),
        ]
        .into_iter()
        .filter_map(|(differs, key)| differs.then_some(key))
    }
}
