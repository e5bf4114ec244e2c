//! [`UpstreamGroup`]: interchangeable upstreams. It balances requests over its endpoints, tracks
//! which are down, and queues requests while all are at their limit.
//!
//! There is one [`UpstreamGroup`] per worker and route, shared by the worker's sessions:
//!
//! ```text
//!   pick ──► Endpoint(id) ─► connect, send, read … ──► end(id, verdict)         exactly once per pick
//!     ├────► Busy ──► wait(waiter) … take_woken() gives it ──► pick_again    or the queue is full, or give_up(waiter)
//!     └────► Down
//! ```
//!
//! To retry a failed request, insert the endpoint into its [`ExcludedEndpoints`] and pick again.
//!
//! # Order of endpoints
//!
//! Endpoints that are up come first. Backups are used when every other endpoint is down, or has
//! failed this request. Endpoints that the request has tried come last. An endpoint at its
//! connection limit takes no request. While it is up, requests wait in the queue rather than go to
//! a backup.
//!
//! Failed requests never take out every endpoint, since a client may be able to make requests fail.
//! If no endpoint is up, but some are down only because requests failed, the best of those is used:
//! one that the request has not tried, then the one with the fewest requests in flight, then the
//! one whose back-off ends first. [`Pick::Down`] is left to the health checks and to weight 0.
//!
//! The group does no I/O and reads no clock. Time is a parameter, and random numbers come from a
//! seed, so that a simulation can repeat a run.

mod checks;
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

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

pub use checks::{CHECK_BODY_BYTES_MAX, CheckConfig, CheckKind, CheckMethod, HttpCheck, StatusRange};
pub use config::{
    ENDPOINTS_MAX, EndpointConfig, GroupConfig, HashSource, PassiveHealth, Policy, QueueConfig, ResolveInterval,
    SlowStart,
};
pub use excluded::ExcludedEndpoints;
pub use health::{CheckCounter, HealthVerdict};

use self::endpoint::{Availability, Endpoint};
use self::health::{Change, Health};
use self::policy::{Candidate, Chance};
use self::queue::Queue;
use self::tier::{Tier, TierSummary};
use super::shared::SharedEndpoint;
use super::{Upstream, Upstreams};
use crate::driver::Time;
use crate::tcp::proxy_header::ProxyVersion;
use crate::telemetry::metrics::EndpointCounters;
use crate::tls::TlsPeer;
use crate::waiter::Waiter;

/// Interchangeable upstreams. See the module's documentation.
#[derive(Debug)]
pub struct UpstreamGroup {
    endpoints: Box<[Endpoint]>,
    policy: Policy,
    passive: PassiveHealth,
    slow_start: SlowStart,
    queue_config: QueueConfig,
    queue: RefCell<Queue>,
    chance: RefCell<Chance>,
    resolve: ResolveInterval,
    announce: Option<ProxyVersion>,
    /// What counts the requests of each endpoint, if they are counted.
    counters: OnceCell<Box<[EndpointCounters]>>,
    /// The length of the queue that was counted last.
    queued: Cell<usize>,
}

/// Index of an endpoint in the group's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// The property of a request that decides its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalanceKey {
    /// None: the policy decides.
    Any,
    /// The hash of its key ([`hash`]). If the key's endpoint is down, full or tried, the next in
    /// the key's order takes the request. During slow start an endpoint gets its keys back one by
    /// one.
    Hash(u64),
    /// The endpoint that the request's cookie names. It takes the request even if it is being
    /// drained or is a backup. If it is down, full or tried, round robin decides, so that its
    /// requests are spread over all others.
    Sticky(EndpointId),
}

/// The result of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pick {
    /// The request goes to this endpoint. Call [`UpstreamGroup::end`] exactly once.
    Endpoint(EndpointId),
    /// Endpoints are up, but those the request may use are all at their connection limit.
    Busy,
    /// Every endpoint is down by its health checks, or has weight 0.
    Down,
}

/// State of an endpoint, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Whether it takes requests without restriction. An endpoint in a trial is not up yet.
    pub is_up: bool,
    /// Requests in flight.
    pub in_flight: usize,
    /// Its effective weight in thousandths; grows during slow start.
    pub weight_permille: u64,
}

impl UpstreamGroup {
    /// A group with every endpoint up. `seed` is for random choices; workers should have different
    /// ones.
    pub fn new(config: GroupConfig, seed: u64) -> Rc<Self> {
        Self::sharing(&mut Upstreams::default(), config, &[], seed)
    }

    /// As [`UpstreamGroup::new`], with upstreams shared with other groups that list the same
    /// address. `tls`: what is needed for each endpoint whose address is over TLS.
    pub fn sharing(upstreams: &mut Upstreams, config: GroupConfig, tls: &[Option<TlsPeer>], seed: u64) -> Rc<Self> {
        let shared = upstreams.shared(&config);
        let GroupConfig {
            endpoints: configs,
            policy,
            mut passive,
            slow_start,
            queue,
            resolve,
            announce,
            checks: _,
            tls: _,
            name: _,
        } = config;
        if configs.len() == 1 {
            // With one endpoint, taking it out would fail every request.
            passive.failures = 0;
        }
        let endpoints = configs.iter().zip(shared).take(ENDPOINTS_MAX).enumerate().map(|(index, (config, shared))| {
            let twins_before = configs.iter().take(index).filter(|other| other.address == config.address).count();
            let tls = tls.get(index).and_then(Option::as_ref);
            Endpoint::new(config, upstreams.at(&config.address, tls), shared, twins_before as u64)
        });
        let endpoints = endpoints.collect();
        Rc::new(Self {
            endpoints,
            policy,
            passive,
            slow_start,
            queue_config: queue,
            queue: RefCell::new(Queue::new(queue.waiting_max)),
            chance: RefCell::new(Chance::new(seed)),
            resolve,
            announce,
            counters: OnceCell::new(),
            queued: Cell::new(0),
        })
    }

    /// Sets what counts the requests of each endpoint, in the order of their ids. Once, before the first
    /// request.
    pub fn count_by(&self, counters: Box<[EndpointCounters]>) {
        for (endpoint, counters) in self.endpoints.iter().zip(&counters) {
            counters.set_up(endpoint.health.get().is_up());
            endpoint.upstream.count_by(counters);
        }
        let is_first = self.counters.set(counters).is_ok();
        debug_assert!(is_first, "a group has one set of counters");
    }

    /// What counts the requests of an endpoint, if they are counted.
    pub fn counters(&self, endpoint: EndpointId) -> Option<&EndpointCounters> {
        self.counters.get()?.get(usize::from(endpoint.0))
    }

    /// Counts what has changed in the queue.
    fn count_queue(&self) {
        let queued = self.waiting();
        let before = self.queued.replace(queued);
        if queued != before
            && let Some(counters) = self.counters(EndpointId(0))
        {
            counters.change_queued(before, queued);
        }
    }

    /// An operator has set something: requests that wait may go on, or fail. Call
    /// [`UpstreamGroup::take_woken`] after this.
    pub fn reconsider(&self, now: Time) {
        if self.waiting() > 0 {
            // If no endpoint can be used, all waiters are woken to fail.
            self.wake(self.places(now).unwrap_or(usize::MAX));
        }
    }

    /// Offsets the turns of worker `number` of `workers`, so that workers do not all begin with the
    /// same endpoint.
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
    /// If the id is not of this group.
    pub fn upstream(&self, endpoint: EndpointId) -> &Rc<Upstream> {
        &self.endpoints[usize::from(endpoint.0)].upstream
    }

    /// What the workers share of the endpoint.
    ///
    /// # Panics
    /// If the id is not of this group.
    pub fn shared(&self, endpoint: EndpointId) -> &SharedEndpoint {
        &self.endpoints[usize::from(endpoint.0)].shared
    }

    /// The policy. It decides which [`BalanceKey`] a request needs.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How often to look up the names of the endpoints.
    pub const fn resolve_interval(&self) -> ResolveInterval {
        self.resolve
    }

    /// The version of the PROXY protocol header that starts each connection; `None`: no header.
    pub const fn announces(&self) -> Option<ProxyVersion> {
        self.announce
    }

    /// A random duration below `end`.
    pub fn draw(&self, end: Duration) -> Duration {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.chance.borrow_mut().below(nanos))
    }

    /// Number of endpoints.
    pub const fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether the group has no endpoints, so that every pick is [`Pick::Down`].
    pub const fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// The ids of all endpoints.
    pub fn ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..self.endpoints.len() as u16).map(EndpointId)
    }

    /// The state of an endpoint; `None` if the id is not of this group.
    pub fn status(&self, endpoint: EndpointId, now: Time) -> Option<EndpointStatus> {
        let endpoint = self.endpoint(endpoint)?;
        let is_up = endpoint.is_up();
        let weight_permille = if is_up { endpoint.weight(self.slow_start, now) } else { 0 };
        Some(EndpointStatus { is_up, in_flight: endpoint.in_flight.get(), weight_permille })
    }

    /// Picks an endpoint for a request and counts the request as in flight there. Slots that are
    /// reserved for woken requests are not given to others.
    pub fn pick(&self, balance_key: BalanceKey, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        let promised = self.queue.borrow().promised();
        let is_for_others = promised > 0 && self.places(now).is_some_and(|places| places <= promised);
        if is_for_others { Pick::Busy } else { self.pick_any(balance_key, excluded, now) }
    }

    /// Picks for a request from the queue. If it was woken, it uses the slot reserved for it.
    pub fn pick_again(&self, waiter: Waiter, balance_key: BalanceKey, excluded: &ExcludedEndpoints, now: Time) -> Pick {
        if self.is_waiting(waiter) {
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

    /// No endpoint is up. Failed requests alone do not make the group refuse requests, so the best
    /// of the endpoints in back-off is used.
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

    /// Ends a request. Call exactly once for each [`Pick::Endpoint`]. If this frees a slot that
    /// another request waits for, [`UpstreamGroup::take_woken`] returns that one.
    pub fn end(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) {
        let Some(entry) = self.endpoint(endpoint) else { return };
        debug_assert!(entry.in_flight.get() > 0, "{endpoint:?} was ended more often than picked");
        entry.in_flight.set(entry.in_flight.get().saturating_sub(1));
        if let Some(counters) = self.counters(endpoint) {
            counters.end();
        }
        // A state change has already woken one waiter per slot, this slot included.
        let has_changed = self.on_verdict(endpoint, verdict, now);
        let frees_a_place = !has_changed && !entry.is_draining();
        if frees_a_place && self.waiting() > 0 {
            self.wake(self.places(now).unwrap_or(0));
        }
    }

    /// Reports a verdict while the request goes on, for example that a WebSocket was accepted,
    /// which may last for hours. When it ends, pass [`HealthVerdict::Neutral`] to
    /// [`UpstreamGroup::end`], or a newer verdict.
    pub fn note(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) {
        self.on_verdict(endpoint, verdict, now);
    }

    /// Reports the result of active health checks, after [`CheckCounter`]. Every endpoint counts as
    /// up until the first report. The worker that checks logs the change, since it knows the reason.
    pub fn set_checked(&self, endpoint: EndpointId, is_up: bool, now: Time) {
        self.update(endpoint, now, |health, _| health.on_checked(is_up, now));
    }

    /// The endpoint that a sticky cookie's value names, if it is one of this group.
    pub fn endpoint_of_tag(&self, tag: &[u8]) -> Option<EndpointId> {
        self.endpoints().find(|(_, endpoint)| endpoint.tag.as_bytes() == tag).map(|(id, _)| id)
    }

    /// The value of a sticky cookie for the endpoint: 16 hexadecimal digits derived from its
    /// address. They stay the same over restarts and changes of the other endpoints. They hide the
    /// address, but are not secret: an attacker who guesses an address can verify the guess.
    ///
    /// # Panics
    /// If the id is not of this group.
    pub fn tag(&self, endpoint: EndpointId) -> &str {
        &self.endpoints[usize::from(endpoint.0)].tag
    }

    /// Queues a request after [`Pick::Busy`]; `false`: the queue is full. `since` is when it began
    /// to wait. A request that was woken without getting a slot passes the same time, and regains
    /// its position.
    pub fn wait(&self, waiter: Waiter, since: Time) -> bool {
        let is_queued = self.queue.borrow_mut().push(waiter, since);
        self.count_queue();
        is_queued
    }

    /// When a request that waits since then times out; `None`: never.
    pub fn wait_deadline(&self, since: Time) -> Option<Time> {
        (!self.queue_config.timeout.is_zero()).then(|| since + self.queue_config.timeout)
    }

    /// Removes a request that no longer waits: it timed out, or its client left. Call it also for
    /// one that was woken but has not picked since, so that the next one is woken in its stead.
    pub fn give_up(&self, waiter: Waiter) {
        self.queue.borrow_mut().remove(waiter);
        self.count_queue();
    }

    /// The next request that should pick again; call until `None`. Call after
    /// [`UpstreamGroup::end`], [`UpstreamGroup::note`], [`UpstreamGroup::set_checked`] and
    /// [`UpstreamGroup::give_up`].
    pub fn take_woken(&self) -> Option<Waiter> {
        self.queue.borrow_mut().pop_woken()
    }

    /// Whether the request is in the queue and has not been woken.
    pub fn is_waiting(&self, waiter: Waiter) -> bool {
        self.queue.borrow().contains(waiter)
    }

    /// Number of requests in the queue.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    fn endpoints(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> + Clone {
        self.endpoints.iter().enumerate().map(|(index, endpoint)| (EndpointId(index as u16), endpoint))
    }

    fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(usize::from(id.0))
    }

    /// Picks one of the endpoints of this tier by the policy.
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
        if let Some(counters) = self.counters(id) {
            counters.begin();
        }
        let mut health = endpoint.health.get();
        if !health.is_up() {
            health.begin(&self.passive, now);
            endpoint.health.set(health);
            if self.waiting() > 0 {
                // The end of a back-off wakes no waiter by itself. If this request was woken, it was
                // for another slot, which is still free.
                self.wake(self.places(now).unwrap_or(0));
            }
        }
        Pick::Endpoint(id)
    }

    /// Returns whether the endpoint went down or came back up.
    fn on_verdict(&self, endpoint: EndpointId, verdict: HealthVerdict, now: Time) -> bool {
        let is_confirmed = |endpoint: &Endpoint| endpoint.health.get().is_confirmed_by(verdict);
        !self.endpoint(endpoint).is_some_and(is_confirmed)
            && self.update(endpoint, now, |health, in_flight| health.on_verdict(verdict, in_flight, &self.passive, now))
    }

    fn update(&self, id: EndpointId, now: Time, change: impl FnOnce(&mut Health, usize) -> Option<Change>) -> bool {
        let Some(endpoint) = self.endpoint(id) else { return false };
        let before = endpoint.health.get();
        let mut health = before;
        let change = change(&mut health, endpoint.in_flight.get());
        endpoint.health.set(health);
        if health != before
            && let Some(counters) = self.counters(id)
        {
            counters.set_up(health.is_up());
        }
        if let Some(change) = change {
            report(endpoint, change);
        }
        // A change that is not logged may also free slots: a renewed back-off lets backups be used.
        if (change.is_some() || health != before) && self.waiting() > 0 {
            // If no endpoint can be used, all waiters are woken to fail.
            self.wake(self.places(now).unwrap_or(usize::MAX));
        }
        change.is_some()
    }

    /// `places` slots are free. Those that are not reserved go to the requests that have waited
    /// longest.
    fn wake(&self, places: usize) {
        let mut queue = self.queue.borrow_mut();
        let places = places.saturating_sub(queue.promised());
        queue.wake(places);
        drop(queue);
        self.count_queue();
    }

    /// Number of free slots for requests that have not tried any endpoint; `None`: no endpoint is
    /// up, and none can be tried.
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
        // The worker that checks has logged it, with the reason.
        Change::ChecksFailed | Change::ChecksPassed => {}
    }
}
