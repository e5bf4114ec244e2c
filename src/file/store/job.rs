//! Jobs of the store: the waiting sessions and the current step.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{OpenFile, Resource, RootPath, STORE};
use crate::driver::{File, FileInfo, Token};
use crate::file::compress::Level;
use crate::file::listing::{Listed, Sort};
use crate::http::Coding;
use crate::table::Key;
use crate::waiter::Waiter;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: Box<[u8]>,
    pub(super) waiters: SmallVec<[Waiter; 2]>,
    pub(super) step: Step,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Checking which folder a root path leads to.
    Looking {
        root_path: RootPath,
    },
    Opening {
        previous: Option<Rc<Resource>>,
    },
    Opened {
        previous: Option<Rc<Resource>>,
        file: File,
        info: FileInfo,
    },
    /// The file stays open while the kernel reads it.
    Reading {
        _file: OpenFile,
        info: FileInfo,
        is_settled: bool,
    },
    /// Reading the start of a large file to detect its charset.
    Sampling {
        resource: Rc<Resource>,
    },
    Listing {
        previous: Option<Rc<Listed>>,
    },
    Sorting {
        listed: Rc<Listed>,
        sort: Sort,
    },
    /// Reading a large file to compress it.
    Fetching {
        source: Rc<Resource>,
        coding: Coding,
        level: Level,
    },
    Fetched {
        source: Rc<Resource>,
        coding: Coding,
        level: Level,
        /// What to compress: up to some megabytes, which the event loop must not copy.
        input: Arc<[u8]>,
    },
    Compressing {
        source: Rc<Resource>,
        coding: Coding,
    },
    Closing,
}

impl Step {
    /// Size of the file that the job compresses; 0 if it does not compress.
    pub(super) fn coding_bytes(&self) -> u64 {
        match self {
            Self::Fetching { source, .. } | Self::Fetched { source, .. } | Self::Compressing { source, .. } => {
                source.info.size
            }
            Self::Looking { .. }
            | Self::Opening { .. }
            | Self::Opened { .. }
            | Self::Reading { .. }
            | Self::Sampling { .. }
            | Self::Listing { .. }
            | Self::Sorting { .. }
            | Self::Closing => 0,
        }
    }
}

/// The token of a job's operations.
pub(super) fn token(job: Key<Job>) -> Token {
    Token { machine: job.raw(), kind: STORE, slot: 0 }
}
