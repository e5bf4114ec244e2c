//! One contiguous piece of bytes to send.

use std::ops::Deref;
use std::sync::Arc;

use super::Buffer;

/// A piece of bytes that can be passed on without copying.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Received bytes, leased from the worker's pool.
    Pool(Buffer),
    /// A range of reference-counted memory, such as a cached file.
    Shared {
        /// The whole memory.
        bytes: Arc<[u8]>,
        /// Offset of the piece in `bytes`.
        start: u32,
        /// Length of the piece in bytes.
        length: u32,
    },
    /// Bytes in the program's static memory.
    Static(&'static [u8]),
    /// Several small pieces, copied together.
    Gathered(Box<Gathered>),
}

/// Several small pieces in one vector, to which more can be appended.
#[derive(Clone, Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    /// Bytes at the beginning that are consumed already.
    start: usize,
}

impl Gathered {
    /// Minimum capacity in bytes, so that several pieces fit.
    const CAPACITY_MIN: usize = 256;

    /// Appends a copy of `piece`. Returns by how many bytes the memory grew.
    pub(super) fn append(&mut self, piece: &[u8]) -> usize {
        let before = self.bytes.capacity();
        self.bytes.extend_from_slice(piece);
        self.bytes.capacity() - before
    }

    /// Replaces bytes that begin `back` bytes before the end. Returns whether there are that many that were not consumed.
    pub(super) fn overwrite(&mut self, back: usize, piece: &[u8]) -> bool {
        let at = self.bytes.len().checked_sub(back).filter(|at| *at >= self.start);
        let place = at.and_then(|at| self.bytes.get_mut(at..at + piece.len()));
        place.map(|place| place.copy_from_slice(piece)).is_some()
    }

    /// Bytes copied so far, including those consumed already.
    pub(super) const fn filled_bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl Chunk {
    /// A chunk of the whole memory.
    ///
    /// # Panics
    /// If it is larger than 4 GiB.
    #[expect(clippy::expect_used, reason = "no limit of xps allows a piece of this size")]
    pub fn shared(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let length = u32::try_from(bytes.len()).expect("a chunk is below 4 GiB");
        Self::Shared { bytes, start: 0, length }
    }

    /// A chunk of the first `length` bytes of this memory.
    pub fn front_of(bytes: Arc<[u8]>, length: usize) -> Self {
        let length = length.min(bytes.len());
        Self::Shared { bytes, start: 0, length: u32::try_from(length).unwrap_or(u32::MAX) }
    }

    /// A chunk of this memory, which is not copied.
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self::Gathered(Box::new(Gathered { bytes, start: 0 }))
    }

    /// A chunk with a copy of `piece`, to which others can be appended.
    pub(super) fn gathered(piece: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(piece.len().max(Gathered::CAPACITY_MIN));
        bytes.extend_from_slice(piece);
        Self::Gathered(Box::new(Gathered { bytes, start: 0 }))
    }

    /// The bytes in memory that holds nothing else. They are copied unless that is so already.
    pub fn into_shared(self) -> Arc<[u8]> {
        match self {
            Self::Shared { bytes, length, .. } if bytes.len() == length as usize => bytes,
            chunk => Arc::from(&*chunk),
        }
    }

    /// Length in bytes. Cheaper than the slice's length, which costs a bounds check.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Pool(buffer) => buffer.len(),
            Self::Shared { length, .. } => *length as usize,
            Self::Static(bytes) => bytes.len(),
            Self::Gathered(gathered) => gathered.bytes.len() - gathered.start,
        }
    }

    /// Whether the length is 0.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that this chunk keeps in use: the whole of a pool buffer, none for static
    /// bytes.
    pub fn memory(&self) -> usize {
        match self {
            Self::Pool(buffer) => buffer.capacity(),
            Self::Shared { length, .. } => *length as usize,
            Self::Static(_) => 0,
            Self::Gathered(gathered) => gathered.bytes.capacity() + size_of::<Gathered>(),
        }
    }

    /// Removes the first `count` bytes.
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

    /// Removes and returns the first `count` bytes. They are copied only if the chunk is a copy
    /// itself.
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn split_to(&mut self, count: usize) -> Self {
        let front = match self {
            Self::Pool(buffer) => return Self::Pool(buffer.split_to(count)),
            Self::Shared { bytes, start, .. } => {
                Self::Shared { bytes: Arc::clone(bytes), start: *start, length: count as u32 }
            }
            Self::Static(bytes) => Self::Static(&bytes[..count]),
            Self::Gathered(_) => Self::gathered(&self[..count]),
        };
        self.advance(count);
        front
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
