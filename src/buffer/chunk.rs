//! One contiguous piece of something to send.

use std::ops::Deref;
use std::sync::Arc;

use super::Buffer;

/// A piece of bytes that can be handed on without copying.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Received bytes, leased from the worker's pool.
    Pool(Buffer),
    /// A range of memory that several may hold, such as a cached file.
    Shared {
        /// The memory.
        bytes: Arc<[u8]>,
        /// Where the piece begins.
        start: u32,
        /// Its length in bytes.
        length: u32,
    },
    /// Bytes of the program itself.
    Static(&'static [u8]),
}

impl Chunk {
    /// A chunk of memory made for it.
    ///
    /// # Panics
    /// Beyond 4 GiB.
    pub fn shared(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let length = u32::try_from(bytes.len()).expect("a chunk is below 4 GiB");
        Self::Shared { bytes, start: 0, length }
    }

    /// Bytes of memory that this chunk keeps from being used for something else: of a pool buffer the
    /// whole, of the program's own bytes none.
    pub fn memory(&self) -> usize {
        match self {
            Self::Pool(buffer) => buffer.capacity(),
            Self::Shared { length, .. } => *length as usize,
            Self::Static(_) => 0,
        }
    }

    /// Drops the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "advance by {count} of {}", self.len());
        match self {
            Self::Pool(buffer) => buffer.advance(count),
            Self::Shared { start, length, .. } => {
                *start += count as u32;
                *length -= count as u32;
            }
            Self::Static(bytes) => *bytes = &bytes[count..],
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pool(buffer) => buffer,
            Self::Shared { bytes, start, length } => &bytes[*start as usize..][..*length as usize],
            Self::Static(bytes) => bytes,
        }
    }
}

impl From<Buffer> for Chunk {
    fn from(buffer: Buffer) -> Self {
        Self::Pool(buffer)
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}
