//! [`UpstreamLease`]: one request's use of an upstream. It picks an endpoint of the group and
//! connects to it; if that fails, it picks another one.
//!
//! ```text
//!             an endpoint                      connected
//!   Picking ──────────────► Leased ──────────────────────► (used) ──► Over
//!     │  ▲ ▲                  │ unreachable                  │ lost, to be retried
//!     │  │ └──────────────────┘◄─────────────────────────────┘
//!     ▼  │ a free slot
//!   Queued ──► the queue is full, or its timeout is over: failed
//! ```
//!
//! It reports to the group and releases the connection exactly once, however the session ends. Of
//! all endpoints it tries, only the first failure counts against an endpoint: otherwise one bad
//! request could take several endpoints out. It hands out the connection as bytes, for tunnels, or
//! one [`UpstreamStream`] of it, for a request. It does not know whether a request may be sent
//! again: the session decides.

use std::rc::Rc;
use std::time::Duration;

use super::group::{BalanceKey, EndpointId, ExcludedEndpoints, HealthVerdict, Pick, UpstreamGroup};
use super::pool::{ConnectStatus, ConnectionKey, Release, UpstreamConnection, UpstreamPool};
use super::stream::UpstreamStream;
use super::{ConnectError, KeepAlive, Upstream};
use crate::buffer::{Chunk, Inbox};
use crate::driver::{Ops, Time};
use crate::tcp::CloseKind;
use crate::telemetry::metrics::{EndpointCounters, EndpointFailure};
use crate::transport::Transport;
use crate::waiter::Waiter;

/// One request's use of an upstream, or one tunnel's.
#[derive(Debug)]
pub struct UpstreamLease {
    group: Rc<UpstreamGroup>,
    waiter: Waiter,
    balance_key: BalanceKey,
    excluded: ExcludedEndpoints,
    tries_left: u32,
    connect_timeout: Duration,
    /// Only a new connection may be used, no idle one.
    fresh: bool,
    /// The PROXY header, if connections begin with one.
    announcement: Option<Chunk>,
    /// The last endpoint picked.
    last: Option<EndpointId>,
    /// A failure has been counted against an endpoint. No second one is counted: later endpoints
    /// may fail for the same reason, which is the request's own.
    has_counted: bool,
    times: LeaseTimes,
    /// When the last connect began.
    connect_began: Time,
    state: State,
}

/// What is measured of a lease, for logs.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// Number of connections that were tried.
    pub tries: u32,
    /// Time in the queue.
    pub queue: Duration,
    /// Time of the last connect, with the look-up of the name and the TLS handshake; zero for an idle
    /// connection.
    pub connect: Duration,
    /// What it waits for, or waited for at its end.
    pub stage: LeaseStage,
}

/// What a lease waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStage {
    /// An endpoint.
    Picking,
    /// A free slot.
    Queued,
    /// The connection.
    Connecting,
    /// Nothing: it is connected.
    Connected,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Picking {
        after: Option<ConnectError>,
    },
    Queued {
        since: Time,
    },
    Leased {
        endpoint: EndpointId,
        connection: ConnectionKey,
    },
    /// No endpoint could be picked or connected to.
    Failed(Unreachable),
    Over,
}

/// How often, and how long, to try to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectPolicy {
    /// Maximum of endpoints to try; 0: all of the group.
    pub tries_max: u32,
    /// Timeout of the look-up, and of the connect to each address; zero: no limit.
    pub connect_timeout: Duration,
}

/// Progress of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Waiting for a free slot, the look-up or the connect.
    Wait,
    /// Connected.
    Ready,
    /// Failed for good.
    Failed(Unreachable),
}

/// Why no upstream could be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Every endpoint is down, by the health checks or the configuration.
    #[error("no upstream is up")]
    Down,
    /// Every endpoint is at its connection limit, and the queue is full.
    #[error("all upstreams are busy, and the queue is full")]
    QueueFull,
    /// Every endpoint stayed at its connection limit until the queue timeout.
    #[error("all upstreams were busy for too long")]
    QueueTimedOut,
    /// The connection to the last endpoint tried failed.
    #[error("{0}")]
    Connect(ConnectError),
}

impl UpstreamLease {
    /// A lease that has not begun. `announcement`: the PROXY header, if the group's connections begin with
    /// one.
    pub fn new(
        group: Rc<UpstreamGroup>,
        waiter: Waiter,
        balance_key: BalanceKey,
        connect_policy: ConnectPolicy,
        announcement: Option<Chunk>,
    ) -> Self {
        debug_assert_eq!(group.announces().is_some(), announcement.is_some(), "the group says whether there is one");
        let tries_left = if connect_policy.tries_max == 0 { group.len() as u32 } else { connect_policy.tries_max };
        let ConnectPolicy { connect_timeout, .. } = connect_policy;
        let state = State::Picking { after: None };
        // With a PROXY header, an idle connection was announced as another session's client.
        let fresh = group.announces().is_some();
        let (excluded, last, has_counted) = (ExcludedEndpoints::default(), None, false);
        let (queue, connect) = (Duration::ZERO, Duration::ZERO);
        let times = LeaseTimes { tries: 0, queue, connect, stage: LeaseStage::Picking };
        Self {
            group,
            waiter,
            balance_key,
            excluded,
            tries_left,
            connect_timeout,
            fresh,
            announcement,
            last,
            has_counted,
            times,
            connect_began: Time::ZERO,
            state,
        }
    }

    /// Advances, and returns the progress.
    pub fn pump(&mut self, pool: &mut UpstreamPool, now: Time, ops: &mut Ops) -> Progress {
        loop {
            match self.state {
                State::Picking { after } => {
                    if let Some(progress) = self.pick(after, pool, now) {
                        return progress;
                    }
                }
                State::Queued { since } => {
                    if let Some(progress) = self.pick_again(since, pool, now) {
                        return progress;
                    }
                }
                State::Leased { endpoint, connection } => {
                    let mut is_reused = false;
                    let poll_connect = pool.get_mut(connection).map(|found| {
                        is_reused = found.is_reused();
                        found.poll_connect(now, ops)
                    });
                    match poll_connect {
                        Some(ConnectStatus::Ready(_)) => {
                            if !is_reused && self.times.stage == LeaseStage::Connecting {
                                let nanos = now.as_nanos().saturating_sub(self.connect_began.as_nanos());
                                self.count(|counters| counters.count_connect(nanos));
                            }
                            self.note_connect(LeaseStage::Connected, now);
                            return Progress::Ready;
                        }
                        Some(ConnectStatus::Underway) => return Progress::Wait,
                        Some(ConnectStatus::Failed(error)) => {
                            self.note_connect(LeaseStage::Connecting, now);
                            tracing::debug!(upstream = %self.group.upstream(endpoint).address(), %error, "unreachable");
                            if !error.is_shortage() {
                                let failure = failure_of(error);
                                self.count(|counters| counters.count_failure(failure));
                            }
                            if self.tries_left > 0 {
                                self.count(EndpointCounters::count_retry);
                            }
                            let verdict =
                                if error.is_shortage() { HealthVerdict::Neutral } else { HealthVerdict::Failure };
                            self.settle(Release::Close(CloseKind::Fin), verdict, pool, now);
                            self.state = State::Picking { after: Some(error) };
                        }
                        None => return Progress::Wait,
                    }
                }
                State::Failed(_) | State::Over => return Progress::Wait,
            }
        }
    }

    /// Picks an endpoint; `None`: one is picked.
    fn pick(&mut self, after: Option<ConnectError>, pool: &mut UpstreamPool, now: Time) -> Option<Progress> {
        if self.tries_left == 0 {
            return Some(self.fail(after.map_or(Unreachable::Down, Unreachable::Connect), now));
        }
        match self.group.pick(self.balance_key, &self.excluded, now) {
            Pick::Endpoint(endpoint) => {
                self.lease(endpoint, pool, now);
                None
            }
            Pick::Busy if self.group.wait(self.waiter, now) => {
                self.state = State::Queued { since: now };
                self.times.stage = LeaseStage::Queued;
                Some(Progress::Wait)
            }
            Pick::Busy => Some(self.fail(Unreachable::QueueFull, now)),
            Pick::Down => Some(self.fail(after.map_or(Unreachable::Down, Unreachable::Connect), now)),
        }
    }

    /// Picks an endpoint after having waited; `None`: one is picked.
    fn pick_again(&mut self, since: Time, pool: &mut UpstreamPool, now: Time) -> Option<Progress> {
        match self.group.pick_again(self.waiter, self.balance_key, &self.excluded, now) {
            Pick::Endpoint(endpoint) => {
                self.leave_queue();
                self.times.queue += now.since(since);
                self.lease(endpoint, pool, now);
                None
            }
            Pick::Down => Some(self.fail(Unreachable::Down, now)),
            Pick::Busy if self.group.wait_deadline(since).is_some_and(|until| until <= now) => {
                Some(self.fail(Unreachable::QueueTimedOut, now))
            }
            // It was woken, but the slot is gone: it queues again.
            Pick::Busy if !self.group.is_waiting(self.waiter) && !self.group.wait(self.waiter, since) => {
                Some(self.fail(Unreachable::QueueFull, now))
            }
            Pick::Busy => Some(Progress::Wait),
        }
    }

    /// Leaves the queue. A session that was woken has left already, and uses the slot reserved for
    /// it.
    fn leave_queue(&self) {
        if self.group.is_waiting(self.waiter) {
            self.group.give_up(self.waiter);
        }
    }

    fn lease(&mut self, endpoint: EndpointId, pool: &mut UpstreamPool, now: Time) {
        // The pick may have begun a trial, which frees other slots that sessions wait for.
        self.wake_waiting(pool);
        self.tries_left = self.tries_left.saturating_sub(1);
        self.excluded.insert(endpoint);
        self.last = Some(endpoint);
        self.times.tries += 1;
        self.times.stage = LeaseStage::Connecting;
        self.connect_began = now;
        let upstream = self.group.upstream(endpoint);
        let preamble = if upstream.address().is_tls() { self.announcement.clone() } else { None };
        let connection = pool.acquire(upstream, self.waiter, self.fresh, self.connect_timeout, preamble);
        self.state = State::Leased { endpoint, connection };
    }

    fn fail(&mut self, why: Unreachable, now: Time) -> Progress {
        if let State::Queued { since } = self.state {
            self.leave_queue();
            self.times.queue += now.since(since);
        }
        self.state = State::Failed(why);
        Progress::Failed(why)
    }

    /// Retries after the connection was lost: on a new connection to any endpoint if the lost one
    /// was reused, else on another endpoint. `false`: no tries are left.
    pub fn retry(&mut self, pool: &mut UpstreamPool, now: Time) -> bool {
        let was_reused = self.is_reused(pool);
        if was_reused {
            // An upstream may close an idle connection at any time: that is no failure and costs no
            // try.
            self.fresh = true;
            self.tries_left += 1;
            self.excluded = ExcludedEndpoints::default();
        }
        let verdict = if was_reused { HealthVerdict::Neutral } else { HealthVerdict::Failure };
        if !was_reused {
            self.count(|counters| counters.count_failure(EndpointFailure::Response));
        }
        if self.tries_left > 0 {
            self.count(EndpointCounters::count_retry);
        }
        self.settle(Release::Close(CloseKind::Fin), verdict, pool, now);
        self.state = State::Picking { after: None };
        self.tries_left > 0
    }

    /// Ends the use of a stream whose response is complete. If both messages are complete and the
    /// upstream allows it, its connection is kept for later requests, within `keep_alive`. A request
    /// body that is not complete is broken off.
    pub fn complete(&mut self, keep_alive: KeepAlive, pool: &mut UpstreamPool, now: Time) {
        let release = match self.upstream_connection(pool) {
            Some(connection) => connection.release_after_response(keep_alive),
            None => Release::Close(CloseKind::Fin),
        };
        // `note_response` has counted the success.
        self.finish(release, HealthVerdict::Neutral, pool, now);
    }

    /// Gives up a stream whose exchange is not complete, and tells the upstream.
    pub fn reset(&mut self, verdict: HealthVerdict, pool: &mut UpstreamPool, now: Time) {
        self.finish(Release::Close(CloseKind::Reset), verdict, pool, now);
    }

    /// Ends the session's use of the upstream.
    pub fn finish(&mut self, release: Release, verdict: HealthVerdict, pool: &mut UpstreamPool, now: Time) {
        if let State::Queued { since } = self.state {
            // Also if it was woken: then the slot goes to the next one.
            self.group.give_up(self.waiter);
            self.wake_waiting(pool);
            self.times.queue += now.since(since);
        }
        self.note_connect(self.times.stage, now);
        if verdict == HealthVerdict::Failure {
            self.count(|counters| counters.count_failure(EndpointFailure::Response));
        }
        self.settle(release, verdict, pool, now);
        self.state = State::Over;
    }

    fn settle(&mut self, release: Release, verdict: HealthVerdict, pool: &mut UpstreamPool, now: Time) {
        if let State::Leased { endpoint, connection } = self.state {
            let release = match release {
                Release::Keep(_) if self.group.announces().is_some() => Release::Close(CloseKind::Fin),
                release => release,
            };
            let verdict = match verdict {
                HealthVerdict::Failure if std::mem::replace(&mut self.has_counted, true) => HealthVerdict::Neutral,
                verdict => verdict,
            };
            pool.release(connection, release, now);
            self.group.end(endpoint, verdict, now);
            self.wake_waiting(pool);
        }
    }

    /// Counts something of the endpoint in use, if its requests are counted.
    fn count(&self, count: impl FnOnce(&EndpointCounters)) {
        if let Some(counters) = self.endpoint().and_then(|endpoint| self.group.counters(endpoint)) {
            count(counters);
        }
    }

    /// Measures the connect if one is under way. `stage`: what follows it.
    fn note_connect(&mut self, stage: LeaseStage, now: Time) {
        if self.times.stage == LeaseStage::Connecting {
            self.times.connect = now.since(self.connect_began);
            self.times.stage = stage;
        }
    }

    fn wake_waiting(&self, pool: &mut UpstreamPool) {
        while let Some(waiter) = self.group.take_woken() {
            pool.wake(waiter);
        }
    }

    /// Reports that the upstream has responded, whatever happens to the rest of the response.
    pub fn note_response(&self, pool: &mut UpstreamPool, now: Time) {
        if let State::Leased { endpoint, .. } = self.state {
            let connected = self.connect_began + self.times.connect;
            let nanos = now.as_nanos().saturating_sub(connected.as_nanos());
            self.count(|counters| counters.count_response(nanos));
            self.group.note(endpoint, HealthVerdict::Success, now);
            self.wake_waiting(pool);
        }
    }

    /// Whether its connection has carried earlier requests.
    pub fn is_reused(&self, pool: &mut UpstreamPool) -> bool {
        self.upstream_connection(pool).is_some_and(|connection| connection.is_reused())
    }

    fn upstream_connection<'l>(&self, pool: &'l mut UpstreamPool) -> Option<&'l mut UpstreamConnection> {
        match self.state {
            State::Leased { connection, .. } => pool.get_mut(connection),
            State::Picking { .. } | State::Queued { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// The connection as bytes, and those received, once it is connected. For what is no request;
    /// after an upgrade, for what follows it.
    pub fn bytes<'l>(&self, pool: &'l mut UpstreamPool) -> Option<(&'l mut Transport, &'l mut Inbox)> {
        self.upstream_connection(pool)?.bytes()
    }

    /// The request's stream, once it is connected.
    pub fn stream<'l>(&self, pool: &'l mut UpstreamPool) -> Option<UpstreamStream<'l>> {
        self.upstream_connection(pool)?.stream()
    }

    /// The PROXY header that has to precede the first bytes to the endpoint in use. `None`: there is none,
    /// or it has preceded TLS.
    pub fn announcement(&self) -> Option<Chunk> {
        let endpoint = self.endpoint()?;
        self.announcement.clone().filter(|_| !self.group.upstream(endpoint).address().is_tls())
    }

    /// The endpoint in use, or being connected to.
    pub const fn endpoint(&self) -> Option<EndpointId> {
        match self.state {
            State::Leased { endpoint, .. } => Some(endpoint),
            State::Picking { .. } | State::Queued { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// The upstream of the last endpoint picked.
    pub fn upstream(&self) -> Option<&Rc<Upstream>> {
        self.last.map(|endpoint| self.group.upstream(endpoint))
    }

    /// What was measured.
    pub const fn times(&self) -> LeaseTimes {
        self.times
    }

    /// The group that endpoints are picked from.
    pub const fn group(&self) -> &Rc<UpstreamGroup> {
        &self.group
    }

    /// When to pump it next.
    pub fn deadline(&self, pool: &mut UpstreamPool) -> Option<Time> {
        match self.state {
            State::Queued { since } => self.group.wait_deadline(since),
            State::Leased { .. } => self.upstream_connection(pool)?.deadline(),
            State::Picking { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// Whether it is in the queue and has not been woken.
    pub fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued { .. }) && self.group.is_waiting(self.waiter)
    }

    /// Whether it has failed or finished.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Over)
    }

    /// The reason, if it has failed.
    pub const fn failure(&self) -> Option<Unreachable> {
        match self.state {
            State::Failed(why) => Some(why),
            State::Picking { .. } | State::Queued { .. } | State::Leased { .. } | State::Over => None,
        }
    }
}

const fn failure_of(error: ConnectError) -> EndpointFailure {
    match error {
        ConnectError::Resolve(_) => EndpointFailure::Resolve,
        ConnectError::Refused { .. } => EndpointFailure::Connect,
        ConnectError::ResolveTimedOut | ConnectError::TimedOut(_) => EndpointFailure::ConnectTimeout,
        ConnectError::Tls { .. } => EndpointFailure::Tls,
    }
}
