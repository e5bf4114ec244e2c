//! [`Core`]: the state of one worker, without the kernel.
//!
//! It owns the listeners, the sessions, the timers and the list of operations in flight. Each turn
//! it takes the driver's completions and queues new operations:
//!
//! ```text
//!   completions ──► record ──► dirty sessions ──► pump each once ──► operations
//!   the time ─────► expire ───────▲                      └─► arm its timer, or free it
//! ```
//!
//! It does not depend on the driver in use, on threads or on signals.

mod invariants;
mod plan;

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::handshakes::Handshakes;
use super::limit_notice::LimitNotice;
use super::live_counts::LiveCounts;
use super::timer_wheel::{TimerId, TimerWheel};
use super::worker::settle;
use crate::config::Limits;
use crate::driver::{Completion, Fault, Ops, Outcome, Peer, Socket, Time, TlsFault, Token};
use crate::file::store::{STORE, Store};
use crate::http::DateLine;
use crate::http::multipart::Boundaries;
use crate::limit::{Admission, Denied};
use crate::session::{Accepted, CloseReason, Context, ListenerContext, SESSION, Session, SessionEnd, Slot};
use crate::table::{Key, Table};
use crate::tcp::Listener;
use crate::telemetry::metrics::{Gauges, ListenerCounters, RefusalKind, TimeoutKind, WorkerCounters};
use crate::upstream::{HEALTH_MONITOR, HealthMonitor, UPSTREAM_CONNECTION, UpstreamPool};
use crate::waiter::{SessionKey, SessionTable, Waiter};

/// Token kind of listeners.
const LISTENER: u8 = 0;

/// Connections accepted beyond the limit, per worker, only to answer 503. Any more stay in the
/// backlog.
const OVER_LIMIT_MAX: usize = 64;

/// The state of one worker.
#[derive(Debug)]
pub struct Core {
    ops: Ops,
    limits: Limits,
    /// Bytes of receive buffers that one connection may hold at present.
    share: usize,
    admission: Arc<Admission>,
    phase: WorkerPhase,
    listeners: Table<ActiveListener>,
    /// Something changed that determines how many connections the listeners may accept.
    listeners_due: bool,
    sessions: Table<SessionSlot, SessionTable>,
    /// Number of connections accepted so far.
    accepted: u64,
    /// Number of sessions accepted beyond the limit, only to answer 503.
    over_limit: usize,
    handshakes: Handshakes,
    timers: TimerWheel<TimerKind>,
    /// Sessions to pump before the turn ends, each once.
    dirty: Vec<SessionKey>,
    store: Store,
    upstream_pool: UpstreamPool,
    health_monitor: HealthMonitor,
    /// The timer that closes expired upstream connections, if armed.
    upstream_expiry: Option<(TimerId, Time)>,
    /// The timer that sweeps the store, if armed.
    sweep: Option<TimerId>,
    unix_seconds: u64,
    date: DateLine,
    boundaries: Boundaries,
    session_end: Option<SessionEnd>,
    /// Why a listener accepts no more, if that has not been reported yet.
    broken: Option<Fault>,
    counters: WorkerCounters,
    /// The listeners cannot accept a connection that would be served.
    is_full: bool,
    limit_notice: LimitNotice,
}

/// A listener and the service of its connections.
#[derive(Debug)]
struct ActiveListener {
    id: ListenerId,
    listener: Listener,
    context: Rc<ListenerContext>,
}

/// Identifies a listening address across reloads of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// A session with its scheduling state and its timer.
#[derive(Debug)]
struct SessionSlot {
    session: Session,
    is_dirty: bool,
    /// It is one of [`Core::handshakes`].
    is_handshaking: bool,
    /// What counts the connections of its listener.
    listener: Option<Rc<ListenerCounters>>,
    timer: Option<(TimerId, Time)>,
    /// Boxed, and present only if it is recorded: usually no subscriber is interested.
    span: Option<Box<tracing::Span>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerPhase {
    Serving,
    /// All listeners are closing. The sessions continue until they end or the deadline expires.
    Draining {
        deadline: Option<TimerId>,
    },
    /// No listener, session, connection or operation is left.
    Finished,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum TimerKind {
    Session(SessionKey),
    /// Ends the remaining sessions.
    DrainDeadline,
    /// The store closes unused files and folders.
    Sweep,
    /// Closes upstream connections that were idle for too long or whose sent data is not
    /// acknowledged.
    UpstreamExpiry,
}

impl Core {
    /// A core without listeners.
    pub fn new(limits: Limits) -> Self {
        Self {
            ops: Ops::new(),
            store: Store::new(limits.store),
            limits,
            share: usize::MAX,
            admission: Arc::default(),
            upstream_pool: UpstreamPool::default(),
            health_monitor: HealthMonitor::default(),
            upstream_expiry: None,
            sweep: None,
            unix_seconds: 0,
            date: DateLine::new(0),
            boundaries: Boundaries::new(RandomState::new().hash_one(0)),
            phase: WorkerPhase::Serving,
            listeners: Table::new(),
            listeners_due: true,
            sessions: Table::new(),
            accepted: 0,
            over_limit: 0,
            handshakes: Handshakes::default(),
            timers: TimerWheel::new(),
            dirty: Vec::new(),
            session_end: None,
            broken: None,
            counters: WorkerCounters::standalone(),
            is_full: false,
            limit_notice: LimitNotice::default(),
        }
    }

    /// Adds a session for a connection that exists already.
    pub fn add_session(&mut self, socket: Socket, peer: Peer, context: &Rc<ListenerContext>, now: Time) {
        let is_over_limit = !self.has_capacity() && self.admission.refuses() && context.service.can_refuse();
        self.over_limit += usize::from(is_over_limit);
        self.accepted += 1;
        self.listeners_due = true;
        if let Some(listener) = &context.counters {
            listener.accept();
            if is_over_limit {
                listener.refuse(RefusalKind::Limit);
            }
        }
        let (limits, admission) = (&self.limits, &*self.admission);
        let accepted = Accepted { socket, peer, is_over_limit };
        let mut is_handshaking = false;
        let key = self.sessions.insert_with(|key| {
            let session = Session::new(key, accepted, context, admission, now, limits);
            is_handshaking = session.is_handshaking();
            let span = recorded(tracing::debug_span!("conn", id = %key, %peer));
            let listener = context.counters.clone();
            SessionSlot { session, is_dirty: true, is_handshaking, listener, timer: None, span }
        });
        if self.phase != WorkerPhase::Serving
            && let Some(session_slot) = self.sessions.get_mut(key)
        {
            // The connection was accepted before the listener stopped.
            session_slot.session.drain(now);
        }
        self.dirty.push(key);
        if is_handshaking {
            self.begin_handshake(key, now);
        }
    }

    /// Counts a handshake that begins. If there are too many, the oldest ends: a client that completes
    /// its own in time is served, however many do not.
    fn begin_handshake(&mut self, key: SessionKey, now: Time) {
        let Self { handshakes, sessions, .. } = self;
        let is_in_progress = |key: SessionKey| sessions.get(key).is_some_and(|slot| slot.is_handshaking);
        handshakes.begin(key, is_in_progress);
        while self.handshakes.len() > self.limits.handshakes_max.max(1) {
            let Self { handshakes, sessions, .. } = self;
            let is_in_progress = |key: SessionKey| sessions.get(key).is_some_and(|slot| slot.is_handshaking);
            let Some(oldest) = handshakes.take_oldest(is_in_progress) else { return };
            if let Some(session_slot) = self.sessions.get_mut(oldest) {
                session_slot.is_handshaking = false;
                session_slot.session.end(CloseReason::TlsFailed(TlsFault::Displaced));
            }
            self.touch(oldest);
            self.counters.count_displaced();
            self.limit_notice.tell_of_handshakes(self.handshakes.len(), now);
        }
    }

    /// Sets how many bytes of receive buffers one connection may hold. Call it before each turn.
    pub const fn set_share(&mut self, bytes: usize) {
        self.share = bytes;
    }

    /// Sets the time of day, in seconds since 1970. Call it before each turn.
    pub fn set_unix_seconds(&mut self, unix_seconds: u64) {
        self.unix_seconds = unix_seconds;
        self.date.update(unix_seconds);
        self.store.set_unix_seconds(unix_seconds);
    }

    /// The queue from which the driver takes operations.
    pub const fn ops(&mut self) -> &mut Ops {
        &mut self.ops
    }

    /// How long the driver may wait for completions. `None`: no limit.
    pub fn wait(&self, now: Time) -> Option<Duration> {
        if !self.dirty.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = Time::earliest(self.timers.next_deadline(), self.health_monitor.next_deadline());
        deadline.map(|deadline| deadline.since(now))
    }

    /// Takes over what other workers have found of upstreams. Call it before the next turn after the
    /// waker of this worker was used.
    pub fn on_wake(&mut self, now: Time) {
        self.health_monitor.on_wake(now, &mut self.upstream_pool);
    }

    /// Processes the completions of one driver turn.
    pub fn on_turn(&mut self, now: Time, done: &mut Vec<Completion>) {
        for completion in done.drain(..) {
            self.on_completion(completion, now);
        }
        while let Some(due) = self.timers.expire(now) {
            self.on_due(due, now);
        }
        self.store.pump(now, &mut self.ops);
        if self.store.has_woken() {
            let woken = self.store.take_woken();
            self.resume_all(woken);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            self.pump(key, now);
        }
        // Pumping makes no session dirty. This only keeps the vector's memory.
        self.dirty = dirty;
        self.health_monitor.pump(now, &mut self.upstream_pool, &self.counters, &mut self.ops);
        if self.upstream_pool.has_woken() {
            let woken = self.upstream_pool.take_woken();
            self.resume_all(woken);
        }
        // A session that ended may have held the last reference to a file, and may have returned an
        // upstream connection.
        self.store.pump(now, &mut self.ops);
        self.upstream_pool.pump(now, &mut self.ops);
        self.arm_sweep();
        self.arm_upstream_expiry();
        if self.limits.connections_left(self.accepted) == Some(0) && self.sessions.is_empty() {
            self.drain(now, None);
        }
        self.settle_phase();
        if self.is_full {
            self.limit_notice.tell_of_connections(self.sessions.len() - self.over_limit, &self.admission, now);
        }
        let upstreams = self.health_monitor.upstream_counts();
        let files = self.store.counts();
        self.counters.set(Gauges {
            connections: self.sessions.len(),
            handshakes: self.handshakes.len(),
            upstream_connections: self.upstream_pool.len(),
            upstream_connections_idle: self.upstream_pool.idle(),
            operations: self.ops.in_flight(),
            upstreams_up: upstreams.up,
            upstreams_down: upstreams.down,
            cache_hits: files.hits,
            cache_misses: files.misses,
            compressions: files.compressions,
        });
    }

    // Part of the loop, as `settle` is: a call for each completion costs a request 40 instructions.
    #[inline(always)]
    fn on_completion(&mut self, Completion { id, outcome }: Completion, now: Time) {
        let Some(token) = settle(&mut self.ops, id, &outcome) else { return };
        match token.kind {
            LISTENER => self.on_listener_outcome(token.machine.typed(), outcome, now),
            SESSION => self.on_session_outcome(token, outcome, now),
            STORE => self.store.on_outcome(token.machine, outcome, now),
            UPSTREAM_CONNECTION => self.on_upstream_outcome(token, outcome, now),
            HEALTH_MONITOR => self.health_monitor.on_outcome(token, outcome, now),
            kind => tracing::error!(kind, "an outcome with an unknown token kind"),
        }
    }

    fn on_listener_outcome(&mut self, key: Key<ActiveListener>, outcome: Outcome, now: Time) {
        let Some(active) = self.listeners.get_mut(key) else { return };
        self.listeners_due = true;
        match active.listener.on_outcome(outcome) {
            Ok(None) => {}
            Ok(Some((socket, peer))) => {
                let context = Rc::clone(&active.context);
                self.counters.count_accepted();
                self.add_session(socket, peer, &context, now);
            }
            Err(fault) => {
                // Not a bug of xps: another process that shares the socket has shut it down, or a
                // seccomp filter forbids accept.
                tracing::warn!(%fault, "a listener failed and accepts no more");
                if self.phase == WorkerPhase::Serving {
                    self.broken = Some(fault);
                }
            }
        }
    }

    fn on_session_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        let key = token.machine.typed();
        let (Some(session_slot), Some(slot)) = (self.sessions.get_mut(key), Slot::of(token)) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known session");
            return;
        };
        {
            let _entered = session_slot.span.as_ref().map(|span| span.enter());
            session_slot.session.on_outcome(slot, outcome, now, &self.counters);
        }
        self.touch(key);
    }

    fn on_upstream_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        if let Some(owner) = self.upstream_pool.on_outcome(token, outcome, now)
            && let Some(session_slot) = self.sessions.get_mut(owner.session)
        {
            session_slot.session.on_upstream(owner.stream, now);
            self.touch(owner.session);
        }
    }

    fn on_due(&mut self, due: TimerKind, now: Time) {
        match due {
            TimerKind::Session(key) => {
                if let Some(session_slot) = self.sessions.get_mut(key) {
                    session_slot.timer = None;
                    self.touch(key);
                }
            }
            TimerKind::Sweep => {
                self.sweep = None;
                self.store.sweep(now);
            }
            TimerKind::UpstreamExpiry => {
                self.upstream_expiry = None;
                self.upstream_pool.expire(now);
            }
            TimerKind::DrainDeadline => {
                let keys: Vec<SessionKey> = self.sessions.keys().collect();
                tracing::info!(connections = keys.len(), "drain timeout expired");
                self.upstream_pool.cut();
                for key in keys {
                    if let Some(session_slot) = self.sessions.get_mut(key) {
                        session_slot.session.end(CloseReason::Drained);
                    }
                    self.touch(key);
                }
            }
        }
    }

    /// Tells a waiter's session which stream to resume, and marks it to be pumped.
    pub fn resume(&mut self, Waiter { session, stream }: Waiter) {
        if let Some(session_slot) = self.sessions.get_mut(session) {
            session_slot.session.on_ready(stream);
            self.touch(session);
        }
    }

    #[cold]
    fn resume_all(&mut self, woken: Vec<Waiter>) {
        for waiter in woken {
            self.resume(waiter);
        }
    }

    /// Marks a session to be pumped before the turn ends.
    fn touch(&mut self, key: SessionKey) {
        if let Some(session_slot) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut session_slot.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    fn pump(&mut self, key: SessionKey, now: Time) {
        let Some(session_slot) = self.sessions.get_mut(key) else { return };
        session_slot.is_dirty = false;
        let entered = session_slot.span.as_ref().map(|span| span.enter());
        session_slot.session.pump(&mut Context {
            ops: &mut self.ops,
            now,
            session: key,
            peer: session_slot.session.peer(),
            local: session_slot.session.local(),
            tls: session_slot.session.tls(),
            limits: &self.limits,
            hold_max: self.limits.pipe_bytes_max.min(self.share),
            is_scarce: self.share < self.limits.pipe_bytes_max,
            admission: &self.admission,
            store: &mut self.store,
            upstream_pool: &mut self.upstream_pool,
            unix_seconds: self.unix_seconds,
            date: &self.date,
            boundaries: &mut self.boundaries,
            counters: &self.counters,
        });
        let ended = session_slot.session.ended();
        if let Some(close_reason) = ended {
            self.session_end = Some(session_slot.session.log_end(close_reason, now));
            count_end(session_slot, close_reason, &self.counters);
        }
        drop(entered);
        if session_slot.is_handshaking && !session_slot.session.is_handshaking() {
            session_slot.is_handshaking = false;
            self.handshakes.end();
        }
        match ended {
            None => Self::arm(session_slot, key, &mut self.timers, &self.limits),
            Some(_) => {
                if let Some((timer, _)) = session_slot.timer {
                    self.timers.disarm(timer);
                }
                self.over_limit -= usize::from(session_slot.session.is_over_limit());
                self.listeners_due = true;
                self.sessions.remove(key);
            }
        }
    }

    /// Ensures that a timer fires at the session's deadline or earlier. A deadline that only moves
    /// later costs nothing here: the timer fires once without effect and is armed again.
    fn arm(session_slot: &mut SessionSlot, key: SessionKey, timers: &mut TimerWheel<TimerKind>, limits: &Limits) {
        match (session_slot.session.deadline(limits), session_slot.timer) {
            (Some(wanted), Some((_, armed))) if armed <= wanted => {}
            (Some(wanted), earlier) => {
                if let Some((timer, _)) = earlier {
                    timers.disarm(timer);
                }
                session_slot.timer = Some((timers.arm(wanted, TimerKind::Session(key)), wanted));
            }
            (None, Some((timer, _))) => {
                timers.disarm(timer);
                session_slot.timer = None;
            }
            (None, None) => {}
        }
    }

    /// Whether another connection can be served.
    fn has_capacity(&self) -> bool {
        self.sessions.len() - self.over_limit < self.limits.connections_max && self.admission.has_capacity()
    }

    /// Accepts while connections can be served, or be answered with 503; closes listeners when
    /// draining.
    fn pump_listeners(&mut self) {
        self.listeners_due = false;
        let served = self.sessions.len() - self.over_limit;
        let room = self.limits.connections_max.saturating_sub(served).min(self.admission.room());
        let over_limit = if self.admission.refuses() { OVER_LIMIT_MAX.saturating_sub(self.over_limit) } else { 0 };
        // Each listener gets an equal share, so that bursts on all of them together stay within the
        // limit. What a listener leaves unused is distributed again on the next call.
        let listeners = self.listeners.len().max(1);
        let share = |room: usize| u32::try_from(room.div_ceil(listeners)).unwrap_or(u32::MAX);
        let left =
            self.limits.connections_left(self.accepted).map_or(u32::MAX, |left| left.try_into().unwrap_or(u32::MAX));
        let is_draining = self.phase != WorkerPhase::Serving || left == 0;
        self.is_full = room == 0 && !is_draining && !self.listeners.is_empty();
        self.listeners.retain(|_, active| {
            if is_draining {
                active.listener.close();
            }
            let over_limit = if active.context.service.can_refuse() { over_limit } else { 0 };
            active.listener.pump(share(room + over_limit).min(left), &mut self.ops);
            !active.listener.is_closed()
        });
    }

    /// Stops accepting. Sessions continue until they end, for at most `timeout` if there is one.
    pub fn drain(&mut self, now: Time, timeout: Option<Duration>) {
        if self.phase == WorkerPhase::Serving {
            let deadline = timeout.map(|timeout| self.timers.arm(now + timeout, TimerKind::DrainDeadline));
            self.phase = WorkerPhase::Draining { deadline };
            self.upstream_pool.drain();
            self.health_monitor.end();
            let keys: Vec<SessionKey> = self.sessions.keys().collect();
            for key in keys {
                if let Some(session_slot) = self.sessions.get_mut(key) {
                    session_slot.session.drain(now);
                }
                self.touch(key);
            }
            self.settle_phase();
        }
    }

    /// Updates the listeners if needed, and finishes the drain when nothing is left.
    fn settle_phase(&mut self) {
        // A wake-up without a message is the only sign that another worker has freed capacity.
        if self.listeners_due || self.is_full || self.phase != WorkerPhase::Serving {
            self.pump_listeners();
        }
        if let WorkerPhase::Draining { deadline } = self.phase
            && self.listeners.is_empty()
            && self.sessions.is_empty()
            && self.upstream_pool.is_empty()
            && self.health_monitor.is_empty()
            && self.store_is_at_rest()
        {
            if let Some(timer) = deadline {
                self.timers.disarm(timer);
            }
            self.phase = WorkerPhase::Finished;
        }
    }

    /// Makes the store close everything. Returns whether it has.
    fn store_is_at_rest(&mut self) -> bool {
        if let Some(timer) = self.sweep.take() {
            self.timers.disarm(timer);
        }
        self.store.clear();
        // The time does not matter for closing.
        self.store.pump(Time::ZERO, &mut self.ops);
        self.store.is_at_rest()
    }

    /// Arms the sweep timer when the store has something to close.
    fn arm_sweep(&mut self) {
        if self.sweep.is_none()
            && let Some(at) = self.store.next_sweep()
        {
            self.sweep = Some(self.timers.arm(at, TimerKind::Sweep));
        }
    }

    /// Arms the timer that closes expired upstream connections, at the earliest expiry.
    fn arm_upstream_expiry(&mut self) {
        match (self.upstream_pool.next_expiry(), self.upstream_expiry) {
            (Some(at), Some((_, armed))) if armed <= at => {}
            (next, armed) => {
                if let Some((timer, _)) = armed {
                    self.timers.disarm(timer);
                }
                self.upstream_expiry = next.map(|at| (self.timers.arm(at, TimerKind::UpstreamExpiry), at));
            }
        }
    }

    /// The reason why a listener failed for good, once. Connections to its address would get no
    /// response from now on, so the worker must end.
    pub const fn take_broken(&mut self) -> Option<Fault> {
        self.broken.take()
    }

    /// Whether the drain is over and nothing is left.
    pub fn is_finished(&self) -> bool {
        self.phase == WorkerPhase::Finished
    }

    /// How the session that ended last has ended.
    pub const fn session_end(&self) -> Option<SessionEnd> {
        self.session_end
    }

    /// Number of live objects of each kind.
    pub fn live_counts(&self) -> LiveCounts {
        LiveCounts {
            listeners: self.listeners.len(),
            sessions: self.sessions.len(),
            operations: self.ops.in_flight(),
            upstream_connections: self.upstream_pool.len(),
            monitored: self.health_monitor.len(),
            timers: self.timers.len(),
            exchanges: self.counters.exchanges(),
        }
    }
}

/// Counts a connection that has ended.
fn count_end(session_slot: &SessionSlot, close_reason: CloseReason, counters: &WorkerCounters) {
    if let CloseReason::TlsFailed(fault) = close_reason {
        counters.count_handshake_failed();
        if fault == TlsFault::TooSlow {
            counters.count_timeout(TimeoutKind::Handshake);
        }
    }
    counters.count_end(close_reason.code());
    if session_slot.session.is_over_limit() || matches!(close_reason, CloseReason::Denied(_)) {
        counters.count_refused();
    }
    let Some(listener) = &session_slot.listener else { return };
    match close_reason {
        CloseReason::Denied(Denied::Address) => listener.refuse(RefusalKind::Address),
        CloseReason::Denied(Denied::TooMany) => listener.refuse(RefusalKind::PerAddress),
        _ => {}
    }
    let (received, sent) = session_slot.session.traffic();
    listener.end(close_reason.code(), received, sent);
}

/// The span, if a subscriber records it.
fn recorded(span: tracing::Span) -> Option<Box<tracing::Span>> {
    (!span.is_disabled()).then(|| Box::new(span))
}
