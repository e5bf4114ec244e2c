//! What a peer has sent and nobody has read yet.
//!
//! A head that came in one piece is read where it was received. Only what came in several is gathered
//! in memory of its own, so that a peer who sends a byte a minute holds those bytes, not a buffer for each.

use std::collections::VecDeque;

use super::{Buffer, Chunk};

/// Received bytes in the order in which they came. While there are none, it holds no memory.
#[derive(Debug, Default)]
pub struct Inbox {
    /// These come first; never empty.
    gathered: Option<Box<Gathered>>,
    /// Most of what comes is looked at before more comes.
    front: Option<Buffer>,
    /// What came after `front`; there only when that is. Boxed: every idle connection has an inbox, and seldom anything here.
    behind: Option<Box<Behind>>,
}

/// Buffers that wait behind the first.
#[derive(Debug, Default)]
struct Behind {
    buffers: VecDeque<Buffer>,
    /// Bytes of memory that they hold. Kept, since it is asked for much more often than it changes.
    memory: usize,
}

/// Bytes that have left their buffers to wait for more.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// So many of them are done with; not all.
    read: usize,
    /// So many unread ones were looked at, and were not enough.
    looked_at: usize,
    /// Nothing that has come since would change that.
    is_partial: bool,
}

/// Below this size, what is gathered is looked at whenever anything is added: what cannot become a head is refused at its
/// first bytes.
const LOOK_ALWAYS_BYTES: usize = 1024;

impl Gathered {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) {
        // What is done with is removed when it is at least half: then no more is moved than was read.
        if self.read > 0 && self.read * 2 >= self.bytes.len() {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn consume(&mut self, count: usize) {
        self.read += count;
        self.looked_at = 0;
        self.is_partial = false;
    }

    /// Notes that what is unread was not enough.
    fn note_partial(&mut self) {
        self.looked_at = self.unread().len();
        self.is_partial = true;
    }

    /// Whether looking at all of it again is worth the work, after bytes were added at `added_at` of the unread ones.
    ///
    /// Otherwise a peer that sends a head byte by byte would have all of it looked at for each byte.
    fn is_worth_a_look(&self, added_at: usize) -> bool {
        let unread = self.unread();
        unread.len() < LOOK_ALWAYS_BYTES
            || unread.len() >= self.looked_at + self.looked_at / 4
            || may_end_head(unread, added_at)
    }
}

/// Whether an empty line ends at or behind `from`: a line feed right after another, a carriage return between them or not.
fn may_end_head(bytes: &[u8], from: usize) -> bool {
    let ends_line = |end: usize| bytes.get(..end).is_some_and(|line| line.ends_with(b"\n") || line.ends_with(b"\n\r"));
    let mut line_feeds = bytes.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    line_feeds.any(|(at, _)| ends_line(at))
}

impl Inbox {
    /// Takes bytes in.
    #[inline]
    pub fn push(&mut self, buffer: Buffer) {
        if self.front.is_none() {
            self.front = Some(buffer);
        } else {
            let behind = self.behind.get_or_insert_default();
            behind.memory += buffer.capacity();
            behind.buffers.push_back(buffer);
        }
    }

    /// The first bytes that lie together; empty only if there are none at all.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.gathered {
            Some(gathered) => gathered.unread(),
            None => self.front.as_deref().unwrap_or_default(),
        }
    }

    /// Whether [`Inbox::bytes`] may be a whole head: not if they were not the last time, and what has been added since makes
    /// no difference.
    #[inline]
    pub fn may_hold_head(&mut self) -> bool {
        match &self.gathered {
            Some(gathered) if gathered.is_partial => self.gather(),
            Some(_) | None => true,
        }
    }

    /// Drops the first `count` bytes of [`Inbox::bytes`].
    #[inline]
    pub fn consume(&mut self, count: usize) {
        if let Some(gathered) = &mut self.gathered {
            gathered.consume(count);
            if gathered.unread().is_empty() {
                self.gathered = None;
            }
        } else if let Some(front) = &mut self.front {
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
        match &mut self.front {
            Some(front) if count < front.len() => Chunk::Pool(front.split_to(count)),
            Some(_) | None => self.pop_front().map_or(Chunk::Static(&[]), Chunk::Pool),
        }
    }

    /// Moves the first buffer out; only where nothing is gathered.
    pub fn pop(&mut self) -> Option<Buffer> {
        debug_assert!(self.gathered.is_none(), "bytes are gathered before the first buffer");
        self.pop_front()
    }

    #[inline]
    fn pop_front(&mut self) -> Option<Buffer> {
        let first = self.front.take()?;
        if let Some(behind) = &mut self.behind {
            self.front = behind.buffers.pop_front();
            behind.memory -= self.front.as_ref().map_or(0, Buffer::capacity);
            if behind.buffers.is_empty() {
                self.behind = None;
            }
        }
        Some(first)
    }

    /// Lays the next buffers' bytes beside the first ones, which are not enough. `false`: there is nothing more that could
    /// make a difference.
    ///
    /// Then what is there has left its buffers, to wait for the rest.
    pub fn gather(&mut self) -> bool {
        if self.gathered.is_none() {
            let Some(first) = self.pop_front() else { return false };
            self.gathered = Some(Box::new(Gathered { bytes: first.to_vec(), ..Gathered::default() }));
        }
        if let Some(gathered) = &mut self.gathered
            && !gathered.is_partial
        {
            gathered.note_partial();
        }
        while let Some(next) = self.pop_front() {
            let Some(gathered) = &mut self.gathered else { return false };
            let added_at = gathered.unread().len();
            gathered.append(&next);
            if gathered.is_worth_a_look(added_at) {
                gathered.is_partial = false;
                return true;
            }
        }
        false
    }

    /// Moves everything out of the buffers it was received in, so that they can be received into: for what has to wait
    /// until something else was received.
    pub fn settle(&mut self) {
        while let Some(buffer) = self.pop_front() {
            let gathered = self.gathered.get_or_insert_default();
            gathered.is_partial = false;
            gathered.append(&buffer);
        }
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there is nothing to be read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.gathered.is_none() && self.front.as_ref().is_none_or(|buffer| buffer.len() == 0)
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let entries = self.behind.as_ref().map_or(0, |behind| behind.buffers.capacity() * size_of::<Buffer>());
        self.gathered.as_ref().map_or(0, |gathered| gathered.bytes.capacity()) + self.waiting_memory() + entries
    }

    /// The most memory that `unread_max` bytes take once they are gathered, where more are added only until it is seen that
    /// there are too many: as many are done with, in a vector that grows by doubling.
    pub const fn gathered_memory_max(unread_max: usize) -> usize {
        4 * (unread_max + unread_max / 4)
    }

    /// Bytes of memory that nobody has looked at yet. What is gathered does not count: it waits for more to come,
    /// so it must never be the reason to receive nothing, and a head's limit bounds it.
    #[inline]
    pub fn waiting_memory(&self) -> usize {
        self.front.as_ref().map_or(0, Buffer::capacity) + self.behind.as_ref().map_or(0, |behind| behind.memory)
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

    /// The work for a head that comes byte by byte grows with its length, not with its square.
    #[test]
    fn a_head_that_drips_is_looked_at_as_a_whole_only_a_few_times() {
        const LENGTH: usize = if cfg!(miri) { 2 << 10 } else { 32 << 10 };
        let pool = Pool::new(PoolConfig::default());
        let mut inbox = Inbox::default();
        let (mut looks, mut looked_at_bytes) = (0, 0);
        let head = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'x'; LENGTH][..], b"\r\n\r\n"].concat();
        let mut is_whole = false;
        for &byte in &head {
            let fill = |memory: &mut [u8]| {
                memory[0] = byte;
                Ok::<_, Infallible>(1)
            };
            inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
            let mut is_news = inbox.may_hold_head();
            while is_news {
                looks += 1;
                looked_at_bytes += inbox.bytes().len();
                is_whole = inbox.bytes().ends_with(b"\r\n\r\n");
                is_news = !is_whole && inbox.gather();
            }
        }
        assert!(is_whole && inbox.bytes() == head, "the end of the head is looked at");
        let below = LOOK_ALWAYS_BYTES * LOOK_ALWAYS_BYTES / 2;
        assert!(looks < 2 * LOOK_ALWAYS_BYTES, "{looks} looks");
        assert!(looked_at_bytes < 2 * below + 8 * LENGTH, "{looked_at_bytes} bytes looked at");
    }

    #[test]
    fn an_empty_line_is_found_however_it_ends_and_is_cut() {
        for (bytes, from, expected) in [
            (&b"a\r\n\r\n"[..], 4, true),
            (b"a\r\n\r\n", 3, true),
            (b"a\n\n", 2, true),
            (b"a\r\n\n", 3, true),
            (b"a\n\r\n", 3, true),
            (b"a\r\nb\r\n", 1, false),
            (b"a\r\n\r\nx", 5, false),
            (b"\n", 0, false),
        ] {
            assert_eq!(may_end_head(bytes, from), expected, "{} {from}", bytes.escape_ascii());
        }
    }

    /// Requests that wait behind one that is forwarded, while others come byte by byte.
    #[test]
    fn what_has_settled_is_moved_no_more_often_than_it_is_read() {
        let mut inbox = inbox(&[&"x".repeat(10_000)]);
        inbox.settle();
        let pool = Pool::new(PoolConfig::default());
        for _ in 0..5_000 {
            inbox.consume(1);
            let fill = |memory: &mut [u8]| {
                memory[0] = b'x';
                Ok::<_, Infallible>(1)
            };
            inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
            let start = inbox.gathered.as_ref().map_or(0, |gathered| gathered.read);
            inbox.settle();
            let is_moved = start > 0 && inbox.gathered.as_ref().is_some_and(|gathered| gathered.read == 0);
            assert!(!is_moved, "moved after {start} bytes were read");
        }
        assert_eq!(inbox.bytes().len(), 10_000);
    }

    #[test]
    fn buffers_behind_the_first_come_in_their_order_and_are_counted() {
        let pieces: Vec<String> = (0..100).map(|number| format!("{number},")).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let mut inbox = inbox(&pieces);
        assert_eq!(inbox.waiting_memory(), 100 * (16 << 10));
        assert!(inbox.memory() >= inbox.waiting_memory() + 99 * size_of::<Buffer>());
        let mut read = String::new();
        while let Some(buffer) = inbox.pop() {
            read.push_str(std::str::from_utf8(&buffer).unwrap());
        }
        assert_eq!(read, pieces.concat());
        assert_eq!((inbox.waiting_memory(), inbox.memory(), inbox.is_empty()), (0, 0, true));
    }
}
