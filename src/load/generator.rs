//! [`Generator`]: the part of a run that one thread does, as a state machine on completions.
//!
//! ```text
//!   Opening ─────────────► Running ───────────► Draining ─────────► Closing ──► Done
//!     │  all connections     warm-up, then        an open loop         all connections
//!     │  are made            measuring            waits for what       are being closed
//!     └── none can be made ──────────────────────  was due ──────────────▲
//! ```
//!
//! In a closed loop each connection has as many requests in progress as the plan says. In an open loop
//! requests become due by the clock, and go to the connection that has been free for longest. A connection
//! that ends is replaced; one that cannot be made is tried again after a pause.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::connection::{Connection, Role, Status};
use super::exchange::{Judge, Prepared, Turns};
use super::plan::{Origin, Plan, Stop, TcpMode, Work};
use super::processor;
use super::progress::Progress;
use super::run_delay::RunDelay;
use super::schedule::Schedule;
use super::tally::{ErrorKind, Tally, record};
use crate::core::{Environment, Machine, settle};
use crate::driver::{Completion, KernelDriver, Ops, Time};
use crate::table::{Key, Table};
use crate::tcp::CloseKind;
use crate::upstream::{ConnectError, OutboundConnection, OutboundTokens, Upstream};

/// The kind of the tokens of its connections.
const CONNECTION: u8 = 0;

/// How long it waits before it tries again to make a connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Time-outs are looked for this often within one, and slow readers are let read on. Each look goes through all
/// connections.
const SCANS_PER_TIMEOUT: u32 = 8;
const SCAN_INTERVAL_MIN: Duration = Duration::from_millis(10);
const SCAN_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Connections that are being made at the same time. More overflow the backlog of the server's listener.
const CONNECTING_MAX: usize = 256;

type ConnectionKey = Key<Connection>;

/// One thread's part of a run.
#[derive(Debug)]
pub struct Generator {
    ops: Ops,
    plan: Plan,
    origins: Vec<OriginState>,
    turns: Turns,
    connections: Table<Connection>,
    /// Those that have something to do in this turn.
    marked: Vec<ConnectionKey>,
    /// Those that can take a request of an open loop, in the order in which they became free.
    free: VecDeque<ConnectionKey>,
    /// Connections to be made.
    missing: Missing,
    schedule: Schedule,
    tally: Tally,
    phase: Phase,
    next_scan: Time,
    progress: Progress,
    run_delay: RunDelay,
    /// Why the last connection could not be made.
    unreachable: Option<(usize, ConnectError)>,
    /// What was spoken.
    protocols: BTreeSet<&'static str>,
    /// Bytes of connections that have ended.
    ended_bytes: (u64, u64),
    /// Bytes sent and received when measuring began.
    first_bytes: (u64, u64),
    /// How long its thread had run when measuring began, and then how long it ran until the end.
    busy: Duration,
    is_new: bool,
}

/// One origin, as this thread knows it.
#[derive(Debug)]
struct OriginState {
    upstream: Rc<Upstream>,
    work: Work,
    prepared: Prepared,
}

/// Connections that are to be made.
#[derive(Debug, Default)]
struct Missing {
    load: u32,
    idle: u32,
    slow: u32,
    /// Being made.
    connecting: usize,
    /// Not before this, after one could not be made.
    not_before: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The first connections are made.
    Opening,
    /// Requests are sent.
    Running {
        /// When the warm-up ends; `None`: it is measuring.
        warm_at: Option<Time>,
        /// When it ends.
        end: Option<Time>,
    },
    /// No request becomes due any more.
    Draining {
        end: Time,
        /// When what has not been answered counts as timed out.
        until: Time,
    },
    /// All connections are being closed.
    Closing { end: Time },
}

/// What one thread has found out.
#[derive(Debug)]
pub struct ThreadResult {
    /// What it counted.
    pub tally: Tally,
    /// How long it measured.
    pub measured: Duration,
    /// How long its thread ran on a processor meanwhile.
    pub busy: Duration,
    /// What was spoken.
    pub protocols: BTreeSet<&'static str>,
    /// Why nothing could be measured: no connection could be made. With the index of the origin.
    pub unreachable: Option<(usize, ConnectError)>,
}

impl Generator {
    /// The part of a thread, as [`Plan::share`] gives it.
    pub fn new(plan: Plan, progress: Progress, now: Time) -> Self {
        let closes = plan.requests_per_connection == Some(1);
        let origins: Vec<_> = plan.origins.iter().map(|origin| OriginState::new(origin, closes)).collect();
        let turns = Turns::new(plan.origins.iter().map(Origin::weight));
        let missing =
            Missing { load: plan.connections, idle: plan.idle, slow: plan.slow, connecting: 0, not_before: None };
        Self {
            ops: Ops::new(),
            turns,
            origins,
            connections: Table::new(),
            marked: Vec::new(),
            free: VecDeque::new(),
            missing,
            schedule: Schedule::new(plan.rate),
            tally: Tally::new(now, plan.rate.is_some()),
            phase: Phase::Opening,
            next_scan: now,
            progress,
            run_delay: RunDelay::new(),
            unreachable: None,
            protocols: BTreeSet::new(),
            ended_bytes: (0, 0),
            first_bytes: (0, 0),
            busy: Duration::ZERO,
            is_new: true,
            plan,
        }
    }

    /// What it has found out, once it has ended.
    pub fn result(mut self) -> ThreadResult {
        let end = match self.phase {
            Phase::Closing { end } | Phase::Draining { end, .. } => end,
            Phase::Opening | Phase::Running { .. } => self.tally.start(),
        };
        self.tally.unsent = self.schedule.unsent();
        let has_any = self.tally.requests > 0 || self.tally.errors.total() > self.tally.errors.connect;
        let unreachable = self.unreachable.filter(|_| !has_any);
        ThreadResult {
            measured: end.since(self.tally.start()),
            tally: self.tally,
            busy: self.busy,
            protocols: self.protocols,
            unreachable,
        }
    }

    /// Makes connections that are missing.
    fn connect(&mut self, now: Time) {
        if self.missing.not_before.is_some_and(|at| at > now) || matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        self.missing.not_before = None;
        // Nothing is left to be asked.
        if self.schedule.is_used_up() {
            self.missing.load = 0;
        }
        while self.missing.connecting < CONNECTING_MAX
            && let Some(role) = self.missing.take()
        {
            self.missing.connecting += 1;
            let origin = self.turns.next();
            let upstream = Rc::clone(&self.origins[origin].upstream);
            let timeout = self.plan.timeout;
            let key = self.connections.insert_with(|key| {
                let tokens = OutboundTokens { machine: key.raw(), kind: CONNECTION };
                Connection::new(OutboundConnection::new(upstream, tokens, timeout), origin, role, now)
            });
            self.mark(key);
        }
    }

    fn mark(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_marked, true)
        {
            self.marked.push(key);
        }
    }

    /// Records an outcome.
    fn on_completion(&mut self, Completion { id, outcome }: Completion, now: Time) {
        let Some(token) = settle(&mut self.ops, id, &outcome) else { return };
        let key = token.machine.typed();
        if let Some(connection) = self.connections.get_mut(key) {
            connection.on_outcome(token, outcome, now);
            if !std::mem::replace(&mut connection.is_marked, true) {
                self.marked.push(key);
            }
        }
    }

    /// Advances one connection: reads its responses, and sends what it may.
    fn pump(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.is_marked = false;
        let OriginState { work, prepared, .. } = &mut self.origins[connection.origin];
        let is_load = connection.role == Role::Load;
        let mut judge = Judge {
            now,
            counts_from: self.tally.start(),
            expect: &self.plan.expect,
            tally: (is_load && self.phase.counts()).then_some(&mut self.tally),
        };
        let before = connection.transferred();
        let mut status = connection.advance(work, prepared, &self.plan, &mut judge, &mut self.ops);
        if let Status::Connected = status {
            self.missing.connecting -= 1;
            self.protocols.extend(connection.protocol());
            if is_load && self.phase.counts() && connection.connecting_since() >= self.tally.start() {
                record(&mut self.tally.connect_time, now.since(connection.connecting_since()));
            }
            let mut judge = Judge { now, counts_from: self.tally.start(), expect: &self.plan.expect, tally: None };
            status = connection.advance(work, prepared, &self.plan, &mut judge, &mut self.ops);
        }
        match status {
            Status::Connecting | Status::Connected => {}
            Status::Open => self.send(key, now),
            Status::Unreachable(error) => self.on_unreachable(key, error, now),
            Status::Ended => self.on_ended(key, before),
        }
    }

    /// Sends requests on a connection that is open.
    fn send(&mut self, key: ConnectionKey, now: Time) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let requests_max = self.plan.requests_per_connection;
        let prepared = &mut self.origins[connection.origin].prepared;
        let is_load = connection.role == Role::Load;
        let mut judge = Judge {
            now,
            counts_from: self.tally.start(),
            expect: &self.plan.expect,
            tally: (is_load && self.phase.counts()).then_some(&mut self.tally),
        };
        let mut may_request = connection.may_request(requests_max);
        while may_request && self.phase.sends() {
            let intended = if is_load { self.schedule.take(now) } else { Some(now) };
            let Some(intended) = intended else { break };
            connection.request(prepared, intended, &mut judge);
            may_request = connection.may_request(requests_max);
        }
        if may_request && is_load && self.plan.rate.is_some() && !connection.is_listed {
            connection.is_listed = true;
            self.free.push_back(key);
        }
        connection.flush(now, &mut self.ops);
        let is_spent = requests_max.is_some() && !may_request && !connection.is_busy() && connection.role != Role::Idle;
        if is_spent || connection.is_over() {
            let before = connection.transferred();
            let is_reset = matches!(&self.origins[connection.origin].work, Work::Tcp { mode: TcpMode::Connect, .. });
            connection.close(if is_reset { CloseKind::Reset } else { CloseKind::Fin }, &mut self.ops, now);
            self.on_ended(key, before);
        }
    }

    fn on_unreachable(&mut self, key: ConnectionKey, error: ConnectError, now: Time) {
        let Some(connection) = self.connections.remove(key) else { return };
        self.missing.connecting -= 1;
        self.missing.add(connection.role);
        self.missing.not_before = Some(now + RECONNECT_PAUSE);
        self.unreachable = Some((connection.origin, error));
        // It takes the place of a request: else a server that is gone would never have been asked often enough.
        if connection.role == Role::Load && self.phase.counts() && self.schedule.take(now).is_some() {
            self.tally.on_error(ErrorKind::Connect, now);
        }
        tracing::debug!(%error, "connection failed");
    }

    /// A connection is closing: another one takes its place.
    fn on_ended(&mut self, key: ConnectionKey, before: (u64, u64)) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.has_ended, true) {
            self.ended_bytes.0 += before.0;
            self.ended_bytes.1 += before.1;
            self.missing.add(connection.role);
        }
        if connection.is_closed() {
            self.connections.remove(key);
        }
    }

    /// Sends what is due on connections that are free.
    fn dispatch(&mut self, now: Time) {
        while self.schedule.has_any()
            && let Some(key) = self.free.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_listed = false;
                if connection.may_request(self.plan.requests_per_connection) {
                    self.send(key, now);
                }
            }
        }
    }

    /// Acts on time-outs, and lets slow readers read on.
    fn scan(&mut self, now: Time) {
        self.next_scan = now + self.scan_interval();
        // At the start of the clock nothing has been sent for that long.
        let sent_before = Time::from_nanos(now.as_nanos().saturating_sub(self.plan.timeout.as_nanos() as u64));
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let is_load = connection.role == Role::Load;
            let mut judge = Judge {
                now,
                counts_from: self.tally.start(),
                expect: &self.plan.expect,
                tally: (is_load && self.phase.counts()).then_some(&mut self.tally),
            };
            let before = connection.transferred();
            if is_load && connection.time_out(sent_before, &mut judge) {
                connection.close(CloseKind::Reset, &mut self.ops, now);
                self.on_ended(key, before);
            } else {
                connection.read_on();
                self.mark(key);
            }
        }
    }

    fn scan_interval(&self) -> Duration {
        (self.plan.timeout / SCANS_PER_TIMEOUT).clamp(SCAN_INTERVAL_MIN, SCAN_INTERVAL_MAX)
    }

    /// Goes from phase to phase.
    fn advance(&mut self, now: Time) {
        if self.progress.is_stopped() && !matches!(self.phase, Phase::Closing { .. }) {
            return self.finish(now, now);
        }
        match self.phase {
            Phase::Opening => {
                let is_open = self.missing.is_none() && self.missing.connecting == 0;
                let has_failed = self.unreachable.is_some() && self.missing.connecting == 0;
                if is_open {
                    self.begin(now);
                } else if has_failed && self.connections.is_empty() {
                    self.finish(now, now);
                } else if has_failed {
                    self.begin(now);
                }
            }
            // From the moment itself on, although it was noticed later: a schedule then has as many requests as its rate
            // and the time say.
            Phase::Running { warm_at: Some(warm_at), .. } if warm_at <= now => self.measure(warm_at),
            Phase::Running { warm_at: None, end: Some(end) } if end <= now => {
                self.schedule.stop();
                if self.plan.rate.is_some() {
                    self.phase = Phase::Draining { end, until: end + self.plan.timeout };
                } else {
                    self.finish(end, now);
                }
            }
            Phase::Running { end: None, .. } if self.schedule.is_used_up() && !self.is_busy() => self.finish(now, now),
            Phase::Draining { end, .. } if !self.schedule.has_any() && !self.is_busy() => self.finish(end, now),
            Phase::Draining { end, until } if until <= now => {
                self.fail_all(now);
                self.finish(end, now);
            }
            Phase::Running { .. } | Phase::Draining { .. } | Phase::Closing { .. } => {}
        }
    }

    /// Begins to send requests.
    fn begin(&mut self, now: Time) {
        self.schedule.begin(now);
        if self.plan.warmup.is_zero() {
            self.measure(now);
        } else {
            self.phase = Phase::Running { warm_at: Some(now + self.plan.warmup), end: None };
        }
        self.mark_all();
    }

    /// Counts from `start` on.
    fn measure(&mut self, start: Time) {
        self.tally = Tally::new(start, self.plan.rate.is_some());
        self.first_bytes = self.transferred();
        self.busy = processor::thread_time().unwrap_or_default().0;
        let end = match self.plan.stop {
            Stop::Requests(requests) => {
                self.schedule.limit(requests, start);
                None
            }
            Stop::After(duration) => {
                self.schedule.end_at(start + duration);
                Some(start + duration)
            }
        };
        self.phase = Phase::Running { warm_at: None, end };
        self.progress.on_measuring();
    }

    /// Closes everything. `end`: when measuring ended.
    fn finish(&mut self, end: Time, now: Time) {
        let (sent, received) = self.transferred();
        self.tally.sent_bytes = sent - self.first_bytes.0;
        self.tally.received_bytes = received - self.first_bytes.1;
        if self.phase.counts() {
            self.busy = processor::thread_time().unwrap_or_default().0.saturating_sub(self.busy);
            self.progress.on_measured();
        }
        self.phase = Phase::Closing { end };
        let keys: Vec<_> = self.connections.keys().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.close(CloseKind::Fin, &mut self.ops, now);
                if connection.is_closed() {
                    self.connections.remove(key);
                }
            }
        }
    }

    /// Counts what is in progress, and what is due and was not sent, as timed out.
    fn fail_all(&mut self, now: Time) {
        let Self { tally, connections, plan, schedule, .. } = self;
        let counts_from = tally.start();
        for key in connections.keys().collect::<Vec<_>>() {
            if let Some(connection) = connections.get_mut(key).filter(|connection| connection.role == Role::Load) {
                let mut judge = Judge { now, counts_from, expect: &plan.expect, tally: Some(&mut *tally) };
                connection.fail(ErrorKind::Timeout, &mut judge);
            }
        }
        (0..schedule.unsent()).for_each(|_| tally.on_error(ErrorKind::Timeout, now));
    }

    fn is_busy(&self) -> bool {
        self.connections.iter().any(|(_, connection)| connection.role == Role::Load && connection.is_busy())
    }

    /// Bytes sent and received so far.
    fn transferred(&mut self) -> (u64, u64) {
        let (mut sent, mut received) = self.ended_bytes;
        for key in self.connections.keys().collect::<Vec<_>>() {
            if let Some(connection) = self.connections.get_mut(key) {
                let (more_sent, more_received) = connection.transferred();
                sent += more_sent;
                received += more_received;
            }
        }
        (sent, received)
    }

    fn mark_all(&mut self) {
        self.connections.keys().collect::<Vec<_>>().into_iter().for_each(|key| self.mark(key));
    }

    /// Takes note of requests that have become due.
    fn pace(&mut self, now: Time) {
        let Self { schedule, tally, run_delay, .. } = self;
        if schedule.next_due().is_none_or(|due| due > now) {
            return;
        }
        let off_processor = run_delay.since_last(now);
        schedule.advance(now, |delay| {
            record(&mut tally.pacing, delay);
            if let Some(off_processor) = off_processor {
                record(&mut tally.pacing_on_processor, delay.saturating_sub(off_processor));
            }
        });
    }

    fn next_time(&self) -> Option<Time> {
        let phase = match self.phase {
            Phase::Running { warm_at, end } => Time::earliest(warm_at, end),
            Phase::Draining { until, .. } => Some(until),
            Phase::Opening | Phase::Closing { .. } => None,
        };
        let due = Time::earliest(self.schedule.next_due(), self.missing.not_before);
        Time::earliest(Time::earliest(phase, due), Some(self.next_scan))
    }
}

impl Machine for Generator {
    fn ops(&mut self) -> &mut Ops {
        &mut self.ops
    }

    fn wait(&self, now: Time) -> Option<Duration> {
        // What was marked at the end of a turn has something to do, which no completion may announce.
        let is_due = self.is_new || !self.marked.is_empty();
        if is_due { Some(Duration::ZERO) } else { self.next_time().map(|at| at.since(now)) }
    }

    fn on_wake(&mut self, _driver: &mut impl KernelDriver, now: Time) {
        self.advance(now);
    }

    fn on_turn(&mut self, environment: Environment, done: &mut Vec<Completion>) {
        let now = environment.now;
        self.is_new = false;
        for completion in done.drain(..) {
            self.on_completion(completion, now);
        }
        // Before anything is sent: what is sent at the moment at which measuring begins counts, and has to be within
        // the number of requests.
        self.advance(now);
        self.pace(now);
        if self.next_scan <= now {
            self.scan(now);
        }
        // New connections are marked, too, and an end makes room for one.
        loop {
            self.connect(now);
            let mut marked = std::mem::take(&mut self.marked);
            if marked.is_empty() {
                break;
            }
            for key in marked.drain(..) {
                self.pump(key, now);
            }
            if self.marked.is_empty() {
                self.marked = marked;
            }
        }
        self.dispatch(now);
        self.advance(now);
        self.progress.set(self.tally.requests, self.tally.errors.total());
    }

    fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. }) && self.connections.is_empty()
    }
}

impl OriginState {
    fn new(origin: &Origin, closes: bool) -> Self {
        let prepared = match &origin.work {
            Work::Http { targets, .. } => Prepared::new(targets, closes),
            Work::Tcp { .. } => Prepared::new(&[], closes),
        };
        let upstream = Upstream::new(origin.address.clone(), origin.tls.clone());
        Self { upstream, work: origin.work.clone(), prepared }
    }
}

impl Missing {
    fn take(&mut self) -> Option<Role> {
        let (count, role) = if self.load > 0 {
            (&mut self.load, Role::Load)
        } else if self.slow > 0 {
            (&mut self.slow, Role::Slow)
        } else if self.idle > 0 {
            (&mut self.idle, Role::Idle)
        } else {
            return None;
        };
        *count -= 1;
        Some(role)
    }

    const fn add(&mut self, role: Role) {
        match role {
            Role::Load => self.load += 1,
            Role::Slow => self.slow += 1,
            Role::Idle => self.idle += 1,
        }
    }

    const fn is_none(&self) -> bool {
        self.load == 0 && self.idle == 0 && self.slow == 0
    }
}

impl Phase {
    /// Whether what happens is counted.
    const fn counts(self) -> bool {
        matches!(self, Self::Running { warm_at: None, .. } | Self::Draining { .. })
    }

    /// Whether requests are sent.
    const fn sends(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Draining { .. })
    }
}
