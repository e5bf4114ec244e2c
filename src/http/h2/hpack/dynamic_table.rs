//! The dynamic table of a decoder (RFC 7541, 2.3.2 and 4): the latest entries within a size.
//!
//! The bytes of all entries are in one buffer, newest last. It is at most twice as large as the
//! table may be, so that bytes seldom move, and is not allocated before the first entry.

use std::collections::VecDeque;

/// What an entry counts besides its bytes (RFC 7541, 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Largest table that may be configured: lengths are stored in 16 bits.
pub const TABLE_BYTES_CEILING: u32 = 1 << 16;

#[derive(Clone, Debug)]
pub(super) struct DynamicTable {
    bytes: Vec<u8>,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position of the name, which the value follows.
    at: u32,
    name_length: u16,
    value_length: u16,
}

impl Entry {
    fn bytes(self) -> usize {
        usize::from(self.name_length) + usize::from(self.value_length)
    }
}

impl DynamicTable {
    /// A table of at most this size, at most [`TABLE_BYTES_CEILING`].
    pub(super) fn new(size_max: u32) -> Self {
        let size_max = size_max.min(TABLE_BYTES_CEILING) as usize;
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, size_max }
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// Memory that is held.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Changes the largest size; the oldest entries go if they no longer fit.
    pub(super) fn set_size_max(&mut self, size_max: u32) {
        self.size_max = size_max.min(TABLE_BYTES_CEILING) as usize;
        self.evict(self.size_max);
    }

    /// The entry this many places after the newest.
    pub(super) fn entry(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(self.entries.len().checked_sub(age + 1)?)?;
        let bytes = self.bytes.get(entry.at as usize..)?.get(..entry.bytes())?;
        Some(bytes.split_at(usize::from(entry.name_length)))
    }

    /// Adds a field: a name and a value that follow each other. If it is larger than the table, that
    /// becomes empty (RFC 7541, 4.4).
    pub(super) fn insert(&mut self, field: &[u8], name_length: usize) {
        let size = field.len() + ENTRY_OVERHEAD;
        if size > self.size_max {
            return self.evict(0);
        }
        self.evict(self.size_max - size);
        self.make_room(field.len());
        // The table is at most 64 KiB, its buffer twice that.
        let entry = Entry {
            at: self.bytes.len() as u32,
            name_length: name_length as u16,
            value_length: (field.len() - name_length) as u16,
        };
        self.bytes.extend_from_slice(field);
        self.entries.push_back(entry);
        self.size += size;
    }

    /// Removes the oldest entries until the rest is at most this large.
    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(oldest) = self.entries.pop_front()
        {
            self.size -= oldest.bytes() + ENTRY_OVERHEAD;
        }
        if self.entries.is_empty() {
            self.bytes.clear();
        }
    }

    /// Makes room for more bytes at the end.
    fn make_room(&mut self, more: usize) {
        if self.bytes.len() + more <= self.bytes.capacity() {
            return;
        }
        let dead = self.entries.front().map_or(self.bytes.len(), |oldest| oldest.at as usize);
        self.bytes.drain(..dead);
        for entry in &mut self.entries {
            // No entry is before the oldest.
            entry.at -= dead as u32;
        }
        // Twice what lives: then each byte moves about once.
        let wanted = 2 * (self.bytes.len() + more);
        if self.bytes.capacity() < wanted {
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insert(table: &mut DynamicTable, name: &str, value: &str) {
        table.insert(format!("{name}{value}").as_bytes(), name.len());
    }

    fn all(table: &DynamicTable) -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..).map_while(|age| table.entry(age)).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let mut table = DynamicTable::new(3 * 34);
        for name in ["a", "b", "c", "d"] {
            insert(&mut table, name, "1");
        }
        let names: Vec<_> = all(&table).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"d", b"c", b"b"]);
        insert(&mut table, "e", "12");
        let names: Vec<_> = all(&table).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [b"e", b"d"]);
        table.set_size_max(68);
        assert_eq!(all(&table).len(), 1);
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = DynamicTable::new(40);
        insert(&mut table, "a", "1");
        insert(&mut table, "b", "12345678");
        assert_eq!((all(&table), table.size), (vec![], 0));
        insert(&mut table, "b", "1234567");
        assert_eq!(all(&table), [(b"b".to_vec(), b"1234567".to_vec())]);
    }

    #[test]
    fn a_table_without_size_keeps_nothing_and_no_memory() {
        let mut table = DynamicTable::new(0);
        insert(&mut table, "", "");
        assert_eq!((all(&table), table.memory()), (vec![], 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_queue_of_bounded_size_and_memory(
            size_max in 0u32..400,
            fields in prop::collection::vec((0usize..30, 0usize..90, any::<u8>()), 0..80),
            shrink_at in 0usize..80,
        ) {
            let mut table = DynamicTable::new(size_max);
            let mut size_max = size_max as usize;
            // Newest first.
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for (number, (name, value, byte)) in fields.into_iter().enumerate() {
                if number == shrink_at {
                    size_max /= 2;
                    table.set_size_max(size_max as u32);
                }
                let (name, value) = (vec![byte; name], vec![byte.wrapping_add(1); value]);
                table.insert(&[&name[..], &value].concat(), name.len());
                model.insert(0, (name, value));
                let size = |model: &[(Vec<u8>, Vec<u8>)]| model.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>();
                while size(&model) > size_max {
                    model.pop();
                }
                prop_assert_eq!(all(&table), model.clone());
                prop_assert_eq!(table.size, size(&model));
                prop_assert!(table.bytes.capacity() <= 2 * size_max.max(400));
            }
        }
    }
}
