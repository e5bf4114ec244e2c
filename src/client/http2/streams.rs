//! The streams of one connection, found by their identifiers.
//!
//! A table of a power of two entries, at most half of them in use. A stream's place is its number
//! modulo the size, or the next free one. A client numbers its streams one after the other, so most
//! are at their own place. Memory is allocated only when more streams are open than ever before.

use crate::buffer::Chunk;
use crate::http::h2::head::DeclaredLength;
use crate::http::h2::{ReceiveWindow, SendWindow, StreamId};

/// One request and its response.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// The caller's name for it.
    pub(super) tag: u32,
    pub(super) stage: Stage,
    /// The method is HEAD.
    pub(super) is_head: bool,
    /// What the server may send.
    pub(super) receive_window: ReceiveWindow,
    /// What we may send.
    pub(super) send_window: SendWindow,
    /// What is still to be sent of the body; never empty.
    pub(super) upload: Option<Chunk>,
}

/// What of the response is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Head {
        /// Bytes of the field blocks of its interim responses so far.
        interim_bytes: u64,
    },
    Body(DeclaredLength),
}

/// Open streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    entries: Vec<Option<Stream>>,
    length: usize,
}

/// Entries of the smallest table that is not empty.
const ENTRIES_MIN: usize = 8;

impl Streams {
    /// Number of streams.
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    /// Adds a stream, whose identifier no other one has.
    pub(super) fn insert(&mut self, stream: Stream) {
        if (self.length + 1) * 2 > self.entries.len() {
            self.grow();
        }
        self.place(stream);
        self.length += 1;
    }

    /// The stream with this identifier.
    #[inline]
    pub(super) fn get(&mut self, id: StreamId) -> Option<&mut Stream> {
        let position = self.position(id)?;
        self.entries[position].as_mut()
    }

    /// Takes out the stream with this identifier.
    pub(super) fn remove(&mut self, id: StreamId) -> Option<Stream> {
        let mut hole = self.position(id)?;
        let removed = self.entries[hole].take();
        self.length -= 1;
        // Those behind it that it kept from their places move up, so that none is behind a hole.
        let mut next = hole;
        loop {
            next = self.after(next);
            let Some(stream) = &self.entries[next] else { return removed };
            let wanted_distance = self.distance(self.own_place(stream.id), next);
            if wanted_distance >= self.distance(hole, next) {
                self.entries.swap(hole, next);
                hole = next;
            }
        }
    }

    /// All streams, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.entries.iter_mut().flatten()
    }

    /// All streams, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.entries.iter().flatten()
    }

    fn position(&self, id: StreamId) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut position = self.own_place(id);
        loop {
            match &self.entries[position] {
                Some(stream) if stream.id == id => return Some(position),
                Some(_) => position = self.after(position),
                None => return None,
            }
        }
    }

    fn grow(&mut self) {
        let size = (self.entries.len() * 2).max(ENTRIES_MIN);
        let before = std::mem::replace(&mut self.entries, std::iter::repeat_with(|| None).take(size).collect());
        before.into_iter().flatten().for_each(|stream| self.place(stream));
    }

    fn place(&mut self, stream: Stream) {
        let mut position = self.own_place(stream.id);
        while self.entries[position].is_some() {
            position = self.after(position);
        }
        self.entries[position] = Some(stream);
    }

    /// Where a stream is if no other one is there.
    const fn own_place(&self, id: StreamId) -> usize {
        // A client's identifiers are odd.
        (id.get() / 2) as usize & (self.entries.len() - 1)
    }

    const fn after(&self, position: usize) -> usize {
        (position + 1) & (self.entries.len() - 1)
    }

    /// Steps from one place to another.
    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn stream(id: u32, tag: u32) -> Stream {
        let (receive_window, send_window) = (ReceiveWindow::new(0), SendWindow::new(0));
        let (id, stage) = (StreamId::new(id), Stage::Head { interim_bytes: 0 });
        Stream { id, tag, stage, is_head: false, receive_window, send_window, upload: None }
    }

    #[test]
    fn a_table_of_as_many_streams_as_before_allocates_nothing() {
        let mut streams = Streams::default();
        for number in 0..100 {
            streams.insert(stream(2 * number + 1, number));
        }
        let size = streams.entries.len();
        for number in 100..10_000 {
            // The first is never removed, as one that the server does not answer.
            assert!(streams.remove(StreamId::new(2 * (number - 99) + 1)).is_some());
            streams.insert(stream(2 * number + 1, number));
        }
        assert_eq!((streams.entries.len(), size), (256, 256));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_table_is_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..40), 0..300)) {
            let (mut streams, mut map, mut next) = (Streams::default(), BTreeMap::new(), 0);
            for (inserts, number) in steps {
                if inserts {
                    // With gaps, so that places are shared.
                    next += 1 + number / 8 * 4;
                    streams.insert(stream(2 * next + 1, next));
                    map.insert(2 * next + 1, next);
                } else if let Some(&id) = map.keys().nth(number as usize) {
                    prop_assert_eq!(streams.remove(StreamId::new(id)).map(|stream| stream.tag), map.remove(&id));
                    prop_assert!(streams.remove(StreamId::new(id)).is_none());
                }
                prop_assert_eq!(streams.len(), map.len());
                for (&id, &tag) in &map {
                    prop_assert_eq!(streams.get(StreamId::new(id)).map(|stream| stream.tag), Some(tag));
                }
                prop_assert_eq!(streams.iter().count(), map.len());
            }
        }
    }
}
