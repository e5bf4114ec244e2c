//! One upstream of a group: what it is, how loaded it is, whether it is up.

use std::cell::Cell;
use std::rc::Rc;

use super::config::{EndpointConfig, SlowStart};
use super::hash;
use super::health::Health;
use crate::driver::Time;
use crate::upstream::Upstream;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) upstream: Rc<Upstream>,
    pub(super) tag: String,
    /// What it draws with in a rendezvous.
    pub(super) seed: u64,
    pub(super) is_backup: bool,
    pub(super) in_flight: Cell<usize>,
    pub(super) health: Cell<Health>,
    /// How long its turn is overdue: the policy's.
    pub(super) credit: Cell<i64>,
    weight: u32,
    connections_max: usize,
}

/// Whether an endpoint takes a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Down,
    /// At its limit of connections.
    Full,
    Open,
}

impl Endpoint {
    /// `twins_before`: how many endpoints before it have the same address.
    pub(super) fn new(config: &EndpointConfig, upstream: Rc<Upstream>, twins_before: u64) -> Self {
        let seed = hash::seed_of(&config.address, twins_before);
        Self {
            upstream,
            tag: format!("{:016x}", hash::mix(seed ^ TAG_SALT)),
            seed,
            is_backup: config.is_backup,
            in_flight: Cell::new(0),
            health: Cell::new(Health::new()),
            credit: Cell::new(0),
            weight: config.weight,
            connections_max: config.connections_max,
        }
    }

    /// Being drained, it takes only requests that belong to it.
    pub(super) const fn is_draining(&self) -> bool {
        self.weight == 0
    }

    pub(super) fn availability(&self, now: Time) -> Availability {
        if !self.health.get().is_usable(now) {
            Availability::Down
        } else if self.places() == 0 {
            Availability::Full
        } else {
            Availability::Open
        }
    }

    /// How many requests more it may have in flight: no more than one, if that is to try it.
    pub(super) fn places(&self) -> usize {
        if self.health.get().is_up() { self.room() } else { self.room().min(1) }
    }

    /// The same, whether it is up or not.
    pub(super) const fn room(&self) -> usize {
        match self.connections_max {
            0 => usize::MAX,
            most => most.saturating_sub(self.in_flight.get()),
        }
    }

    /// Whether it is down only since requests have failed, and until when it is left alone while another is up.
    pub(super) fn down_until(&self) -> Option<Time> {
        self.health.get().down_until().filter(|_| !self.is_draining())
    }

    /// Its weight as it counts now, in thousandths.
    pub(super) fn weight(&self, slow_start: SlowStart, now: Time) -> u64 {
        u64::from(self.weight) * self.health.get().share(slow_start, now)
    }
}

/// Keeps tags apart from the draws of the same endpoints.
const TAG_SALT: u64 = 0x7461_675f_7374_6963;
