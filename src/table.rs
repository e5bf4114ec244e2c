//! A slab whose keys carry a generation, so that a stale key is detected instead of naming another
//! entry.
//!
//! Operations in flight, sockets, files, listeners and sessions live in a [`Table`] and are named
//! by a [`Key`]. Indices are reused at once, which keeps tables dense and cache-friendly. A
//! generation is reused only after 2³² insertions.

use std::fmt;
use std::num::NonZeroU32;

use slab::Slab;

/// Identifies one entry of a [`Table`] by its index and its generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    // `NonZeroU32`: an `Option<Key>` is as large as a `Key`.
    generation: NonZeroU32,
}

impl Key {
    /// The key with these parts, as returned by [`Key::index`] and [`Key::generation`].
    pub const fn from_parts(index: u32, generation: u32) -> Self {
        let generation = match NonZeroU32::new(generation) {
            Some(generation) => generation,
            // Not the generation of any table's entry.
            None => NonZeroU32::MAX,
        };
        Self { index, generation }
    }

    /// The position in the table; dense, reused after removal.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Distinguishes the successive owners of one index.
    pub const fn generation(self) -> u32 {
        self.generation.get()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A dense table of `T` with generation-checked keys.
#[derive(Debug)]
pub struct Table<T> {
    entries: Slab<(NonZeroU32, T)>,
    next_generation: NonZeroU32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Table<T> {
    /// An empty table; allocates nothing until the first insertion.
    pub const fn new() -> Self {
        Self { entries: Slab::new(), next_generation: NonZeroU32::MIN }
    }

    /// Adds an entry and returns its key.
    ///
    /// # Panics
    /// Beyond 2³² − 1 simultaneous entries, which no limit of xps allows.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// Adds the entry that `build` makes from its key.
    ///
    /// # Panics
    /// Beyond 2³² − 1 simultaneous entries, which no limit of xps allows.
    #[expect(clippy::expect_used, reason = "an index that is cut off would lead to another entry")]
    pub fn insert_with(&mut self, build: impl FnOnce(Key) -> T) -> Key {
        let vacant = self.entries.vacant_entry();
        let index = u32::try_from(vacant.key()).expect("a table is bounded far below 2^32 entries");
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let key = Key { index, generation };
        vacant.insert((generation, build(key)));
        key
    }

    /// The entry, or `None` if the key is stale.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry, mutable, or `None` if the key is stale.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Removes and returns the entry, or `None` if the key is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.entries.try_remove(key.index as usize).map(|(_, value)| value)
    }

    /// Whether the key is not stale.
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every entry with its key, in order of index.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.entries
            .iter()
            .map(|(index, (generation, value))| (Key { index: index as u32, generation: *generation }, value))
    }

    /// Removes the entries for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(Key, &mut T) -> bool) {
        self.entries
            .retain(|index, (generation, value)| keep(Key { index: index as u32, generation: *generation }, value));
    }

    /// The key of every entry, in order of index.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.iter().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_though_its_index_is_taken_again() {
        let mut table = Table::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&"second"));
    }

    #[test]
    fn an_entry_can_be_built_from_its_own_key() {
        let mut table = Table::new();
        let key = table.insert_with(|key| key);
        assert_eq!(table.get(key), Some(&key));
    }
}
