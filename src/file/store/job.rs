//! What the store has under way: who waits for it, and how far it is.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{OpenFile, Resource, RootPath, STORE};
use crate::driver::{File, FileInfo, Token};
use crate::file::compress::{Coding, Level};
use crate::file::listing::{Listed, Sort};
use crate::table::Key;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: Box<[u8]>,
    pub(super) waiters: SmallVec<[Key; 2]>,
    pub(super) step: Step,
}

#[derive(Debug)]
pub(super) enum Step {
    /// Finding out which folder a place is now.
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
    /// The file is held open for the kernel, which reads it.
    Reading {
        _file: OpenFile,
        info: FileInfo,
        is_settled: bool,
    },
    /// Reading a large file's beginning, to find out its charset.
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
        input: Input,
    },
    Compressing {
        source: Rc<Resource>,
        coding: Coding,
    },
    Closing,
}

/// What is to be compressed: some megabytes, which the loop must not copy.
#[derive(Debug)]
pub(super) enum Input {
    /// The content of a file at hand.
    Shared(Arc<[u8]>),
    /// Read for this alone.
    Own(Vec<u8>),
}

impl std::ops::Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

impl Step {
    /// Bytes of the file that is being compressed, if this is about that.
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

/// What the outcomes of a job's operations carry.
pub(super) fn token(job: Key) -> Token {
    Token { machine: job, kind: STORE, slot: 0 }
}
