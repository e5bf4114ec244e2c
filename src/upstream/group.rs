//! Several upstreams that serve the same: which of them takes a request, which is down, who waits for a place.
//!
//! One [`UpstreamGroup`] a worker and route, shared by its sessions:
//!
//! ```text
//!   pick ──► Endpoint(id) ─► connect, send, read … ──► end(id, verdict)         exactly once each
//!     ├────► Busy ──► wait(key) … take_woken() gives the key ──► pick_again    or the queue is full, or give_up(key)
//!     └────► Down
//! ```
//!
//! A request that fails and may be tried again inserts the endpoint into its [`ExcludedEndpoints`] and picks again.
//!
//! # Who may be used
//!
//! Endpoints that are up come first. Backups are used when every other endpoint is down, or has failed this very request.
//! Endpoints that the request has tried come last. An endpoint at its limit of connections takes nothing; while it is up,
//! requests rather wait than go to a backup.
//!
//! Requests that fail never take out all: a client may be able to make them fail at will. When no endpoint is up, the least
//! bad of those that only such failures took out is used: one that the request has not tried, with the fewest requests in
//! flight, whose back-off ends first. [`Pick::Down`] is left for checks and the operator to decide.
//!
//! It does no I/O and reads no clock: time is given, and chance comes from a seed, so that a simulation can repeat it.

mod config;
mod endpoint;
mod excluded;
pub mod hash;
mod health;
mod policy;
mod queue;
mod tier;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

pub use config::{
    CheckConfig, CheckKind, ENDPOINTS_MAX, EndpointConfig, GroupConfig, HashSource, PassiveHealth, Policy, QueueConfig,
    ResolveInterval, SlowStart,
};
pub use excluded::ExcludedEndpoints;
pub use health::{CheckCounter, HealthVerdict};

use self::endpoint::{Availability, Endpoint};
use self::health::{Change, Health};
use self::policy::{Candidate, Chance};
use self::queue::Queue;
use self::tier::{Tier, TierSummary};
use super::{Upstream, Upstreams};
use crate::driver::Time;
use crate::table::Key;
use crate::tcp::proxy_header::ProxyVersion;

/// Several upstreams that serve the same. See the module's page.
#[derive(Debug)]
pub struct UpstreamGroup {
    endpoints: Box<[Endpoint]>,
    policy: Policy,
    passive: PassiveHealth,
    slow_start: SlowStart,
    queue_config: QueueConfig,
    queue: RefCell<Queue>,
    chance: RefCell<Chance>,
    checks: Option<Rc<CheckConfig>>,
    resolve: ResolveInterval,
    announce: Option<ProxyVersion>,
}

/// Names an endpoint by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// What a request brings that decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceKey {
    /// Nothing: as the policy says.
    Any,
    /// The hash of its key ([`hash`]). If its endpoint is down, full or tried, the key's next best takes it. During slow
    /// start an endpoint gets its keys back one by one.
    Hash(u64),
    /// The endpoint that it belongs to, by its cookie. An endpoint that is being drained takes it, and a backup, too. If the
    /// endpoint is down, full or tried, as in round robin, so that what was one endpoint's is spread over all the others.
    Sticky(EndpointId),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pick {
    /// There. To be ended exactly once, by [`UpstreamGroup::end`].
    Endpoint(EndpointId),
    /// Some are up, but all that may be used are at their limit of connections.
    Busy,
    /// None is up, by what the checks or the operator say.
    Down,
}

/// How an endpoint is doing, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Whether it takes requests as ever. An endpoint that one request is trying is not up yet.
    pub is_up: bool,
    /// Requests there now.
    pub in_flight: usize,
    /// Its weight as it counts now, in thousandths; grows during slow start.
    pub weight_permille: u64,
}

impl UpstreamGroup {
    /// A group with every endpoint up. `seed` decides what is left to chance; workers should have different ones.
    pub fn new(config: GroupConfig, seed: u64) -> Rc<Self> {
        Self::sharing(&mut Upstreams::default(), config, seed)
    }

    /// The same, with upstreams that other groups have, too, if they have the same address.
    pub fn sharing(upstreams: &mut Upstreams, config: GroupConfig, seed: u64) -> Rc<Self> {
        let GroupConfig { endpoints: configs, policy, mut passive, slow_start, queue, checks, resolve, announce } =
            config;
        if configs.len() == 1 {
            // Better a request that may fail than one that fails for certain.
            passive.failures = 0;
        }
        let endpoints = configs.iter().take(ENDPOINTS_MAX).enumerate().map(|(index, config)| {
            let twins_before = configs.iter().take(index).filter(|other| other.address == config.address).count();
            Endpoint::new(config, upstreams.at(&config.address), twins_before as u64)
        });
        Rc::new(Self {
            endpoints: endpoints.collect(),
            policy,
            passive,
            slow_start,
            queue_config: queue,
            queue: RefCell::new(Queue::new(queue.waiting_max)),
            chance: RefCell::new(Chance::new(seed)),
            checks: checks.map(Rc::new),
            resolve,
            announce,
        })
    }

    /// Says that the group is that of one of several workers, so that they do not all begin with the same endpoint.
    pub fn start_apart(&self, number: usize, workers: usize) {
        for is_backup in [false, true] {
            let candidates =
                self.endpoints().filter(|(_, endpoint)| endpoint.is_backup == is_backup && !endpoint.is_draining());
            let candidates = candidates.map(|(id, endpoint)| {
                let weight = endpoint.weight(self.slow_start, Time::ZERO);
                Candidate { id, endpoint, weight }
            });
            policy::start_apart(candidates, number as u64, workers as u64);
        }
    }

    /// The endpoint's upstream.
    ///
    /// # Panics
    /// If the id is another group's.
    pub fn upstream(&self, endpoint: EndpointId) -> &Rc<Upstream> {
        &self.endpoints[usize::from(endpoint.0)].upstream
    }

    /// The policy, which says what [`BalanceKey`] a request should bring.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How the endpoints are to be checked; whoever does it reports to [`UpstreamGroup::set_checked`].
    pub const fn checks(&self) -> Option<&Rc<CheckConfig>> {
        self.checks.as_ref()
    }

    /// How often the names of the endpoints are to be looked up.
    pub const fn resolve_interval(&self) -> ResolveInterval {
        self.resolve
    }

    /// Whether connections begin with a header of the PROXY protocol, and of which version.
    pub const fn announces(&self) -> Option<ProxyVersion> {
        self.announce
    }

    /// A time below `end`, left to chance.
    pub fn draw(&self, end: Duration) -> Duration {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.chance.borrow_mut().below(nanos))
    }

    /// How many endpoints there are.
    pub const fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there are none, so that nothing can be picked.
    pub const fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Every endpoint's id.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..self.endpoints.len() as u16).map(EndpointId)
    }

    /// How the endpoint is doing; `None` if the id is another group's.
    pub fn status(&self, endpoint: EndpointId, now: Time) -> Option<EndpointStatus> {
        let endpoint = self.endpoint(endpoint)?;
        let is_up = endpoint.health.get().is_up();
        let weight_permille = if is_up { endpoint.weight(self.slow_start, now) } else { 0 };
        Some(EndpointStatus { is_up, in_flight: endpoint.in_flight.get(), weight_permille })
    }

    /// Chooses an endpoint for a request and counts it as in flight there. Places that were freed for requests that wait are
    /// theirs.
    pub fn pick(&self, balance_key: BalanceKey, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        let promised = self.queue.borrow().promised();
        let is_for_others = promised > 0 && self.places(now).is_some_and(|places| places <= promised);
        if is_for_others { Pick::Busy } else { self.pick_any(balance_key, excluded, now) }
    }

    /// The same for a request that waits: if it was woken, it has the place that was kept for it.
    pub fn pick_again(&self, key: Key, balance_key: BalanceKey, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        if self.is_waiting(key) {
            return self.pick(balance_key, excluded, now);
        }
        self.queue.borrow_mut().redeem();
        self.pick_any(balance_key, excluded, now)
    }

    fn pick_any(&self, balance_key: BalanceKey, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        if let BalanceKey::Sticky(id) = balance_key
            && !excluded.contains(id)
            && self.endpoint(id).is_some_and(|endpoint| endpoint.availability(now) == Availability::Open)
        {
            return self.begin(id, now);
        }
        let summary = TierSummary::new(self.endpoints(), excluded, now);
        match summary.tier().and_then(|tier| self.choose(tier, balance_key, excluded, now)) {
            Some(id) => self.begin(id, now),
            None if summary.is_any_up() => Pick::Busy,
            None => self.pick_least_bad(excluded, now),
        }
    }

    /// None is up; but what only failed requests say of an endpoint is not enough to ask nobody.
    fn pick_least_bad(&self, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        let all = self.endpoints().filter_map(|(id, endpoint)| Some((id, endpoint, endpoint.down_until()?)));
        let open = all.clone().filter(|(_, endpoint, _)| endpoint.room() > 0);
        let best = open.min_by_key(|(id, endpoint, until)| (excluded.contains(*id), endpoint.in_flight.get(), *until));
        match best {
            Some((id, ..)) => self.begin(id, now),
            None if all.count() > 0 => Pick::Busy,
            None => Pick::Down,
        }
    }

    /// The request is over there. Called exactly once for each [`Pick::Endpoint`]. If it frees a place that another waits
    /// for, [`UpstreamGroup::take_woken`] tells.
    pub fn end(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) {
        let Some(entry) = self.endpoint(endpoint) else { return };
        debug_assert!(entry.in_flight.get() > 0, "{endpoint:?} was ended more often than picked");
        entry.in_flight.set(entry.in_flight.get().saturating_sub(1));
        // A change has woken as many as there are places, this one among them.
        let has_changed = self.on_verdict(endpoint, verdict, now);
        let frees_a_place = !has_changed && !entry.is_draining();
        if frees_a_place && self.waiting() > 0 {
            self.wake(self.places(now).unwrap_or(0));
        }
    }

    /// What the request has shown so far, while it goes on: for example that a WebSocket was accepted, which may then last
    /// for hours. At the end, say [`HealthVerdict::Neutral`], or what else it has shown.
    pub fn note(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) {
        self.on_verdict(endpoint, verdict, now);
    }

    /// What active checks say, after [`CheckCounter`]. Every endpoint is up until told otherwise. Who checks knows why, and
    /// logs it.
    pub fn set_checked(&self, endpoint: EndpointId, is_up: bool, now: Time) {
        self.update(endpoint, now, |health, _| health.on_checked(is_up, now));
    }

    /// The endpoint that a sticky cookie's value names, if it names one of this group.
    pub fn endpoint_of_tag(&self, tag: &[u8]) -> Option<EndpointId> {
        self.endpoints().find(|(_, endpoint)| endpoint.tag.as_bytes() == tag).map(|(id, _)| id)
    }

    /// What a sticky cookie calls the endpoint: 16 hexadecimal digits that follow from its address, so that they outlive
    /// restarts and changes of the other endpoints. They do not show it, yet they are no secret: who guesses an address can
    /// check the guess.
    ///
    /// # Panics
    /// If the id is another group's.
    pub fn tag(&self, endpoint: EndpointId) -> &str {
        &self.endpoints[usize::from(endpoint.0)].tag
    }

    /// A request that was told [`Pick::Busy`] waits for a place; false: the queue is full. `since` is when it began to
    /// wait: one that was woken in vain says it again, and has its old place in the queue.
    pub fn wait(&self, key: Key, since: Time) -> bool {
        self.queue.borrow_mut().push(key, since)
    }

    /// Until when a request may wait that has waited since then; `None`: for ever.
    pub fn wait_deadline(&self, since: Time) -> Option<Time> {
        (!self.queue_config.timeout.is_zero()).then(|| since + self.queue_config.timeout)
    }

    /// The request no longer wants a place: it waited too long, its client left. Also to be called if it was woken but has
    /// not picked since, so that the next is woken in its stead.
    pub fn give_up(&self, key: Key) {
        self.queue.borrow_mut().remove(key);
    }

    /// The next request that should pick again, until `None`. To be asked after [`UpstreamGroup::end`], [`UpstreamGroup::note`],
    /// [`UpstreamGroup::set_checked`] and [`UpstreamGroup::give_up`].
    pub fn take_woken(&self) -> Option<Key> {
        self.queue.borrow_mut().pop_woken()
    }

    /// Whether the session waits, and has not been woken yet.
    pub fn is_waiting(&self, key: Key) -> bool {
        self.queue.borrow().contains(key)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> + Clone {
        self.endpoints.iter().enumerate().map(|(index, endpoint)| (EndpointId(index as u16), endpoint))
    }

    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(id.0))
    }

    /// One of the endpoints of this rank, by the policy.
    fn choose(
        &self,
        tier: Tier,
        balance_key: BalanceKey,
        excluded: &ExcludedEndpoints,
        now: Time,
    ) -> Option<EndpointId> {
        let candidates = self.endpoints().filter_map(move |(id, endpoint)| {
            let is_candidate = tier.is_open(id, endpoint, excluded, now);
            is_candidate.then(|| Candidate { id, endpoint, weight: endpoint.weight(self.slow_start, now) })
        });
        match (balance_key, &self.policy) {
            (BalanceKey::Hash(key), _) => policy::rendezvous(candidates, key),
            (BalanceKey::Any, Policy::LeastConnections) => policy::least_connections(candidates),
            (BalanceKey::Any, Policy::RandomOfTwo) => policy::random_of_two(candidates, &mut self.chance.borrow_mut()),
            // A request without the field to hash, without a cookie, or with the cookie of an endpoint that is down.
            (BalanceKey::Any, Policy::RoundRobin | Policy::Hash(_) | Policy::Sticky { .. })
            | (BalanceKey::Sticky(_), _) => policy::round_robin(candidates),
        }
    }

    fn begin(&self, id: EndpointId, now: Time) -> Pick {
        let Some(endpoint) = self.endpoint(id) else { return Pick::Down };
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        let mut health = endpoint.health.get();
        health.begin(&self.passive, now);
        endpoint.health.set(health);
        if !health.is_up() && self.waiting() > 0 {
            // A back-off that ends wakes nobody. If this request was woken, then for another place, which is free still.
            self.wake(self.places(now).unwrap_or(0));
        }
        Pick::Endpoint(id)
    }

    /// Whether the endpoint went down or came back by it.
    fn on_verdict(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) -> bool {
        self.update(endpoint, now, |health, in_flight| health.on_verdict(verdict, in_flight, &self.passive, now))
    }

    fn update(&self, id: EndpointId, now: Time, change: impl FnOnce(&mut Health, usize) -> Option<Change>) -> bool {
        let Some(endpoint) = self.endpoint(id) else { return false };
        let before = endpoint.health.get();
        let mut health = before;
        let change = change(&mut health, endpoint.in_flight.get());
        endpoint.health.set(health);
        if let Some(change) = change {
            report(endpoint, change);
        }
        // Also what is not worth a report may be why others are asked now: a back-off that begins again lets backups be used.
        if (change.is_some() || health != before) && self.waiting() > 0 {
            // If none is up, all should hear of it.
            self.wake(self.places(now).unwrap_or(usize::MAX));
        }
        change.is_some()
    }

    /// So many places are free: those that nobody was promised are for who has waited longest.
    fn wake(&self, places: usize) {
        let mut queue = self.queue.borrow_mut();
        let places = places.saturating_sub(queue.promised());
        queue.wake(places);
    }

    /// How many requests that have tried nothing yet could be picked for now; `None` if none is up, nor could be tried.
    fn places(&self, now: Time) -> Option<usize> {
        let none_excluded = ExcludedEndpoints::new();
        let summary = TierSummary::new(self.endpoints(), &none_excluded, now);
        let Some(tier) = summary.tier() else {
            let down = self.endpoints().filter(|(_, endpoint)| endpoint.down_until().is_some());
            let room = down.map(|(_, endpoint)| endpoint.room()).reduce(usize::saturating_add);
            return if summary.is_any_up() { Some(0) } else { room };
        };
        let open = self.endpoints().filter(|(id, endpoint)| tier.is_open(*id, endpoint, &none_excluded, now));
        Some(open.fold(0, |places: usize, (_, endpoint)| places.saturating_add(endpoint.places())))
    }
}

fn report(endpoint: &Endpoint, change: Change) {
    let upstream = endpoint.upstream.address();
    match change {
        Change::Failed { failures, back_off } => {
            tracing::info!(%upstream, failures, back_off_ms = back_off.as_millis() as u64, "upstream down: requests fail");
        }
        Change::TrialFailed { back_off } => {
            tracing::debug!(%upstream, back_off_ms = back_off.as_millis() as u64, "upstream still down: its trial failed");
        }
        Change::TrialSucceeded => tracing::info!(%upstream, "upstream up: it answers again"),
        // Who has checked it has said so, with the reason.
        Change::ChecksFailed | Change::ChecksPassed => {}
    }
}
