//! Bytes that were received and not read yet.
//!
//! A request head that arrives in one piece is parsed in its receive buffer. Only a head that
//! arrives in several pieces is copied to memory of its own. A peer that sends one byte a minute
//! then holds those bytes, not a buffer for each.

use std::collections::VecDeque;

use super::{Buffer, Chunk, SMALL_PIECE_BYTES};

/// Received bytes in order of arrival. Holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Precedes `front`; never empty.
    gathered: Option<Box<Gathered>>,
    /// The first buffer. Usually it is read before more arrives.
    front: Option<Buffer>,
    /// Buffers after `front`; present only if `front` is. Boxed, because every idle connection has
    /// an inbox and it is seldom used.
    behind: Option<Box<Behind>>,
}

/// The buffers after the first.
#[derive(Debug, Default)]
struct Behind {
    buffers: VecDeque<Buffer>,
    /// Bytes of memory that they hold. Cached, since it is read more often than it changes.
    memory: usize,
}

/// Bytes copied out of their buffers to wait for more.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Number of bytes consumed; always less than all.
    read: usize,
    /// Number of unread bytes that were parsed last and did not suffice.
    looked_at: usize,
    /// Nothing has arrived since that would change the result.
    is_partial: bool,
}

/// Below this size, gathered bytes are parsed again whenever something is added, so that what
/// cannot become a head is rejected at its first bytes.
const LOOK_ALWAYS_BYTES: usize = 1024;

impl Gathered {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) {
        // Consumed bytes are removed when they are at least half. So no more bytes are moved than
        // were read.
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

    /// Records that the unread bytes did not suffice.
    fn note_partial(&mut self) {
        self.looked_at = self.unread().len();
        self.is_partial = true;
    }

    /// Whether to parse all unread bytes again, after bytes were added at offset `added_at` of
    /// them.
    ///
    /// Without this check, a peer that sends a head byte by byte would have all of it parsed for
    /// each byte.
    fn is_worth_a_look(&self, added_at: usize) -> bool {
        let unread = self.unread();
        unread.len() < LOOK_ALWAYS_BYTES
            || unread.len() >= self.looked_at + self.looked_at / 4
            || may_end_head(unread, added_at)
    }
}

/// Whether an empty line ends at or after `from`: a line feed after another, with or without a
/// carriage return between them.
fn may_end_head(bytes: &[u8], from: usize) -> bool {
    let ends_line = |end: usize| bytes.get(..end).is_some_and(|line| line.ends_with(b"\n") || line.ends_with(b"\n\r"));
    let mut line_feeds = bytes.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    line_feeds.any(|(at, _)| ends_line(at))
}

impl Inbox {
    /// Appends a received buffer.
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

    /// The first contiguous bytes. Empty only if there are no bytes at all.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.gathered {
            Some(gathered) => gathered.unread(),
            None => self.front.as_deref().unwrap_or_default(),
        }
    }

    /// Whether [`Inbox::bytes`] may contain a whole head. False if the bytes did not suffice last
    /// time and nothing has arrived that would change that.
    #[inline]
    pub fn may_hold_head(&mut self) -> bool {
        match &self.gathered {
            Some(gathered) if gathered.is_partial => self.gather(),
            Some(_) | None => true,
        }
    }

    /// Removes the first `count` bytes of [`Inbox::bytes`].
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

    /// Removes and returns the first `count` bytes of [`Inbox::bytes`]. Bytes in a receive buffer
    /// are not copied.
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

    /// Removes and returns the first buffer. Call it only if nothing is gathered.
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

    /// Appends the next buffers' bytes to the first ones, which did not suffice. Returns whether
    /// parsing again may give another result.
    ///
    /// If not, all bytes have been copied out of their buffers and wait for more.
    pub fn gather(&mut self) -> bool {
        if !self.has_gathered() {
            return false;
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

    /// Copies the first buffer, unless something is gathered already. Returns whether there is anything.
    fn has_gathered(&mut self) -> bool {
        if self.gathered.is_none() {
            let Some(first) = self.pop_front() else { return false };
            self.gathered = Some(Box::new(Gathered { bytes: first.to_vec(), ..Gathered::default() }));
        }
        true
    }

    /// Makes the first `count` bytes contiguous, so that [`Inbox::bytes`] has at least as many. Copies
    /// no others. Returns whether there are enough.
    pub fn join(&mut self, count: usize) -> bool {
        while self.bytes().len() < count {
            if !self.has_gathered() {
                return false;
            }
            let missing = count.saturating_sub(self.bytes().len());
            let next = match &mut self.front {
                Some(front) if missing < front.len() => Some(front.split_to(missing)),
                Some(_) | None => self.pop_front(),
            };
            let (Some(next), Some(gathered)) = (next, &mut self.gathered) else { return false };
            gathered.append(&next);
        }
        true
    }

    /// Moves the first `count` bytes of [`Inbox::bytes`] to the end of another inbox. A small piece is
    /// copied, so that it does not hold a receive buffer.
    pub fn move_to(&mut self, other: &mut Self, count: usize) {
        let count = count.min(self.bytes().len());
        if count == 0 {
            return;
        }
        if count >= SMALL_PIECE_BYTES
            && let Chunk::Pool(buffer) = self.take(count)
        {
            other.push(buffer);
            return;
        }
        other.settle();
        other.gathered.get_or_insert_default().append(&self.bytes()[..count]);
        self.consume(count);
    }

    /// Copies everything out of the receive buffers, so that these can be reused. For bytes that
    /// must wait until something else has been received.
    pub fn settle(&mut self) {
        while let Some(buffer) = self.pop_front() {
            let gathered = self.gathered.get_or_insert_default();
            gathered.is_partial = false;
            gathered.append(&buffer);
        }
    }

    /// Removes all bytes.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether there are no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.gathered.is_none() && self.front.as_ref().is_none_or(|buffer| buffer.len() == 0)
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        let gathered = self.gathered.as_ref().map_or(0, |gathered| gathered.unread().len());
        let behind = self.behind.iter().flat_map(|behind| behind.buffers.iter()).map(|buffer| buffer.len());
        gathered + self.front.as_ref().map_or(0, |buffer| buffer.len()) + behind.sum::<usize>()
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        let entries = self.behind.as_ref().map_or(0, |behind| behind.buffers.capacity() * size_of::<Buffer>());
        self.gathered.as_ref().map_or(0, |gathered| gathered.bytes.capacity()) + self.waiting_memory() + entries
    }

    /// Maximum memory of `unread_max` gathered bytes, in bytes, if gathering stops once more have
    /// arrived. As many again may be consumed and not removed, and the vector grows by doubling.
    pub const fn gathered_memory_max(unread_max: usize) -> usize {
        4 * (unread_max + unread_max / 4)
    }

    /// Bytes of memory in receive buffers that were not parsed yet. Gathered bytes do not count:
    /// they wait for more bytes, so they must never stop receiving. The limit of a head bounds
    /// them.
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
    fn no_more_is_joined_than_is_wanted() {
        let mut inbox = inbox(&["abc", "def", "g"]);
        assert!(inbox.join(3) && inbox.gathered.is_none(), "they are contiguous");
        assert!(inbox.join(5));
        assert_eq!(inbox.bytes(), b"abcde");
        inbox.consume(5);
        assert_eq!(inbox.bytes(), b"f", "what was not joined is in its buffer");
        assert!(!inbox.join(3), "there are two");
        assert_eq!(inbox.bytes(), b"fg");
        assert!(!Inbox::default().join(1));
    }

    #[test]
    fn bytes_move_to_another_inbox_in_their_order() {
        let large = "x".repeat(SMALL_PIECE_BYTES);
        let (mut from, mut to) = (inbox(&[&format!("a{large}b"), "cd"]), Inbox::default());
        from.move_to(&mut to, 1);
        assert_eq!(to.waiting_memory(), 0, "a small piece holds no buffer");
        from.move_to(&mut to, SMALL_PIECE_BYTES);
        assert!(to.waiting_memory() > 0, "a large one is not copied");
        from.move_to(&mut to, 1);
        from.move_to(&mut to, 9);
        assert!(from.is_empty());
        from.move_to(&mut to, 1);
        assert_eq!(to.bytes(), format!("a{large}bcd").as_bytes());
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
