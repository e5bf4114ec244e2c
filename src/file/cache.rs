//! A bounded LRU cache with a validity time: each worker keeps its file results in one.
//!
//! The cache owns its values and knows only how many bytes each holds. An open file is closed by a
//! driver operation, so the cache never drops a value: each removed value is returned to the
//! caller.
//!
//! ```text
//!             insert             valid_for has passed            idle_for without use
//!   (absent) ────────► Fresh ───────────────────────────► Stale ──────────────────────► returned by `sweep`
//!                        ▲                                  │
//!                        └──────────────────────────────────┘ renew: checked again, unchanged
//!                         either: evicted at a limit, or removed ─────────────────────► returned
//! ```
//!
//! Entries are in a slab, linked from the most to the least recently used. The table holds only
//! slab indices, so each key is stored once and a look-up with a borrowed key does not allocate.
//! The hash is the standard library's SipHash-1-3 with a random key: clients choose the paths, and
//! must not be able to choose collisions. On a path of 40 bytes it costs about as much as one CPU
//! cache miss. Faster hashers protect less well against an attacker that measures timing.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::driver::Time;

/// Limits of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of entries.
    pub entries_max: u32,
    /// Maximum total of the entries' bytes. An entry larger than this is not kept.
    pub bytes_max: usize,
    /// How long an entry is fresh after it is inserted or renewed.
    pub valid_for: Duration,
    /// How long an entry is kept after its last use.
    pub idle_for: Duration,
}

/// A least-recently-used map, bounded in entries and in bytes.
#[derive(Debug)]
pub struct Cache<K, V, S = RandomState> {
    limits: Limits,
    hasher: S,
    table: HashTable<u32>,
    nodes: Slab<Node<K, V>>,
    /// The most recently used entry. `oldest` is the least recently used one; both are `None` when
    /// the cache is empty.
    newest: Option<u32>,
    oldest: Option<u32>,
    bytes: usize,
}

#[derive(Debug)]
struct Node<K, V> {
    key: K,
    value: V,
    bytes: usize,
    valid_until: Time,
    used: Time,
    newer: Option<u32>,
    older: Option<u32>,
}

/// The result of a look-up.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, V> {
    /// The value is valid.
    Fresh(&'a mut V),
    /// The validity time has passed. The caller looks the file up again, then replaces or renews
    /// the value.
    Stale(&'a mut V),
    /// The key is not in the cache.
    Absent,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// An empty cache. It does not allocate until the first insertion.
    pub fn new(limits: Limits) -> Self {
        Self::with_hasher(limits, RandomState::new())
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Cache<K, V, S> {
    /// An empty cache with this hasher.
    pub const fn with_hasher(limits: Limits, hasher: S) -> Self {
        Self { limits, hasher, table: HashTable::new(), nodes: Slab::new(), newest: None, oldest: None, bytes: 0 }
    }

    /// Looks a key up. An entry that is found counts as used now.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: Time) -> Lookup<'_, V>
    where
        K: Borrow<Q>,
    {
        let Some(index) = self.find(key) else { return Lookup::Absent };
        self.touch(index);
        let node = &mut self.nodes[index as usize];
        node.used = now;
        if now < node.valid_until { Lookup::Fresh(&mut node.value) } else { Lookup::Stale(&mut node.value) }
    }

    /// Inserts a value that holds `bytes` bytes, its key included, and replaces the key's old
    /// value.
    ///
    /// Appends to `evicted` the value that it replaces, then the least recently used values above
    /// the limits. A value that is itself larger than the limit is appended and not kept.
    pub fn insert(&mut self, key: K, value: V, bytes: usize, now: Time, evicted: &mut Vec<V>) {
        evicted.extend(self.remove(&key));
        if bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            evicted.push(value);
            return;
        }
        while self.nodes.len() >= self.limits.entries_max as usize || self.bytes + bytes > self.limits.bytes_max {
            let Some(oldest) = self.oldest else { break };
            evicted.push(self.take(oldest).value);
        }
        self.add(Node {
            key,
            value,
            bytes,
            valid_until: now + self.limits.valid_for,
            used: now,
            newer: None,
            older: None,
        });
        self.check();
    }

    /// Changes the limits. Values above the new limits are appended to `evicted`, the least
    /// recently used first.
    pub fn set_limits(&mut self, limits: Limits, evicted: &mut Vec<V>) {
        self.limits = limits;
        while self.nodes.len() > limits.entries_max as usize || self.bytes > limits.bytes_max {
            let Some(oldest) = self.oldest else { break };
            evicted.push(self.take(oldest).value);
        }
        self.check();
    }

    /// Makes an entry fresh again after the caller has found it unchanged. Does nothing if it is
    /// absent.
    pub fn renew<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: Time)
    where
        K: Borrow<Q>,
    {
        if let Some(index) = self.find(key) {
            self.nodes[index as usize].valid_until = now + self.limits.valid_for;
        }
    }

    /// Removes a key and returns its value.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key)?;
        let node = self.take(index);
        self.check();
        Some(node.value)
    }

    /// Removes values not used for [`Limits::idle_for`], at most `most` of them.
    ///
    /// The caller runs this periodically, so that files without requests do not stay open.
    pub fn sweep(&mut self, now: Time, most: usize, evicted: &mut Vec<V>) {
        for _ in 0..most {
            let Some(oldest) = self.oldest else { break };
            if now.since(self.nodes[oldest as usize].used) < self.limits.idle_for {
                break;
            }
            evicted.push(self.take(oldest).value);
        }
        self.check();
    }

    /// Removes every value whose key satisfies `is_gone`. Visits all entries.
    pub fn remove_if(&mut self, is_gone: impl Fn(&K) -> bool, removed: &mut Vec<V>) {
        let gone: Vec<u32> =
            self.nodes.iter().filter(|(_, node)| is_gone(&node.key)).map(|(index, _)| index as u32).collect();
        removed.extend(gone.into_iter().map(|index| self.take(index).value));
        self.check();
    }

    /// When [`Cache::sweep`] may next remove an entry; `None` if the cache is empty.
    pub fn next_sweep(&self) -> Option<Time> {
        self.oldest.map(|oldest| self.nodes[oldest as usize].used + self.limits.idle_for)
    }

    /// Removes the least recently used value, to free its descriptor or its memory.
    pub fn evict_one(&mut self) -> Option<V> {
        let oldest = self.oldest?;
        Some(self.take(oldest).value)
    }

    /// Removes all values, in no particular order.
    pub fn clear(&mut self, evicted: &mut Vec<V>) {
        self.table.clear();
        (self.newest, self.oldest, self.bytes) = (None, None, 0);
        evicted.extend(self.nodes.drain().map(|node| node.value));
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the cache has no entry.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Total of the entries' bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        if self.table.is_empty() {
            // The hash is most of a look-up's cost, and the cache of faults is usually empty.
            return None;
        }
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |index| self.nodes[*index as usize].key.borrow() == key).copied()
    }

    /// Adds a node as the newest. Its key must not be in the table yet.
    fn add(&mut self, node: Node<K, V>) {
        let hash = self.hasher.hash_one(&node.key);
        self.bytes += node.bytes;
        // `entries_max` bounds the slab.
        let index = self.nodes.insert(node) as u32;
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.table.insert_unique(hash, index, |index| hasher.hash_one(&nodes[*index as usize].key));
        self.link(index);
    }

    /// Removes a node from the slab, the table and the list.
    fn take(&mut self, index: u32) -> Node<K, V> {
        self.unlink(index);
        let node = self.nodes.remove(index as usize);
        self.bytes -= node.bytes;
        let hash = self.hasher.hash_one(&node.key);
        match self.table.find_entry(hash, |other| *other == index) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => debug_assert!(false, "the node is not in the table"),
        }
        node
    }

    fn touch(&mut self, index: u32) {
        if self.newest != Some(index) {
            self.unlink(index);
            self.link(index);
        }
    }

    fn link(&mut self, index: u32) {
        let older = self.newest.replace(index);
        let node = &mut self.nodes[index as usize];
        (node.newer, node.older) = (None, older);
        match older {
            Some(older) => self.nodes[older as usize].newer = Some(index),
            None => self.oldest = Some(index),
        }
    }

    fn unlink(&mut self, index: u32) {
        let (newer, older) = (self.nodes[index as usize].newer, self.nodes[index as usize].older);
        match newer {
            Some(newer) => self.nodes[newer as usize].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.nodes[older as usize].newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Checks the invariants that are cheap to check; the tests also walk the list.
    fn check(&self) {
        debug_assert_eq!(self.table.len(), self.nodes.len());
        debug_assert!(self.nodes.len() <= self.limits.entries_max as usize && self.bytes <= self.limits.bytes_max);
        debug_assert_eq!(self.newest.is_none(), self.nodes.is_empty());
        debug_assert_eq!(self.oldest.is_none(), self.nodes.is_empty());
    }
}

#[cfg(test)]
mod tests;
