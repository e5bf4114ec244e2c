//! One endpoint of a group: its upstream, its load and its health.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::config::{EndpointConfig, SlowStart};
use super::hash;
use super::health::Health;
use crate::driver::Time;
use crate::upstream::Upstream;
use crate::upstream::shared::SharedEndpoint;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) upstream: Rc<Upstream>,
    /// What other workers have of it as well.
    pub(super) shared: Arc<SharedEndpoint>,
    pub(super) tag: String,
    /// Seed of its draws in rendezvous hashing.
    pub(super) seed: u64,
    pub(super) is_backup: bool,
    pub(super) in_flight: Cell<usize>,
    pub(super) health: Cell<Health>,
    /// Credit of the round robin: how overdue its turn is. Used by the policy only.
    pub(super) credit: Cell<i64>,
    weight: u32,
    connections_max: usize,
}

/// Whether an endpoint can take a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Availability {
    Down,
    /// At its connection limit.
    Full,
    Open,
}

impl Endpoint {
    /// A new endpoint, up. `twins_before`: number of endpoints before it with the same address.
    pub(super) fn new(
        config: &EndpointConfig,
        upstream: Rc<Upstream>,
        shared: Arc<SharedEndpoint>,
        twins_before: u64,
    ) -> Self {
        let seed = hash::seed_of(&config.address, twins_before);
        Self {
            upstream,
            shared,
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

    /// Whether it has weight 0: it takes only requests whose cookie names it.
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

    /// Number of free slots; at most one if the next request would be its trial.
    pub(super) fn places(&self) -> usize {
        if self.health.get().is_up() { self.room() } else { self.room().min(1) }
    }

    /// Number of further requests below its connection limit, whether it is up or not.
    pub(super) const fn room(&self) -> usize {
        match self.connections_max {
            0 => usize::MAX,
            most => most.saturating_sub(self.in_flight.get()),
        }
    }

    /// When its back-off or trial ends, if only failed requests took it down; while another
    /// endpoint is up, it is not used until then.
    pub(super) fn down_until(&self) -> Option<Time> {
        self.health.get().down_until().filter(|_| !self.is_draining())
    }

    /// Its effective weight, in thousandths.
    pub(super) fn weight(&self, slow_start: SlowStart, now: Time) -> u64 {
        u64::from(self.weight) * self.health.get().share(slow_start, now)
    }
}

/// Makes tags differ from the seeds of the same endpoints.
const TAG_SALT: u64 = 0x7461_675f_7374_6963;
