//! What a worker remembers of files: a bounded map whose entries grow old.
//!
//! It owns its values and knows nothing of them but how many bytes each holds. Since an open file is closed by an
//! operation, no value is ever dropped in here: what has to go is handed back.
//!
//! ```text
//!             insert             valid_for has passed            idle_for without use
//!   (absent) ────────► Fresh ───────────────────────────► Stale ──────────────────────► handed back by `sweep`
//!                        ▲                                  │
//!                        └──────────────────────────────────┘ renew: asked again, still the same
//!                         either: no room for a newer one, remove ────────────────────► handed back
//! ```
//!
//! Entries lie in a slab, linked from the most to the least recently used; the table holds slab indices only, so each key
//! is stored once and a look-up with a borrowed key allocates nothing. Hashes are SipHash-1-3 with a random key, the
//! standard library's: peers choose the paths, and must not be able to choose collisions. On a path of 40 bytes it costs
//! about as much as one cache miss; faster hashers promise less against someone who measures.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::driver::Time;

/// The bounds of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most entries.
    pub entries_max: u32,
    /// The most bytes that all entries together may hold. One entry larger than that is not kept.
    pub bytes_max: usize,
    /// How long after it was made an entry is taken to be true.
    pub valid_for: Duration,
    /// How long after its last use an entry is kept.
    pub idle_for: Duration,
}

/// A map of at most so many entries and bytes.
#[derive(Debug)]
pub struct Cache<K, V, S = RandomState> {
    limits: Limits,
    hasher: S,
    table: HashTable<u32>,
    nodes: Slab<Node<K, V>>,
    /// The most and the least recently used; both none when there is no entry.
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

/// What the cache knows of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, V> {
    /// A value that may be used as it is.
    Fresh(&'a mut V),
    /// A value that was true once: to be asked for again, then replaced or renewed.
    Stale(&'a mut V),
    /// Nothing.
    Absent,
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// An empty cache; allocates nothing until the first insertion.
    pub fn new(limits: Limits) -> Self {
        Self::with_hasher(limits, RandomState::new())
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Cache<K, V, S> {
    /// An empty cache that hashes in its own way.
    pub const fn with_hasher(limits: Limits, hasher: S) -> Self {
        Self { limits, hasher, table: HashTable::new(), nodes: Slab::new(), newest: None, oldest: None, bytes: 0 }
    }

    /// Looks a key up, which counts as a use of what is found.
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

    /// Keeps a value that holds `bytes` bytes, its key among them, in place of the one that was there.
    ///
    /// Everything that has to go for it is appended to `evicted`: the value that it replaces, then the least recently used
    /// ones; itself, if it is larger than the whole cache may be.
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

    /// Other bounds from now on. What has to go for them is appended to `evicted`, the least recently used first.
    pub fn set_limits(&mut self, limits: Limits, evicted: &mut Vec<V>) {
        self.limits = limits;
        while self.nodes.len() > limits.entries_max as usize || self.bytes > limits.bytes_max {
            let Some(oldest) = self.oldest else { break };
            evicted.push(self.take(oldest).value);
        }
        self.check();
    }

    /// Makes a value fresh again that was found to be still true. Nothing happens if there is none.
    pub fn renew<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: Time)
    where
        K: Borrow<Q>,
    {
        if let Some(index) = self.find(key) {
            self.nodes[index as usize].valid_until = now + self.limits.valid_for;
        }
    }

    /// Takes a value out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let index = self.find(key)?;
        let node = self.take(index);
        self.check();
        Some(node.value)
    }

    /// Takes out what nobody has used for [`Limits::idle_for`], at most `most` values.
    ///
    /// To be called now and then, so that files which nobody asks for do not stay open.
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

    /// Takes out every value whose key is so; looks at all of them.
    pub fn remove_if(&mut self, is_gone: impl Fn(&K) -> bool, removed: &mut Vec<V>) {
        let gone: Vec<u32> =
            self.nodes.iter().filter(|(_, node)| is_gone(&node.key)).map(|(index, _)| index as u32).collect();
        removed.extend(gone.into_iter().map(|index| self.take(index).value));
        self.check();
    }

    /// When [`Cache::sweep`] may have something to do next, unless there is no entry.
    pub fn next_sweep(&self) -> Option<Time> {
        self.oldest.map(|oldest| self.nodes[oldest as usize].used + self.limits.idle_for)
    }

    /// Takes the least recently used value out: one descriptor or some memory is needed elsewhere.
    pub fn evict_one(&mut self) -> Option<V> {
        let oldest = self.oldest?;
        Some(self.take(oldest).value)
    }

    /// Takes everything out, in no order.
    pub fn clear(&mut self, evicted: &mut Vec<V>) {
        self.table.clear();
        (self.newest, self.oldest, self.bytes) = (None, None, 0);
        evicted.extend(self.nodes.drain().map(|node| node.value));
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Bytes that all entries together hold.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<u32>
    where
        K: Borrow<Q>,
    {
        if self.table.is_empty() {
            // Hashing is what a look-up costs; of faults there are usually none.
            return None;
        }
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |index| self.nodes[*index as usize].key.borrow() == key).copied()
    }

    /// Adds a node whose key is not there yet, as the newest.
    fn add(&mut self, node: Node<K, V>) {
        let hash = self.hasher.hash_one(&node.key);
        self.bytes += node.bytes;
        // `entries_max` bounds the slab.
        let index = self.nodes.insert(node) as u32;
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.table.insert_unique(hash, index, |index| hasher.hash_one(&nodes[*index as usize].key));
        self.link(index);
    }

    /// Takes a node out of the slab, the table and the list.
    fn take(&mut self, index: u32) -> Node<K, V> {
        self.unlink(index);
        let node = self.nodes.remove(index as usize);
        self.bytes -= node.bytes;
        let hash = self.hasher.hash_one(&node.key);
        match self.table.find_entry(hash, |other| *other == index) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => debug_assert!(false, "a node that the table does not know"),
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

    /// The invariants that cost nothing to check; the tests walk the list.
    fn check(&self) {
        debug_assert_eq!(self.table.len(), self.nodes.len());
        debug_assert!(self.nodes.len() <= self.limits.entries_max as usize && self.bytes <= self.limits.bytes_max);
        debug_assert_eq!(self.newest.is_none(), self.nodes.is_empty());
        debug_assert_eq!(self.oldest.is_none(), self.nodes.is_empty());
    }
}

#[cfg(test)]
mod tests;
