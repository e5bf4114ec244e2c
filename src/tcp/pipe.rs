//! A bounded queue of bytes between a source and a sink.
//!
//! The limit is on *memory*, not on bytes: a one-byte message in a 16 KiB buffer holds 16 KiB. So a
//! peer that sends single bytes to a sink that reads nothing cannot pin more than its share. When
//! the pipe is full, its source is paused, and TCP's window pushes back on the sender. When it has
//! drained to half, the source is resumed.
//!
//! The limit is passed with each call, because it depends on the pool: when many connections hold
//! much memory, each may hold less.
//!
//! A pipe submits no operations. [`crate::transport::relay`] does.

use crate::buffer::{Chain, Chunk};

/// A queue of bytes between two connections, or from one back to itself.
#[derive(Debug, Default)]
pub struct Pipe {
    queued: Chain,
    queued_memory: usize,
    sending_memory: usize,
}

impl Pipe {
    /// An empty pipe; allocates nothing.
    pub const fn new() -> Self {
        Self { queued: Chain::new(), queued_memory: 0, sending_memory: 0 }
    }

    /// Adds bytes, even if the pipe is full: they have arrived already.
    pub fn push(&mut self, chunk: impl Into<Chunk>) {
        // An empty chunk is dropped at once and holds no memory, however large its buffer is. A
        // small one may be copied together with others.
        self.queued_memory += self.queued.push_counted(chunk);
    }

    /// Moves what is queued out of receive buffers, into memory of its own.
    pub fn settle(&mut self) {
        if self.queued.chunks().iter().any(|chunk| matches!(chunk, Chunk::Pool(_))) {
            let bytes = self.queued.take().to_vec();
            self.queued_memory = 0;
            self.push(Chunk::owned(bytes));
        }
    }

    /// Moves everything queued out, to be sent. It counts as held memory until [`Pipe::on_sent`].
    #[must_use]
    pub fn take(&mut self) -> Chain {
        self.sending_memory += std::mem::take(&mut self.queued_memory);
        self.queued.take()
    }

    /// Records that what [`Pipe::take`] moved out has been sent.
    pub const fn on_sent(&mut self) {
        self.sending_memory = 0;
    }

    /// Drops everything queued, because the sink takes nothing more.
    pub fn clear(&mut self) {
        self.queued = Chain::new();
        self.queued_memory = 0;
        self.sending_memory = 0;
    }

    /// Whether nothing waits to be sent.
    pub const fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Bytes of memory held, both queued and being sent.
    pub const fn memory(&self) -> usize {
        self.queued_memory + self.sending_memory
    }

    /// Whether the source should receive, if the pipe may hold `memory_max` bytes. A receiving
    /// source continues until the pipe is full. A paused one resumes at half of the limit, which
    /// avoids rapid switching.
    pub const fn wants_bytes(&self, is_receiving: bool, memory_max: usize) -> bool {
        if is_receiving { self.memory() < memory_max } else { self.memory() <= memory_max / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, PoolConfig, SizeClass};

    #[test]
    fn it_is_full_at_its_bound_and_resumes_at_half() {
        let mut pipe = Pipe::new();
        pipe.push(Chunk::shared(*b"123456"));
        assert!(pipe.wants_bytes(true, 8) && !pipe.wants_bytes(false, 8));
        pipe.push(Chunk::shared(*b"78"));
        assert!(!pipe.wants_bytes(true, 8));
        assert_eq!(pipe.take().to_vec(), b"12345678");
        assert_eq!(pipe.memory(), 8, "what is being sent is still held");
        pipe.on_sent();
        assert!(pipe.wants_bytes(false, 8));
    }

    #[test]
    fn an_empty_piece_of_a_large_buffer_holds_nothing() {
        let pool = Pool::new(PoolConfig::default());
        let empty = pool.filled(SizeClass::Small, |_| Ok::<_, ()>(0)).unwrap().unwrap();
        let mut pipe = Pipe::new();
        pipe.push(empty);
        assert_eq!(pipe.memory(), 0);
    }
}
