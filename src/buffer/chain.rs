//! A sequence of chunks: what a `Send` carries and what a pipe holds.
//!
//! A peer chooses the sizes of the pieces it sends, so the cost of a piece is bounded. After the
//! first few chunks, small pieces are copied together. Otherwise each would be an entry of its own
//! that holds a whole receive buffer. Large pieces are never copied.

use smallvec::SmallVec;

use super::{Buffer, Chunk};

/// Chunks that fit without an allocation. A cached response is one chunk, and every idle connection
/// has a chain.
const INLINE_CHUNKS: usize = 1;

/// Pieces shorter than this are copied together once a chain has `CHUNKS_APART_MAX` chunks.
pub const SMALL_PIECE_BYTES: usize = 1024;

/// Maximum number of chunks that are kept separate regardless of size. One system call can take all
/// of them.
const CHUNKS_APART_MAX: usize = 16;

/// Maximum number of bytes copied into one chunk.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Chunks in sending order. No chunk is empty.
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

    /// Appends a chunk. An empty one is dropped.
    #[inline]
    pub fn push(&mut self, chunk: impl Into<Chunk>) {
        let chunk = chunk.into();
        if self.gathers(chunk.len()) {
            self.append(&chunk);
        } else if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push(chunk);
        }
    }

    /// [`Chain::push`] that returns by how many bytes the held memory grew.
    pub fn push_counted(&mut self, chunk: impl Into<Chunk>) -> usize {
        let chunk = chunk.into();
        if chunk.is_empty() {
            return 0;
        }
        if self.gathers(chunk.len()) {
            return self.append_counted(&chunk);
        }
        let memory = chunk.memory();
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        memory
    }

    /// Appends a copy of a small piece, to the last chunk if that is a copy, too.
    pub fn append(&mut self, piece: &[u8]) {
        self.append_counted(piece);
    }

    /// Replaces bytes that begin `back` bytes before the end. Returns whether they were in the last chunk, and that is a copy.
    pub fn overwrite(&mut self, back: usize, piece: &[u8]) -> bool {
        match self.chunks.last_mut() {
            Some(Chunk::Gathered(last)) => last.overwrite(back, piece),
            _ => false,
        }
    }

    fn append_counted(&mut self, piece: &[u8]) -> usize {
        self.bytes += piece.len();
        if let Some(Chunk::Gathered(last)) = self.chunks.last_mut()
            && last.filled_bytes() + piece.len() <= GATHERED_BYTES_MAX
        {
            return last.append(piece);
        }
        if piece.is_empty() {
            return 0;
        }
        let chunk = Chunk::gathered(piece);
        let memory = chunk.memory() + size_of::<Chunk>();
        self.chunks.push(chunk);
        memory
    }

    /// Whether a piece of this length is copied: a small one after another copy, or when there are
    /// many chunks already.
    #[inline]
    fn gathers(&self, length: usize) -> bool {
        // Most chains have only one chunk.
        self.bytes > 0
            && length < SMALL_PIECE_BYTES
            && (self.chunks.len() >= CHUNKS_APART_MAX || matches!(self.chunks.last(), Some(Chunk::Gathered(_))))
    }

    /// Bytes in all chunks.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Bytes of memory held: buffers, copies, and the chain's own entries. Visits every chunk.
    pub fn memory(&self) -> usize {
        let mut bytes = if self.chunks.spilled() { self.chunks.capacity() * size_of::<Chunk>() } else { 0 };
        let mut latest: Option<&Buffer> = None;
        for chunk in self.chunks() {
            match (chunk, latest) {
                // A buffer cut into pieces is counted once.
                (Chunk::Pool(buffer), Some(other)) if buffer.shares_memory_with(other) => {}
                (Chunk::Pool(buffer), _) => {
                    bytes += chunk.memory();
                    latest = Some(buffer);
                }
                (Chunk::Shared { .. } | Chunk::Static(_) | Chunk::Gathered(_), _) => bytes += chunk.memory(),
            }
        }
        bytes
    }

    /// The chunks, in order; none is empty.
    #[inline]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Removes the first `count` bytes, and the chunks that become empty.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes, "advance by {count} of {}", self.bytes);
        if count == self.bytes {
            // The usual case: a send was complete.
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
        // Few entries move: apart from the first ones, each has 1 KiB, or is a copy of 16 KiB.
        self.chunks.drain(..spent);
        self.bytes -= count;
    }

    /// Moves the first `count` bytes to the end of another chain.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn move_to(&mut self, other: &mut Self, count: usize) {
        assert!(count <= self.bytes, "move {count} of {}", self.bytes);
        self.bytes -= count;
        let (mut rest, mut whole) = (count, 0);
        while let Some(chunk) = self.chunks.get(whole)
            && chunk.len() <= rest
        {
            rest -= chunk.len();
            whole += 1;
        }
        for chunk in self.chunks.drain(..whole) {
            other.push(chunk);
        }
        if let Some(first) = self.chunks.first_mut()
            && rest > 0
        {
            other.push(first.split_to(rest));
        }
    }

    /// The chunks, in order, moved out.
    pub fn into_chunks(self) -> impl Iterator<Item = Chunk> {
        self.chunks.into_iter()
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
    use std::convert::Infallible;

    use super::*;
    use crate::buffer::{Pool, PoolConfig, SizeClass};

    #[test]
    fn only_the_last_copy_is_overwritten() {
        let mut chain = Chain::new();
        assert!(!chain.overwrite(0, b""), "there is none");
        chain.append(b"header");
        chain.append(b"data");
        assert!(chain.overwrite(10, b"HEADER") && !chain.overwrite(11, b"x") && !chain.overwrite(2, b"xyz"));
        assert_eq!(chain.to_vec(), b"HEADERdata");
        chain.push(Chunk::Static(b"a piece of its own".as_slice()));
        chain.push(Chunk::shared(vec![0_u8; SMALL_PIECE_BYTES]));
        assert!(!chain.overwrite(1, b"x"));
    }

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
    fn bytes_move_to_another_chain_in_their_order() {
        for count in 0..=14 {
            let mut chain = Chain::new();
            let copied = Chunk::owned(b"four".to_vec());
            for piece in [Chunk::Static(b"one"), Chunk::shared(*b"two"), Chunk::Static(b"last"), copied] {
                chain.push(piece);
            }
            let mut other = Chain::from(&b">"[..]);
            chain.move_to(&mut other, count);
            assert_eq!((chain.len(), other.len()), (14 - count, 1 + count));
            assert_eq!([other.to_vec(), chain.to_vec()].concat(), b">onetwolastfour", "{count}");
        }
    }

    #[test]
    fn taking_leaves_an_empty_chain() {
        let mut chain = Chain::from(&b"bytes"[..]);
        assert_eq!(chain.take().len(), 5);
        assert!(chain.is_empty());
    }

    /// A chain of `count` pieces of `size` bytes, each in a receive buffer of its own, and its
    /// bytes.
    fn dripped(count: usize, size: usize) -> (Chain, Vec<u8>) {
        let pool = Pool::new(PoolConfig::default());
        let (mut chain, mut bytes) = (Chain::new(), Vec::new());
        for number in 0..count {
            let piece = vec![number as u8; size];
            let fill = |memory: &mut [u8]| {
                memory[..size].copy_from_slice(&piece);
                Ok::<_, Infallible>(size)
            };
            chain.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
            bytes.extend(piece);
        }
        (chain, bytes)
    }

    #[test]
    fn small_pieces_are_copied_together_from_some_chunks_on() {
        const COUNT: usize = if cfg!(miri) { 3_000 } else { 100_000 };
        let (chain, bytes) = dripped(COUNT, 1);
        assert_eq!(chain.to_vec(), bytes);
        let entries = CHUNKS_APART_MAX + COUNT.div_ceil(GATHERED_BYTES_MAX);
        assert!(chain.chunks().len() <= entries, "{} entries", chain.chunks().len());
        let memory = CHUNKS_APART_MAX * (16 << 10) + 3 * COUNT;
        assert!(chain.memory() <= memory, "{} bytes of memory", chain.memory());
    }

    #[test]
    fn large_pieces_and_the_first_few_small_ones_are_never_copied() {
        let (chain, _) = dripped(CHUNKS_APART_MAX, 1);
        assert!(chain.chunks().iter().all(|chunk| matches!(chunk, Chunk::Pool(_))));
        let (chain, _) = dripped(100, SMALL_PIECE_BYTES);
        assert_eq!(chain.chunks().len(), 100);
        assert!(chain.chunks().iter().all(|chunk| matches!(chunk, Chunk::Pool(_))));
    }

    #[test]
    fn what_follows_a_copy_joins_it_and_can_be_sent_byte_by_byte() {
        let mut chain = Chain::new();
        for piece in [&b"5\r\n"[..], b"hello", b"\r\n", b""] {
            chain.append(piece);
        }
        chain.push(&b"0\r\n\r\n"[..]);
        assert_eq!((chain.chunks().len(), chain.len()), (1, 15));
        let mut sent = Vec::new();
        while !chain.is_empty() {
            sent.push(chain.chunks()[0][0]);
            chain.advance(1);
        }
        assert_eq!(sent, b"5\r\nhello\r\n0\r\n\r\n");
    }

    #[test]
    fn a_buffer_cut_into_pieces_is_counted_once() {
        let (mut whole, _) = dripped(1, 5000);
        let Chunk::Pool(mut buffer) = whole.take().chunks()[0].clone() else { panic!("a buffer") };
        let mut chain = Chain::new();
        chain.push(buffer.split_to(2000));
        chain.push(&b"\r\n"[..]);
        chain.push(buffer);
        let entries = chain.chunks.capacity() * size_of::<Chunk>();
        assert_eq!(chain.memory(), (16 << 10) + entries);
    }

    /// Advancing moves entries, so their number must be bounded whatever a peer sends.
    #[test]
    fn entries_are_few_for_what_they_hold_whatever_the_sizes_of_the_pieces() {
        for pattern in [&[1][..], &[1, 1, 1, 1023], &[1024, 1], &[1023, 1024, 1], &[700]] {
            let mut chain = Chain::new();
            for size in pattern.iter().cycle().take(5000) {
                chain.push(Chunk::shared(vec![b'x'; *size]));
            }
            let most = CHUNKS_APART_MAX + 2 + 2 * chain.len() / SMALL_PIECE_BYTES;
            assert!(chain.chunks().len() <= most, "{pattern:?}: {} entries", chain.chunks().len());
        }
    }
}
