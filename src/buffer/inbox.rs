//! What a peer has sent and nobody has read yet.
//!
//! A head that came in one piece is read where it was received. Only what came in several is gathered
//! in memory of its own, so that a peer who sends a byte a minute holds those bytes, not a buffer for each.

use smallvec::SmallVec;

use super::{Buffer, Chunk};

/// Received bytes in the order in which they came. While there are none, it holds no memory.
#[derive(Debug, Default)]
pub struct Inbox {
    /// These come first; never empty.
    gathered: Option<Box<Gathered>>,
    /// Most of what comes is looked at before more comes.
    buffers: SmallVec<[Buffer; 1]>,
}

/// Bytes that have left their buffers to wait for more.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// So many of them are done with; not all.
    read: usize,
}

impl Gathered {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }
}

impl Inbox {
    /// Takes bytes in.
    pub fn push(&mut self, buffer: Buffer) {
        self.buffers.push(buffer);
    }

    /// The first bytes that lie together; empty only if there are none at all.
    pub fn bytes(&self) -> &[u8] {
        match &self.gathered {
            Some(gathered) => gathered.unread(),
            None => self.buffers.first().map_or(&[], |buffer| buffer),
        }
    }

    /// Drops the first `count` bytes of [`Inbox::bytes`].
    pub fn consume(&mut self, count: usize) {
        if let Some(gathered) = &mut self.gathered {
            gathered.read += count;
            if gathered.unread().is_empty() {
                self.gathered = None;
            }
        } else if let Some(front) = self.buffers.first_mut() {
            front.advance(count.min(front.len()));
            if front.is_empty() {
                self.pop_front();
            }
        }
    }

    /// Moves the first `count` bytes of [`Inbox::bytes`] out, without copying those that still lie where they arrived.
    pub fn take(&mut self, count: usize) -> Chunk {
        if let Some(gathered) = &self.gathered {
            let bytes = gathered.unread();
            let chunk = Chunk::shared(&bytes[..count.min(bytes.len())]);
            self.consume(count);
            return chunk;
        }
        match self.buffers.first_mut() {
            Some(front) if count < front.len() => Chunk::Pool(front.split_to(count)),
            Some(_) | None => self.pop_front().map_or(Chunk::Static(&[]), Chunk::Pool),
        }
    }

    /// Moves the first buffer out; only where nothing is gathered.
    pub fn pop(&mut self) -> Option<Buffer> {
        debug_assert!(self.gathered.is_none(), "bytes are gathered before the first buffer");
        self.pop_front()
    }

    fn pop_front(&mut self) -> Option<Buffer> {
        if self.buffers.len() > 1 {
            return Some(self.buffers.remove(0));
        }
        let last = self.buffers.pop();
        if self.buffers.spilled() {
            self.buffers.shrink_to_fit();
        }
        last
    }

    /// Lays the next buffer's bytes beside the first ones, which are not enough. `false`: there are no more.
    ///
    /// Then what is there has left its buffer, to wait for the rest.
    pub fn gather(&mut self) -> bool {
        if self.gathered.is_none() {
            let Some(first) = self.pop_front() else { return false };
            self.gathered = Some(Box::new(Gathered { bytes: first.to_vec(), read: 0 }));
        }
        match (&mut self.gathered, self.buffers.first()) {
            (Some(gathered), Some(next)) => {
                gathered.append(next);
                self.pop_front();
                true
            }
            (_, _) => false,
        }
    }

    /// Moves everything out of the buffers it was received in, so that they can be received into: for what has to wait
    /// until something else was received.
    pub fn settle(&mut self) {
        if self.buffers.is_empty() {
            return;
        }
        let gathered = self.gathered.get_or_insert_default();
        for buffer in self.buffers.drain(..) {
            gathered.append(&buffer);
        }
        self.buffers.shrink_to_fit();
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is nothing to be read.
    pub fn is_empty(&self) -> bool {
        self.gathered.is_none() && self.buffers.first().is_none_or(|buffer| buffer.len() == 0)
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.gathered.as_ref().map_or(0, |gathered| gathered.bytes.capacity()) + self.waiting_memory()
    }

    /// Bytes of memory that nobody has looked at yet. What is gathered does not count: it waits for more to come,
    /// so it must never be the reason to receive nothing, and a head's limit bounds it.
    pub fn waiting_memory(&self) -> usize {
        self.buffers.iter().map(Buffer::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::buffer::{Pool, PoolConfig, SizeClass};

    fn inbox(pieces: &[&str]) -> Inbox {
        let pool = Pool::new(PoolConfig::default());
        let mut inbox = Inbox::default();
        for piece in pieces {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece.as_bytes());
                Ok::<_, Infallible>(piece.len())
            };
            inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
        }
        inbox
    }

    #[test]
    fn what_has_settled_holds_no_buffer() {
        let mut inbox = inbox(&["abc", "def"]);
        inbox.consume(1);
        inbox.settle();
        assert_eq!((inbox.bytes(), inbox.waiting_memory()), (&b"bcdef"[..], 0));
        inbox.consume(5);
        assert!(inbox.is_empty());
    }

    #[test]
    fn bytes_are_had_in_their_order_and_gathered_on_demand() {
        let mut inbox = inbox(&["abc", "def", "g"]);
        assert_eq!(inbox.bytes(), b"abc");
        inbox.consume(1);
        assert!(inbox.gather());
        assert_eq!(inbox.bytes(), b"bcdef");
        inbox.consume(3);
        assert!(inbox.gather());
        assert_eq!(inbox.bytes(), b"efg");
        assert!(!inbox.gather());
        inbox.consume(3);
        assert!(inbox.is_empty());
    }

    #[test]
    fn bytes_are_taken_out_in_their_order() {
        let mut inbox = inbox(&["abc", "def", "g"]);
        assert_eq!(&*inbox.take(2), b"ab");
        assert!(inbox.gather());
        assert_eq!(&*inbox.take(3), b"cde");
        assert_eq!(&*inbox.take(9), b"f");
        assert_eq!(&*inbox.take(1), b"g");
        assert!(inbox.is_empty() && inbox.take(1).is_empty());
    }

    #[test]
    fn what_is_gathered_does_not_stop_the_receiving() {
        let piece = "x".repeat(4000);
        let mut inbox = inbox(&[piece.as_str(); 20]);
        while inbox.gather() {}
        assert_eq!((inbox.bytes().len(), inbox.waiting_memory()), (80_000, 0));
    }

    #[test]
    fn what_waits_for_more_holds_no_buffer() {
        let mut inbox = inbox(&["GET /"]);
        assert!(!inbox.gather());
        assert_eq!(inbox.bytes(), b"GET /");
        assert!(inbox.memory() < 1024);
    }
}
