//! The memory that files are read into.
//!
//! Large files are read in pieces of [`PIECE_BYTES`] that live for microseconds. New memory for each would be
//! zeroed by the kernel page by page, which takes as long as the read itself. So a driver keeps a reference to
//! the pieces that it hands out, and reads into those that nothing else refers to any more.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::Chunk;

/// Bytes of a piece that is used again: what HTTP/2 and TLS read of a file at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A read of this length or less gets memory of its own size, so that it does not keep a whole piece.
const SHORT_BYTES: usize = PIECE_BYTES / 2;

/// Number of pieces that a driver keeps.
const PIECES_MAX: usize = 128;

/// How many pieces are looked at for one that is free. They become free about in the order in which they were
/// handed out.
const LOOKS_MAX: usize = 4;

/// The memory of one read.
#[derive(Debug)]
pub(super) struct ReadMemory {
    bytes: Arc<[u8]>,
    wanted: usize,
    filled: usize,
}

/// The pieces of a driver that it has handed out lately.
#[derive(Debug, Default)]
pub(super) struct ReadPieces(VecDeque<Arc<[u8]>>);

impl ReadMemory {
    /// Memory for the rest of what is wanted. Nothing else refers to it, and it does not move.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        let bytes = Arc::get_mut(&mut self.bytes);
        debug_assert!(bytes.is_some(), "memory of a read is shared before its end");
        bytes.and_then(|bytes| bytes.get_mut(self.filled..self.wanted)).unwrap_or_default()
    }

    /// Notes that the rest begins with this number of further bytes of the file.
    pub(super) fn add(&mut self, count: usize) {
        self.filled = self.wanted.min(self.filled + count);
    }

    /// Bytes that are there.
    pub(super) const fn filled(&self) -> usize {
        self.filled
    }

    /// Whether all that is wanted is there.
    pub(super) const fn is_full(&self) -> bool {
        self.filled == self.wanted
    }

    /// What was read.
    pub(super) fn into_chunk(self) -> Chunk {
        Chunk::front_of(self.bytes, self.filled)
    }
}

impl ReadPieces {
    /// Memory for a read of this length.
    pub(super) fn memory(&mut self, wanted: usize) -> ReadMemory {
        let is_piece = (SHORT_BYTES + 1..=PIECE_BYTES).contains(&wanted);
        let bytes = match is_piece.then(|| self.take_free()) {
            Some(Some(piece)) => piece,
            Some(None) => zeroed(PIECE_BYTES),
            None => zeroed(wanted),
        };
        ReadMemory { bytes, wanted, filled: 0 }
    }

    /// What was read. Its memory is used again after the last reference to it is dropped.
    pub(super) fn hand_out(&mut self, memory: ReadMemory) -> Chunk {
        if memory.bytes.len() == PIECE_BYTES && self.0.len() < PIECES_MAX {
            self.0.push_back(Arc::clone(&memory.bytes));
        }
        memory.into_chunk()
    }

    /// Frees all pieces that are not in use.
    pub(super) fn trim(&mut self) {
        self.0.clear();
    }

    fn take_free(&mut self) -> Option<Arc<[u8]>> {
        for _ in 0..self.0.len().min(LOOKS_MAX) {
            let mut piece = self.0.pop_front()?;
            if Arc::get_mut(&mut piece).is_some() {
                return Some(piece);
            }
            self.0.push_back(piece);
        }
        None
    }
}

fn zeroed(length: usize) -> Arc<[u8]> {
    // SAFETY: zero is a valid byte.
    unsafe { Arc::<[u8]>::new_zeroed_slice(length).assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &mut ReadPieces, length: usize) -> Chunk {
        let mut memory = pieces.memory(length);
        assert_eq!(memory.rest().len(), length);
        memory.add(length);
        assert!(memory.is_full());
        pieces.hand_out(memory)
    }

    #[test]
    fn a_piece_is_used_again_after_its_last_reference_is_gone() {
        let mut pieces = ReadPieces::default();
        let first = read(&mut pieces, PIECE_BYTES);
        let held = first.clone();
        let address = first.as_ptr();
        drop(first);
        let second = read(&mut pieces, PIECE_BYTES);
        assert_ne!(second.as_ptr(), address, "it is held");
        drop(held);
        assert_eq!(read(&mut pieces, PIECE_BYTES - 1).as_ptr(), address);
    }

    #[test]
    fn short_and_long_reads_have_memory_of_their_own() {
        let mut pieces = ReadPieces::default();
        for length in [1, SHORT_BYTES, PIECE_BYTES + 1] {
            let chunk = read(&mut pieces, length);
            assert_eq!((chunk.len(), pieces.0.len()), (length, 0));
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_freed_when_idle() {
        let mut pieces = ReadPieces::default();
        let held: Vec<Chunk> = (0..PIECES_MAX + 1).map(|_| read(&mut pieces, PIECE_BYTES)).collect();
        assert_eq!(pieces.0.len(), PIECES_MAX);
        pieces.trim();
        assert!(pieces.0.is_empty());
        assert!(held.iter().all(|chunk| chunk.len() == PIECE_BYTES));
    }

    #[test]
    fn a_read_may_end_early() {
        let mut pieces = ReadPieces::default();
        let mut memory = pieces.memory(PIECE_BYTES);
        memory.rest()[..3].copy_from_slice(b"end");
        memory.add(3);
        assert!(!memory.is_full());
        assert_eq!(&pieces.hand_out(memory)[..], b"end");
    }
}
