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
    /// Small pieces, copied together.
    Gathered(Box<Gathered>),
}

/// Bytes of several small pieces in one piece of memory, to which more may be added.
#[derive(Clone, Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    /// So many of them are done with.
    start: usize,
}

impl Gathered {
    /// The least memory it takes: with little less, few pieces would fit.
    const CAPACITY_MIN: usize = 256;

    /// Adds a copy of `piece`; returns how many bytes of memory more it holds.
    pub(super) fn append(&mut self, piece: &[u8]) -> usize {
        let before = self.bytes.capacity();
        self.bytes.extend_from_slice(piece);
        self.bytes.capacity() - before
    }

    /// Bytes that were copied, those that are done with included.
    pub(super) const fn filled_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Chunk {
    /// A chunk of memory made for it.
    ///
    /// # Panics
    /// Beyond 4 GiB.
    #[expect(clippy::expect_used, reason = "no limit of xps allows a piece of this size")]
    pub fn shared(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let length = u32::try_from(bytes.len()).expect("a chunk is below 4 GiB");
        Self::Shared { bytes, start: 0, length }
    }

    /// A chunk with a copy of a piece, to which others can be added.
    pub(super) fn gathered(piece: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(piece.len().max(Gathered::CAPACITY_MIN));
        bytes.extend_from_slice(piece);
        Self::Gathered(Box::new(Gathered { bytes, start: 0 }))
    }

    /// Its length in bytes; cheaper than that of the slice, whose bounds are checked.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Pool(buffer) => buffer.len(),
            Self::Shared { length, .. } => *length as usize,
            Self::Static(bytes) => bytes.len(),
            Self::Gathered(gathered) => gathered.bytes.len() - gathered.start,
        }
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that this chunk keeps from being used for something else: of a pool buffer the
    /// whole, of the program's own bytes none.
    pub fn memory(&self) -> usize {
        match self {
            Self::Pool(buffer) => buffer.capacity(),
            Self::Shared { length, .. } => *length as usize,
            Self::Static(_) => 0,
            Self::Gathered(gathered) => gathered.bytes.capacity() + size_of::<Gathered>(),
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
            Self::Gathered(gathered) => gathered.start += count,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Pool(buffer) => buffer,
            Self::Shared { bytes, start, length } => &bytes[*start as usize..][..*length as usize],
            Self::Static(bytes) => bytes,
            Self::Gathered(gathered) => &gathered.bytes[gathered.start..],
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
