//! One endpoint of a group: its upstream, its load and its health.

use std::cell::Cell;
use std::rc::Rc;

use super::config::{EndpointConfig, SlowStart};
use super::hash;
use super::health::Health;
use crate::driver::Time;
use crate::upstream::Upstream;
use crate::upstream::shared::{OperatorState, SharedEndpoint};

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) upstream: Rc<Upstream>,
    /// What other workers have of it as well.
    pub(super) shared: SharedEndpoint,
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
        shared: SharedEndpoint,
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

    /// What an operator has set for it.
    fn operator_state(&self) -> OperatorState {
        self.shared.setting.state()
    }

    /// The weight that an operator has set, or the configured one.
    fn base_weight(&self) -> u32 {
        self.shared.setting.weight().unwrap_or(self.weight)
    }

    /// Whether it has weight 0, so that it takes only requests whose cookie names it, or an operator lets it
    /// take none.
    pub(super) fn is_draining(&self) -> bool {
        self.base_weight() == 0 || self.operator_state().excludes()
    }

    /// Whether it takes requests without restriction.
    pub(super) fn is_up(&self) -> bool {
        match self.operator_state() {
            OperatorState::Auto => self.health.get().is_up(),
            OperatorState::Up => true,
            OperatorState::Down | OperatorState::Drain => false,
        }
    }

    pub(super) fn availability(&self, now: Time) -> Availability {
        let is_usable = match self.operator_state() {
            OperatorState::Auto => self.health.get().is_usable(now),
            OperatorState::Up => true,
            OperatorState::Down | OperatorState::Drain => false,
        };
        if !is_usable {
            Availability::Down
        } else if self.room() == 0 {
            Availability::Full
        } else {
            Availability::Open
        }
    }

    /// Number of free slots; at most one if the next request would be its trial.
    pub(super) fn places(&self) -> usize {
        if self.is_up() { self.room() } else { self.room().min(1) }
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
        let share = match self.operator_state() {
            OperatorState::Up => WHOLE_SHARE,
            OperatorState::Auto | OperatorState::Down | OperatorState::Drain => {
                self.health.get().share(slow_start, now)
            }
        };
        u64::from(self.base_weight()) * share
    }
}

/// All of its weight, in thousandths.
const WHOLE_SHARE: u64 = 1000;

/// Makes tags differ from the seeds of the same endpoints.
const TAG_SALT: u64 = 0x7461_675f_7374_6963;
