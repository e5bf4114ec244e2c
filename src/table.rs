//! A slab whose keys carry a generation, so that a stale key is detected instead of naming another
//! entry.
//!
//! Operations in flight, sockets, files, listeners and sessions live in a [`Table`] and are named
//! by a [`Key`]. Indices are reused at once, which keeps tables dense and cache-friendly. A
//! generation is reused only after 2³² insertions.
//!
//! A key has the type of its table, so that it cannot be used with another one. [`RawKey`] is the
//! same without the type, for where keys of several tables stand in one place: a token, or the
//! memory of the kernel.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

use slab::Slab;

/// Identifies one entry of some [`Table`] by its index and its generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawKey {
    index: u32,
    // `NonZeroU32`: an `Option` of a key is as large as a key.
    generation: NonZeroU32,
}

impl RawKey {
    /// The key with these parts, as returned by [`RawKey::index`] and [`RawKey::generation`].
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

    /// The same key for a table of `M`. Only for who knows which table it came from.
    pub const fn typed<M>(self) -> Key<M> {
        Key { raw: self, table: PhantomData }
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Identifies one entry of a [`Table`] whose keys are marked `M`.
pub struct Key<M> {
    raw: RawKey,
    table: PhantomData<fn() -> M>,
}

impl<M> Key<M> {
    /// The key without its type.
    pub const fn raw(self) -> RawKey {
        self.raw
    }

    /// The position in the table; dense, reused after removal.
    pub const fn index(self) -> u32 {
        self.raw.index()
    }

    /// Distinguishes the successive owners of one index.
    pub const fn generation(self) -> u32 {
        self.raw.generation()
    }
}

// By hand, since `derive` would require the same of `M`.

impl<M> Clone for Key<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Key<M> {}

impl<M> PartialEq for Key<M> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl<M> Eq for Key<M> {}

impl<M> Hash for Key<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<M> PartialOrd for Key<M> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<M> Ord for Key<M> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.raw.cmp(&other.raw)
    }
}

impl<M> fmt::Debug for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.raw, f)
    }
}

impl<M> fmt::Display for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.raw, f)
    }
}

/// A dense table of `T` with generation-checked keys.
///
/// `M` marks its keys. It is the type of the entries, or another one where keys are known to parts
/// of the program that do not know the entries.
#[derive(Debug)]
pub struct Table<T, M = T> {
    entries: Slab<(NonZeroU32, T)>,
    next_generation: NonZeroU32,
    keys: PhantomData<fn() -> M>,
}

impl<T, M> Default for Table<T, M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, M> Table<T, M> {
    /// An empty table; allocates nothing until the first insertion.
    pub const fn new() -> Self {
        Self { entries: Slab::new(), next_generation: NonZeroU32::MIN, keys: PhantomData }
    }

    /// Adds an entry and returns its key.
    ///
    /// # Panics
    /// Beyond 2³² − 1 simultaneous entries, which no limit of xps allows.
    pub fn insert(&mut self, value: T) -> Key<M> {
        self.insert_with(|_| value)
    }

    /// Adds the entry that `build` makes from its key.
    ///
    /// # Panics
    /// Beyond 2³² − 1 simultaneous entries, which no limit of xps allows.
    #[expect(clippy::expect_used, reason = "an index that is cut off would lead to another entry")]
    pub fn insert_with(&mut self, build: impl FnOnce(Key<M>) -> T) -> Key<M> {
        let vacant = self.entries.vacant_entry();
        let index = u32::try_from(vacant.key()).expect("a table is bounded far below 2^32 entries");
        let generation = self.next_generation;
        self.next_generation = generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        let key = RawKey { index, generation }.typed();
        vacant.insert((generation, build(key)));
        key
    }

    /// The entry, or `None` if the key is stale.
    pub fn get(&self, key: Key<M>) -> Option<&T> {
        match self.entries.get(key.index() as usize) {
            Some((generation, value)) if *generation == key.raw.generation => Some(value),
            _ => None,
        }
    }

    /// The entry, mutable, or `None` if the key is stale.
    pub fn get_mut(&mut self, key: Key<M>) -> Option<&mut T> {
        match self.entries.get_mut(key.index() as usize) {
            Some((generation, value)) if *generation == key.raw.generation => Some(value),
            _ => None,
        }
    }

    /// Removes and returns the entry, or `None` if the key is stale.
    pub fn remove(&mut self, key: Key<M>) -> Option<T> {
        self.get(key)?;
        self.entries.try_remove(key.index() as usize).map(|(_, value)| value)
    }

    /// Whether the key is not stale.
    pub fn contains(&self, key: Key<M>) -> bool {
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
    pub fn iter(&self) -> impl Iterator<Item = (Key<M>, &T)> {
        self.entries.iter().map(|(index, (generation, value))| {
            (RawKey { index: index as u32, generation: *generation }.typed(), value)
        })
    }

    /// Removes the entries for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(Key<M>, &mut T) -> bool) {
        self.entries.retain(|index, (generation, value)| {
            keep(RawKey { index: index as u32, generation: *generation }.typed(), value)
        });
    }

    /// The key of every entry, in order of index.
    pub fn keys(&self) -> impl Iterator<Item = Key<M>> + '_ {
        self.iter().map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing_though_its_index_is_taken_again() {
        let mut table = Table::<&str>::new();
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
        let mut table = Table::<_, &str>::new();
        let key = table.insert_with(|key| key);
        assert_eq!(table.get(key), Some(&key));
    }
}
