//! Tests of the cache: each guarantee by example, and all of them against a slow, simple model.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { entries_max: 3, bytes_max: 100, valid_for: Duration::from_secs(1), idle_for: Duration::from_secs(60) };

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn cache() -> Cache<Box<[u8]>, &'static str> {
    Cache::new(LIMITS)
}

/// Inserts at time zero; returns what was evicted.
fn insert(cache: &mut Cache<Box<[u8]>, &'static str>, value: &'static str, bytes: usize) -> Vec<&'static str> {
    let mut evicted = Vec::new();
    cache.insert(value.as_bytes().into(), value, bytes, at(0), &mut evicted);
    evicted
}

fn value(lookup: Lookup<'_, &'static str>) -> Option<&'static str> {
    match lookup {
        Lookup::Fresh(value) | Lookup::Stale(value) => Some(*value),
        Lookup::Absent => None,
    }
}

#[test]
fn tighter_bounds_hand_back_what_was_used_longest_ago() {
    let limits = Limits { entries_max: 4, bytes_max: 100, valid_for: Duration::MAX / 4, idle_for: Duration::MAX / 4 };
    let mut cache = Cache::new(limits);
    let mut evicted = Vec::new();
    for number in 0..4 {
        cache.insert(number, number, 20, Time::ZERO, &mut evicted);
    }
    cache.set_limits(Limits { entries_max: 3, bytes_max: 40, ..limits }, &mut evicted);
    assert_eq!(evicted, [0, 1]);
    cache.set_limits(Limits { entries_max: 0, ..limits }, &mut evicted);
    assert_eq!(evicted, [0, 1, 2, 3]);
}

#[test]
fn an_entry_is_fresh_then_stale_then_fresh_again_when_renewed() {
    let mut cache = cache();
    insert(&mut cache, "a", 1);
    assert_eq!(cache.get(&b"a"[..], at(999)), Lookup::Fresh(&mut "a"));
    assert_eq!(cache.get(&b"a"[..], at(1000)), Lookup::Stale(&mut "a"));
    cache.renew(&b"a"[..], at(1500));
    assert_eq!(cache.get(&b"a"[..], at(2499)), Lookup::Fresh(&mut "a"));
    assert_eq!(cache.get(&b"a"[..], at(2500)), Lookup::Stale(&mut "a"));
    assert_eq!(cache.get(&b"b"[..], at(0)), Lookup::Absent);
}

#[test]
fn the_least_recently_used_entry_makes_room() {
    let mut cache = cache();
    for value in ["a", "b", "c"] {
        assert_eq!(insert(&mut cache, value, 1), [""; 0]);
    }
    cache.get(&b"a"[..], at(0));
    assert_eq!(insert(&mut cache, "d", 1), ["b"]);
    assert_eq!(insert(&mut cache, "e", 99), ["c", "a"]);
    assert_eq!((cache.len(), cache.bytes()), (2, 100));
}

#[test]
fn a_value_that_is_replaced_is_handed_back() {
    let mut cache = cache();
    insert(&mut cache, "a", 60);
    let mut evicted = Vec::new();
    cache.insert(b"a"[..].into(), "newer", 70, at(0), &mut evicted);
    assert_eq!(evicted, ["a"]);
    assert_eq!((value(cache.get(&b"a"[..], at(0))), cache.bytes()), (Some("newer"), 70));
}

#[test]
fn a_value_too_large_for_the_cache_is_handed_back_and_evicts_only_its_predecessor() {
    let mut cache = cache();
    insert(&mut cache, "a", 1);
    insert(&mut cache, "b", 1);
    assert_eq!(insert(&mut cache, "a", 101), ["a", "a"]);
    assert_eq!((cache.len(), cache.bytes()), (1, 1));
}

#[test]
fn a_cache_of_no_entries_keeps_nothing() {
    let mut cache = Cache::new(Limits { entries_max: 0, ..LIMITS });
    assert_eq!(insert(&mut cache, "a", 0), ["a"]);
    assert!(cache.is_empty());
}

#[test]
fn sweeping_takes_out_what_nobody_uses_a_bounded_number_at_a_time() {
    let mut cache = cache();
    for value in ["a", "b", "c"] {
        insert(&mut cache, value, 1);
    }
    cache.get(&b"a"[..], at(30_000));
    assert_eq!(cache.next_sweep(), Some(at(60_000)));
    let mut swept = Vec::new();
    cache.sweep(at(59_999), 9, &mut swept);
    assert_eq!(swept, [""; 0]);
    cache.sweep(at(60_000), 1, &mut swept);
    assert_eq!(swept, ["b"]);
    cache.sweep(at(60_000), 9, &mut swept);
    assert_eq!(swept, ["b", "c"]);
    assert_eq!(cache.next_sweep(), Some(at(90_000)));
}

#[test]
fn everything_can_be_taken_out() {
    let mut cache = cache();
    insert(&mut cache, "a", 1);
    insert(&mut cache, "b", 2);
    assert_eq!(cache.evict_one(), Some("a"));
    assert_eq!(cache.remove(&b"a"[..]), None);
    let mut evicted = Vec::new();
    cache.clear(&mut evicted);
    assert_eq!((evicted, cache.bytes(), cache.evict_one(), cache.next_sweep()), (vec!["b"], 0, None, None));
    insert(&mut cache, "c", 3);
    assert_eq!(cache.remove(&b"c"[..]), Some("c"));
}

/// The model: a list from the least to the most recently used entry.
#[derive(Default)]
struct Model(Vec<Row>);

struct Row {
    key: u8,
    value: u32,
    bytes: usize,
    valid_until: Time,
    used: Time,
}

impl Model {
    fn position(&self, key: u8) -> Option<usize> {
        self.0.iter().position(|row| row.key == key)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|row| row.bytes).sum()
    }

    fn get(&mut self, key: u8, now: Time) -> Option<(u32, bool)> {
        let mut row = self.0.remove(self.position(key)?);
        row.used = now;
        let answer = (row.value, now < row.valid_until);
        self.0.push(row);
        Some(answer)
    }

    fn insert(&mut self, key: u8, value: u32, bytes: usize, now: Time) -> Vec<u32> {
        let mut evicted: Vec<_> = self.remove(key).into_iter().collect();
        if bytes > LIMITS.bytes_max {
            evicted.push(value);
            return evicted;
        }
        while self.0.len() >= LIMITS.entries_max as usize || self.bytes() + bytes > LIMITS.bytes_max {
            evicted.push(self.0.remove(0).value);
        }
        self.0.push(Row { key, value, bytes, valid_until: now + LIMITS.valid_for, used: now });
        evicted
    }

    fn remove(&mut self, key: u8) -> Option<u32> {
        Some(self.0.remove(self.position(key)?).value)
    }

    fn sweep(&mut self, now: Time, most: usize) -> Vec<u32> {
        let idle = self.0.iter().take(most).take_while(|row| now.since(row.used) >= LIMITS.idle_for).count();
        self.0.drain(..idle).map(|row| row.value).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Insert(u8, usize),
    Remove(u8),
    Renew(u8),
    Sweep(usize),
    EvictOne,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8).prop_map(Step::Get),
        6 => (0..6_u8, 0..120_usize).prop_map(|(key, bytes)| Step::Insert(key, bytes)),
        1 => (0..6_u8).prop_map(Step::Remove),
        1 => (0..6_u8).prop_map(Step::Renew),
        1 => (0..4_usize).prop_map(Step::Sweep),
        1 => Just(Step::EvictOne),
        2 => prop_oneof![0..900_u64, 20_000..70_000_u64].prop_map(Step::Wait),
    ]
}

/// Checks that the list visits every entry in both directions, and that the table finds each.
fn walk<V>(cache: &Cache<Box<[u8]>, V>) {
    let (mut next, mut newer, mut count) = (cache.newest, None, 0);
    while let Some(index) = next {
        let node = &cache.nodes[index as usize];
        assert_eq!(node.newer, newer);
        assert_eq!(cache.find(&node.key[..]), Some(index));
        (newer, next, count) = (Some(index), node.older, count + 1);
    }
    assert_eq!((newer, count), (cache.oldest, cache.len()));
}

proptest! {
    #[test]
    fn any_sequence_of_steps_ends_as_in_the_model(steps in proptest::collection::vec(any_step(), 1..120)) {
        let (mut cache, mut model, mut now) = (Cache::<Box<[u8]>, u32>::new(LIMITS), Model::default(), at(0));
        for (number, step) in steps.into_iter().enumerate() {
            let number = number as u32;
            let mut evicted = Vec::new();
            match step {
                Step::Get(key) => {
                    let found = match cache.get(&[key][..], now) {
                        Lookup::Fresh(value) => Some((*value, true)),
                        Lookup::Stale(value) => Some((*value, false)),
                        Lookup::Absent => None,
                    };
                    prop_assert_eq!(found, model.get(key, now));
                }
                Step::Insert(key, bytes) => {
                    cache.insert([key].into(), number, bytes, now, &mut evicted);
                    prop_assert_eq!(evicted, model.insert(key, number, bytes, now));
                }
                Step::Remove(key) => prop_assert_eq!(cache.remove(&[key][..]), model.remove(key)),
                Step::Renew(key) => {
                    cache.renew(&[key][..], now);
                    if let Some(index) = model.position(key) {
                        model.0[index].valid_until = now + LIMITS.valid_for;
                    }
                }
                Step::Sweep(most) => {
                    cache.sweep(now, most, &mut evicted);
                    prop_assert_eq!(evicted, model.sweep(now, most));
                }
                Step::EvictOne => {
                    let expected = if model.0.is_empty() { None } else { Some(model.0.remove(0).value) };
                    prop_assert_eq!(cache.evict_one(), expected);
                }
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
            }
            prop_assert_eq!((cache.len(), cache.bytes()), (model.0.len(), model.bytes()));
            walk(&cache);
        }
    }
}
