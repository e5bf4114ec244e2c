//! [`Core`]: everything one worker knows, without the kernel.
//!
//! It owns the listeners, the sessions, the timers and the ledger of operations. Each turn it is
//! handed what the driver brought and answers with operations in its queue:
//!
//! ```text
//!   completions ──► record ──► dirty sessions ──► pump each once ──► operations
//!   the time ─────► expire ───────▲                      └─► arm its timer, or free it
//! ```
//!
//! It does not know which driver runs, nor threads, nor signals.

mod plan;

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::limit_notice::LimitNotice;
use super::live_counts::{LiveCounts, Violation};
use super::timer_wheel::{TimerId, TimerWheel};
use crate::config::Limits;
use crate::driver::{Completion, Fault, Ops, Outcome, Peer, Socket, Time, Token};
use crate::file::multipart::Boundaries;
use crate::file::store::{STORE, Store};
use crate::http::DateLine;
use crate::limit::Admission;
use crate::session::{Accepted, CloseReason, Context, ListenerContext, SESSION, Session, SessionEnd, Slot};
use crate::table::{Key, Table};
use crate::tcp::Listener;
use crate::telemetry::metrics::{Gauges, WorkerCounters};
use crate::upstream::{HEALTH_MONITOR, HealthMonitor, UPSTREAM_CONNECTION, UpstreamPool};

/// The kind that marks a listener's tokens.
const LISTENER: u8 = 0;

/// So many connections more than there may be are let in to be told so; further ones wait.
const OVER_LIMIT_MAX: usize = 64;

/// The state of one worker.
#[derive(Debug)]
pub struct Core {
    ops: Ops,
    limits: Limits,
    /// Bytes of receive buffers that one connection may hold now.
    share: usize,
    admission: Arc<Admission>,
    phase: WorkerPhase,
    listeners: Table<ActiveListener>,
    /// Something has changed by which listeners decide how many connections to accept.
    listeners_due: bool,
    sessions: Table<SessionSlot>,
    /// How many there have been.
    accepted: u64,
    /// How many of them are there only to be told that there is no room.
    over_limit: usize,
    timers: TimerWheel<TimerKind>,
    /// Sessions to pump before the turn ends, each once.
    dirty: Vec<Key>,
    store: Store,
    upstream_pool: UpstreamPool,
    health_monitor: HealthMonitor,
    /// When connections are to be looked through, if it is armed.
    upstream_expiry: Option<(TimerId, Time)>,
    /// When the store is to be swept, if it is armed.
    sweep: Option<TimerId>,
    unix_seconds: u64,
    date: DateLine,
    boundaries: Boundaries,
    session_end: Option<SessionEnd>,
    /// Why a listener accepts no more, of which nobody has been told.
    broken: Option<Fault>,
    counters: WorkerCounters,
    /// Listeners have no room for a further connection.
    is_full: bool,
    limit_notice: LimitNotice,
}

/// A listener and what its connections are for.
#[derive(Debug)]
struct ActiveListener {
    id: ListenerId,
    listener: Listener,
    context: Rc<ListenerContext>,
}

/// Names an address that is listened on, across changes of what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// A session with its place in the turn and its timer.
#[derive(Debug)]
struct SessionSlot {
    session: Session,
    is_dirty: bool,
    timer: Option<(TimerId, Time)>,
    /// Boxed, and only where it is recorded: most of the time nobody listens.
    span: Option<Box<tracing::Span>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkerPhase {
    Serving,
    /// No listener accepts any more; the sessions go on to their end, or to the deadline's.
    Draining {
        deadline: Option<TimerId>,
    },
    /// Nothing is left.
    Finished,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
enum TimerKind {
    Session(Key),
    /// Sessions that still live are cut off.
    DrainDeadline,
    /// The store lets go of what nobody uses.
    Sweep,
    /// Connections that were idle for too long, or whose bytes do not arrive, are closed.
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
            timers: TimerWheel::new(),
            dirty: Vec::new(),
            session_end: None,
            broken: None,
            counters: WorkerCounters::standalone(),
            is_full: false,
            limit_notice: LimitNotice::default(),
        }
    }

    /// Serves a connection that came about elsewhere.
    pub fn add_session(&mut self, socket: Socket, peer: Peer, context: &Rc<ListenerContext>, now: Time) {
        let is_over_limit = !self.has_capacity() && self.admission.refuses() && context.service.can_refuse();
        self.over_limit += usize::from(is_over_limit);
        self.accepted += 1;
        self.listeners_due = true;
        let (limits, admission) = (&self.limits, &*self.admission);
        let accepted = Accepted { socket, peer, is_over_limit };
        let key = self.sessions.insert_with(|key| SessionSlot {
            session: Session::new(key, accepted, context, admission, now, limits),
            is_dirty: true,
            timer: None,
            span: recorded(tracing::debug_span!("conn", id = %key, %peer)),
        });
        if self.phase != WorkerPhase::Serving
            && let Some(session_slot) = self.sessions.get_mut(key)
        {
            // It was accepted before the listener could stop.
            session_slot.session.drain(now);
        }
        self.dirty.push(key);
    }

    /// Tells how many bytes of receive buffers one connection may hold now; to be called before each turn.
    pub const fn set_share(&mut self, bytes: usize) {
        self.share = bytes;
    }

    /// Tells the time of day, in seconds since 1970; to be called before each turn.
    pub fn set_unix_seconds(&mut self, unix_seconds: u64) {
        self.unix_seconds = unix_seconds;
        self.date.update(unix_seconds);
        self.store.set_unix_seconds(unix_seconds);
    }

    /// The queue that the driver takes operations from.
    pub const fn ops(&mut self) -> &mut Ops {
        &mut self.ops
    }

    /// How long the driver may wait for completions. `None`: without limit.
    pub fn wait(&self, now: Time) -> Option<Duration> {
        if !self.dirty.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = Time::earliest(self.timers.next_deadline(), self.health_monitor.next_deadline());
        deadline.map(|deadline| deadline.since(now))
    }

    /// Takes in what a turn of the driver brought, and acts on it.
    pub fn on_turn(&mut self, now: Time, done: &mut Vec<Completion>) {
        for completion in done.drain(..) {
            self.on_completion(completion, now);
        }
        while let Some(due) = self.timers.expire(now) {
            self.on_due(due, now);
        }
        self.store.pump(now, &mut self.ops);
        for key in self.store.take_woken() {
            if let Some(session_slot) = self.sessions.get_mut(key) {
                session_slot.session.on_ready();
                self.touch(key);
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            self.pump(key, now);
        }
        // Pumping makes nothing dirty; only the vector's memory goes back.
        self.dirty = dirty;
        self.health_monitor.pump(now, &mut self.upstream_pool, &self.counters, &mut self.ops);
        for key in self.upstream_pool.take_woken() {
            self.touch(key);
        }
        // A session that has ended may have been the last to hold a file, and may have left a connection.
        self.store.pump(now, &mut self.ops);
        self.upstream_pool.pump(&mut self.ops);
        self.arm_sweep();
        self.arm_upstream_expiry();
        if self.limits.connections_left(self.accepted) == Some(0) && self.sessions.is_empty() {
            self.drain(now, None);
        }
        self.settle_phase();
        if self.is_full {
            self.limit_notice.tell(self.sessions.len() - self.over_limit, &self.admission, now);
        }
        let upstreams = self.health_monitor.upstream_counts();
        self.counters.set(Gauges {
            connections: self.sessions.len(),
            upstream_connections: self.upstream_pool.len(),
            upstream_connections_idle: self.upstream_pool.idle(),
            operations: self.ops.in_flight(),
            upstreams_up: upstreams.up,
            upstreams_down: upstreams.down,
        });
    }

    fn on_completion(&mut self, Completion { id, outcome }: Completion, now: Time) {
        let Some(token) = self.ops.settle(id, outcome.is_final()) else {
            tracing::error!(op = %id, outcome = outcome.name(), "an outcome of an operation that has ended");
            debug_assert!(false, "{outcome:?} for {id:?}, which has ended");
            return;
        };
        tracing::trace!(op = %id, outcome = outcome.name(), "outcome");
        match token.kind {
            LISTENER => self.on_listener_outcome(token.machine, outcome, now),
            SESSION => self.on_session_outcome(token, outcome, now),
            STORE => self.store.on_outcome(token.machine, outcome, now),
            UPSTREAM_CONNECTION => self.on_upstream_outcome(token, outcome, now),
            HEALTH_MONITOR => self.health_monitor.on_outcome(token, outcome, now),
            kind => tracing::error!(kind, "an outcome for a machine of no known kind"),
        }
    }

    fn on_listener_outcome(&mut self, key: Key, outcome: Outcome, now: Time) {
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
                // Not our own bug: somebody who shares the socket has ended it, or a filter forbids accepting.
                tracing::warn!(%fault, "a listener failed and accepts no more");
                if self.phase == WorkerPhase::Serving {
                    self.broken = Some(fault);
                }
            }
        }
    }

    fn on_session_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        let (Some(session_slot), Some(slot)) = (self.sessions.get_mut(token.machine), Slot::of(token)) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known session");
            return;
        };
        {
            let _entered = session_slot.span.as_ref().map(|span| span.enter());
            session_slot.session.on_outcome(slot, outcome, now);
        }
        self.touch(token.machine);
    }

    fn on_upstream_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        if let Some(owner) = self.upstream_pool.on_outcome(token, outcome, now)
            && let Some(session_slot) = self.sessions.get_mut(owner)
        {
            session_slot.session.on_upstream(now);
            self.touch(owner);
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
                let keys: Vec<Key> = self.sessions.keys().collect();
                tracing::info!(connections = keys.len(), "the time for draining is over");
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

    /// Has a session pumped before the turn ends.
    fn touch(&mut self, key: Key) {
        if let Some(session_slot) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut session_slot.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    fn pump(&mut self, key: Key, now: Time) {
        let Some(session_slot) = self.sessions.get_mut(key) else { return };
        session_slot.is_dirty = false;
        let entered = session_slot.span.as_ref().map(|span| span.enter());
        session_slot.session.pump(&mut Context {
            ops: &mut self.ops,
            now,
            session: key,
            peer: session_slot.session.peer(),
            local: session_slot.session.local(),
            limits: &self.limits,
            hold_max: self.limits.pipe_bytes_max.min(self.share),
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
        }
        drop(entered);
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

    /// Sees to it that a timer fires when the session wants, or earlier. Traffic that only moves the
    /// deadline away costs nothing here: the timer fires once in vain and is armed anew.
    fn arm(session_slot: &mut SessionSlot, key: Key, timers: &mut TimerWheel<TimerKind>, limits: &Limits) {
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

    /// Accept while there is room, or who comes can be told that there is none; close what is not wanted any more.
    fn pump_listeners(&mut self) {
        self.listeners_due = false;
        let served = self.sessions.len() - self.over_limit;
        let room = if self.has_capacity() { self.limits.connections_max - served } else { 0 };
        let over_limit = if self.admission.refuses() { OVER_LIMIT_MAX.saturating_sub(self.over_limit) } else { 0 };
        // Each gets its share, so that a burst on all of them stays within the bound; what is left over is asked for anew.
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

    /// Accepts no more. Sessions go on to their end, at most for `timeout` if there is one.
    pub fn drain(&mut self, now: Time, timeout: Option<Duration>) {
        if self.phase == WorkerPhase::Serving {
            let deadline = timeout.map(|timeout| self.timers.arm(now + timeout, TimerKind::DrainDeadline));
            self.phase = WorkerPhase::Draining { deadline };
            self.upstream_pool.drain();
            self.health_monitor.end();
            let keys: Vec<Key> = self.sessions.keys().collect();
            for key in keys {
                if let Some(session_slot) = self.sessions.get_mut(key) {
                    session_slot.session.drain(now);
                }
                self.touch(key);
            }
            self.settle_phase();
        }
    }

    /// Finishes the drain when nothing is left to wait for.
    fn settle_phase(&mut self) {
        // Of room that another worker has made, this one hears only by being woken for a turn.
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

    /// Has the store close everything, and says whether it has.
    fn store_is_at_rest(&mut self) -> bool {
        if let Some(timer) = self.sweep.take() {
            self.timers.disarm(timer);
        }
        self.store.clear();
        // Time does not matter for closing.
        self.store.pump(Time::ZERO, &mut self.ops);
        self.store.is_at_rest()
    }

    /// Sees to it that the store is swept when it has something to let go of.
    fn arm_sweep(&mut self) {
        if self.sweep.is_none()
            && let Some(at) = self.store.next_sweep()
        {
            self.sweep = Some(self.timers.arm(at, TimerKind::Sweep));
        }
    }

    /// Sees to it that connections are looked through when one may have waited for too long.
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

    /// Why a listener has failed for good since this was last asked, if one has. Its address would be mute from now on, so
    /// this worker is to end.
    pub const fn take_broken(&mut self) -> Option<Fault> {
        self.broken.take()
    }

    /// Whether it was told to drain and nothing is left.
    pub fn is_finished(&self) -> bool {
        self.phase == WorkerPhase::Finished
    }

    /// How the session that ended last did end.
    pub const fn session_end(&self) -> Option<SessionEnd> {
        self.session_end
    }

    /// How much there is of everything.
    pub fn live_counts(&self) -> LiveCounts {
        LiveCounts {
            listeners: self.listeners.len(),
            sessions: self.sessions.len(),
            operations: self.ops.in_flight(),
            upstream_connections: self.upstream_pool.len(),
            monitored: self.health_monitor.len(),
            timers: self.timers.len(),
        }
    }

    /// Looks for broken invariants: for tests, since it walks through everything. `slack_bytes` is what
    /// may arrive on one socket after a pause was asked for.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check_invariants(&self, slack_bytes: usize) -> Result<(), Violation> {
        let mut in_flight: Vec<Key> = self.store.waiters().collect();
        for (_, token) in self.ops.iter_in_flight() {
            match token.kind {
                SESSION if self.sessions.contains(token.machine) => in_flight.push(token.machine),
                LISTENER if self.listeners.contains(token.machine) => {}
                STORE if self.store.has_job(token.machine) => {}
                HEALTH_MONITOR if self.health_monitor.contains(token.machine) => {}
                UPSTREAM_CONNECTION if self.upstream_pool.contains(token.machine) => {
                    in_flight.extend(self.upstream_pool.owner(token.machine))
                }
                _ => return Err(Violation::Orphan(token)),
            }
        }
        in_flight.sort_unstable();
        for (key, session_slot) in self.sessions.iter() {
            let is_awaited = session_slot.timer.is_some()
                || in_flight.binary_search(&key).is_ok()
                || session_slot.session.is_queued();
            if !session_slot.is_dirty && !is_awaited {
                return Err(Violation::Stalled(key));
            }
            let held_bytes = session_slot.session.memory() + self.upstream_pool.memory_of(key);
            if held_bytes > session_slot.session.memory_max(&self.limits) + 2 * slack_bytes {
                return Err(Violation::OverBudget { session: key, held_bytes });
            }
        }
        Ok(())
    }
}

/// A span that somebody listens to.
fn recorded(span: tracing::Span) -> Option<Box<tracing::Span>> {
    (!span.is_disabled()).then(|| Box::new(span))
}
