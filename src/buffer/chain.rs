//! A sequence of chunks: what a `Send` carries and what a pipe holds.

use smallvec::SmallVec;

use super::Chunk;

/// So many chunks fit without an allocation: an answer from the cache is one, and every idle connection has a chain.
const INLINE_CHUNKS: usize = 1;

/// Chunks in the order in which their bytes are to be sent. Empty chunks are not kept.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    chunks: SmallVec<[Chunk; INLINE_CHUNKS]>,
    bytes: usize,
}

impl Chain {
    /// An empty chain; allocates nothing.
    pub const fn new() -> Self {
        Self { chunks: SmallVec::new_const(), bytes: 0 }
    }

    /// Adds a chunk at the end; an empty one is dropped.
    pub fn push(&mut self, chunk: impl Into<Chunk>) {
        let chunk = chunk.into();
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// Bytes in all chunks together.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The chunks, in order; none is empty.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Drops the first `count` bytes, and the chunks that this empties.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes, "advance by {count} of {}", self.bytes);
        if count == self.bytes {
            // What a send that was taken whole does.
            self.chunks.clear();
            self.bytes = 0;
            return;
        }
        let mut rest = count;
        let mut spent = 0;
        for chunk in &mut self.chunks {
            if rest < chunk.len() {
                chunk.advance(rest);
                break;
            }
            rest -= chunk.len();
            spent += 1;
        }
        self.chunks.drain(..spent);
        self.bytes -= count;
    }

    /// Moves everything out, leaving the chain empty.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// A copy of all bytes in one piece, for tests and logs.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect()
    }
}

impl<T: Into<Chunk>> From<T> for Chain {
    fn from(chunk: T) -> Self {
        let mut chain = Self::new();
        chain.push(chunk);
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advancing_drops_bytes_across_chunks() {
        let mut chain = Chain::new();
        chain.push(&b"one"[..]);
        chain.push(Chunk::shared(*b"two"));
        chain.push(&b""[..]);
        chain.push(&b"three"[..]);
        assert_eq!((chain.len(), chain.chunks().len()), (11, 3));
        chain.advance(4);
        assert_eq!(chain.to_vec(), b"wothree");
        chain.advance(2);
        assert_eq!(chain.chunks().len(), 1);
        chain.advance(5);
        assert!(chain.is_empty() && chain.chunks().is_empty());
    }

    #[test]
    fn taking_leaves_an_empty_chain() {
        let mut chain = Chain::from(&b"bytes"[..]);
        assert_eq!(chain.take().len(), 5);
        assert!(chain.is_empty());
    }
}
