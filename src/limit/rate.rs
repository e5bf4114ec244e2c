//! [`Rate`]: limits the request rate per client address.
//!
//! The table holds one time per address: its theoretical arrival time, at which all requests so far
//! are paid off if each costs 1 / rate seconds (the virtual scheduling form of the leaky bucket,
//! ITU-T I.371, annex A). A request is allowed if that time is no further ahead than a burst of
//! requests costs.
//!
//! The table never grows. An address has a set of entries where it can be stored. If all are taken,
//! it replaces the entry with the earliest time, whose loss changes the least.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::ClientKey;
use crate::driver::Time;

/// Number of sets; an address hashes to one of them. A power of two.
const SETS: usize = 8192;

/// Entries per set. With [`SETS`] that is 65,536 addresses, in 3 MiB.
const ENTRIES: usize = 8;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The limit per client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// Sustained rate, at least 1. Requests per second.
    pub per_second: u32,
    /// Requests allowed at once, at least 1.
    pub burst: u32,
}

/// The rate limiter: the limit, and the recent requests of each address.
#[derive(Debug)]
pub struct Rate {
    config: RateConfig,
    sets: Box<[Mutex<[RateEntry; ENTRIES]>]>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct RateEntry {
    client_key: Option<ClientKey>,
    /// When its requests so far are paid off.
    settled_at: Time,
}

impl Rate {
    /// A rate limiter with an empty table.
    pub fn new(config: RateConfig) -> Self {
        let empty = || Mutex::new([RateEntry { client_key: None, settled_at: Time::ZERO }; ENTRIES]);
        Self { config, sets: (0..SETS).map(|_| empty()).collect(), hasher: RandomState::new() }
    }

    pub const fn config(&self) -> RateConfig {
        self.config
    }

    /// Counts a request and allows it. `false`: it exceeds the limit, and is not counted.
    pub fn take(&self, client_key: ClientKey, now: Time) -> bool {
        let cost = NANOS_PER_SECOND / u64::from(self.config.per_second.max(1));
        let ahead_max = cost * (u64::from(self.config.burst.max(1)) - 1);
        let number = self.hasher.hash_one(client_key) as usize % self.sets.len();
        let mut entries = self.sets[number].lock().unwrap_or_else(PoisonError::into_inner);
        let known = entries.iter().position(|entry| entry.client_key == Some(client_key));
        let found = match known {
            Some(index) => entries.get_mut(index),
            None => entries.iter_mut().min_by_key(|entry| entry.settled_at),
        };
        // Never `None`: a set has entries.
        let Some(entry) = found else { return true };
        if known.is_none() {
            *entry = RateEntry { client_key: Some(client_key), settled_at: now };
        }
        let settled_at = entry.settled_at.max(now);
        if settled_at.as_nanos() - now.as_nanos() > ahead_max {
            return false;
        }
        entry.settled_at = Time::from_nanos(settled_at.as_nanos() + cost);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Time = Time::from_nanos(5 * NANOS_PER_SECOND);

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(RateConfig { per_second, burst })
    }

    fn client_key(last: u8) -> ClientKey {
        ClientKey::of([192, 0, 2, last].into())
    }

    #[test]
    fn a_burst_is_let_in_and_then_one_at_a_time() {
        let rate = rate(10, 3);
        let at = |millis| rate.take(client_key(1), START + Duration::from_millis(millis));
        assert!([0, 0, 0].into_iter().all(at) && !at(0) && !at(99));
        assert!(at(100) && !at(100) && at(200) && !at(299));
        assert!([1000, 1000, 1000].into_iter().all(at) && !at(1000), "a pause allows one burst, no more");
    }

    #[test]
    fn in_the_long_run_there_are_as_many_as_configured() {
        let rate = rate(50, 7);
        let taken =
            (0..10_000).filter(|millis| rate.take(client_key(1), START + Duration::from_millis(*millis))).count();
        assert!((500..=507).contains(&taken), "{taken}");
    }

    #[test]
    fn a_request_that_is_turned_away_is_let_in_a_second_later() {
        for burst in [1, 5] {
            let rate = rate(1, burst);
            while rate.take(client_key(1), START) {}
            assert!(rate.take(client_key(1), START + Duration::from_secs(1)));
        }
    }

    #[test]
    fn addresses_do_not_pay_for_each_other() {
        let rate = rate(1, 1);
        assert!((0..=255).all(|last| rate.take(client_key(last), START)));
        assert!(!(0..=255).any(|last| rate.take(client_key(last), START)));
    }

    #[test]
    fn a_flood_of_addresses_does_not_free_the_busiest() {
        let rate = rate(1, 100);
        let busy = client_key(1);
        while rate.take(busy, START) {}
        for address in 0..500_000_u32 {
            rate.take(ClientKey::of((0x0a00_0000 + address).to_be_bytes().into()), START);
        }
        assert!(!rate.take(busy, START));
    }
}
