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

mod duties;

use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::census::{Census, Violation};
use super::full::FullNotice;
use super::wheel::{TimerId, Wheel};
use crate::admission::Admission;
use crate::config::Limits;
use crate::driver::{Completion, Fault, Ops, Outcome, Peer, Socket, Time, Token};
use crate::file::multipart::Boundaries;
use crate::file::store::{STORE, Store};
use crate::http::DateLine;
use crate::session::{Accepted, Context, Ending, Farewell, Reception, SESSION, Session, Slot};
use crate::table::{Key, Table};
use crate::tcp::Listener;
use crate::telemetry::metrics::{Counting, Gauges};
use crate::upstream::{LINK, Links, WATCH, Watches};

/// The kind that marks a listener's tokens.
const LISTENER: u8 = 0;

/// So many connections more than there may be are let in to be told so; further ones wait.
const SURPLUS_MAX: usize = 64;

/// The state of one worker.
#[derive(Debug)]
pub struct Core {
    ops: Ops,
    limits: Limits,
    /// Bytes of receive buffers that one connection may hold now.
    share: usize,
    admission: Arc<Admission>,
    phase: Phase,
    listeners: Table<Entrance>,
    /// Something has changed by which listeners decide how many connections to accept.
    listeners_due: bool,
    sessions: Table<Seat>,
    /// How many there have been.
    accepted: u64,
    /// How many of them are there only to be told that there is no room.
    surplus: usize,
    timers: Wheel<Due>,
    /// Sessions to pump before the turn ends, each once.
    dirty: Vec<Key>,
    store: Store,
    links: Links,
    watches: Watches,
    /// When links are to be looked through, if it is armed.
    link_expiry: Option<(TimerId, Time)>,
    /// When the store is to be swept, if it is armed.
    sweep: Option<TimerId>,
    unix_seconds: u64,
    date: DateLine,
    boundaries: Boundaries,
    farewell: Option<Farewell>,
    /// Why a listener accepts no more, of which nobody has been told.
    broken: Option<Fault>,
    counting: Counting,
    /// Listeners have no room for a further connection.
    is_full: bool,
    full: FullNotice,
}

/// A listener and what its connections are for.
#[derive(Debug)]
struct Entrance {
    id: EntranceId,
    listener: Listener,
    reception: Rc<Reception>,
}

/// Names an address that is listened on, across changes of what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntranceId(pub u32);

/// A session with its place in the turn and its timer.
#[derive(Debug)]
struct Seat {
    session: Session,
    is_dirty: bool,
    timer: Option<(TimerId, Time)>,
    /// Boxed, and only where it is recorded: most of the time nobody listens.
    span: Option<Box<tracing::Span>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
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
enum Due {
    Session(Key),
    /// Sessions that still live are cut off.
    DrainDeadline,
    /// The store lets go of what nobody uses.
    Sweep,
    /// Links that were idle for too long, or whose bytes do not arrive, are closed.
    LinkExpiry,
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
            links: Links::default(),
            watches: Watches::default(),
            link_expiry: None,
            sweep: None,
            unix_seconds: 0,
            date: DateLine::new(0),
            boundaries: Boundaries::new(RandomState::new().hash_one(0)),
            phase: Phase::Serving,
            listeners: Table::new(),
            listeners_due: true,
            sessions: Table::new(),
            accepted: 0,
            surplus: 0,
            timers: Wheel::new(),
            dirty: Vec::new(),
            farewell: None,
            broken: None,
            counting: Counting::alone(),
            is_full: false,
            full: FullNotice::default(),
        }
    }

    /// Serves a connection that came about elsewhere.
    pub fn add_session(&mut self, socket: Socket, peer: Peer, reception: &Rc<Reception>, now: Time) {
        let is_surplus = !self.has_room() && self.admission.refuses() && reception.template.can_refuse();
        self.surplus += usize::from(is_surplus);
        self.accepted += 1;
        self.listeners_due = true;
        let (limits, admission) = (&self.limits, &*self.admission);
        let accepted = Accepted { socket, peer, is_surplus };
        let key = self.sessions.insert_with(|key| Seat {
            session: Session::new(key, accepted, reception, admission, now, limits),
            is_dirty: true,
            timer: None,
            span: recorded(tracing::debug_span!("conn", id = %key, %peer)),
        });
        if self.phase != Phase::Serving
            && let Some(seat) = self.sessions.get_mut(key)
        {
            // It was accepted before the listener could stop.
            seat.session.drain(now);
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
        let deadline = Time::earliest(self.timers.next_deadline(), self.watches.next_deadline());
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
            if let Some(seat) = self.sessions.get_mut(key) {
                seat.session.on_ready();
                self.touch(key);
            }
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        for key in dirty.drain(..) {
            self.pump(key, now);
        }
        // Pumping makes nothing dirty; only the vector's memory goes back.
        self.dirty = dirty;
        self.watches.pump(now, &mut self.links, &self.counting, &mut self.ops);
        for key in self.links.take_woken() {
            self.touch(key);
        }
        // A session that has ended may have been the last to hold a file, and may have left a link.
        self.store.pump(now, &mut self.ops);
        self.links.pump(&mut self.ops);
        self.arm_sweep();
        self.arm_link_expiry();
        if self.limits.connections_left(self.accepted) == Some(0) && self.sessions.is_empty() {
            self.drain(now, None);
        }
        self.settle_phase();
        if self.is_full {
            self.full.tell(self.sessions.len() - self.surplus, &self.admission, now);
        }
        let upstreams = self.watches.standing();
        self.counting.set(Gauges {
            connections: self.sessions.len(),
            upstream_connections: self.links.len(),
            upstream_connections_idle: self.links.idle(),
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
            LINK => self.on_link_outcome(token, outcome, now),
            WATCH => self.watches.on_outcome(token, outcome, now),
            kind => tracing::error!(kind, "an outcome for a machine of no known kind"),
        }
    }

    fn on_listener_outcome(&mut self, key: Key, outcome: Outcome, now: Time) {
        let Some(entrance) = self.listeners.get_mut(key) else { return };
        self.listeners_due = true;
        match entrance.listener.on_outcome(outcome) {
            Ok(None) => {}
            Ok(Some((socket, peer))) => {
                let reception = Rc::clone(&entrance.reception);
                self.counting.accepted();
                self.add_session(socket, peer, &reception, now);
            }
            Err(fault) => {
                // Not our own bug: somebody who shares the socket has ended it, or a filter forbids accepting.
                tracing::warn!(%fault, "a listener failed and accepts no more");
                if self.phase == Phase::Serving {
                    self.broken = Some(fault);
                }
            }
        }
    }

    fn on_session_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        let (Some(seat), Some(slot)) = (self.sessions.get_mut(token.machine), Slot::of(token)) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known session");
            return;
        };
        {
            let _entered = seat.span.as_ref().map(|span| span.enter());
            seat.session.on_outcome(slot, outcome, now);
        }
        self.touch(token.machine);
    }

    fn on_link_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        if let Some(owner) = self.links.on_outcome(token, outcome, now)
            && let Some(seat) = self.sessions.get_mut(owner)
        {
            seat.session.on_upstream(now);
            self.touch(owner);
        }
    }

    fn on_due(&mut self, due: Due, now: Time) {
        match due {
            Due::Session(key) => {
                if let Some(seat) = self.sessions.get_mut(key) {
                    seat.timer = None;
                    self.touch(key);
                }
            }
            Due::Sweep => {
                self.sweep = None;
                self.store.sweep(now);
            }
            Due::LinkExpiry => {
                self.link_expiry = None;
                self.links.expire(now);
            }
            Due::DrainDeadline => {
                let keys: Vec<Key> = self.sessions.keys().collect();
                tracing::info!(connections = keys.len(), "the time for draining is over");
                self.links.cut();
                for key in keys {
                    if let Some(seat) = self.sessions.get_mut(key) {
                        seat.session.end(Ending::Drained);
                    }
                    self.touch(key);
                }
            }
        }
    }

    /// Has a session pumped before the turn ends.
    fn touch(&mut self, key: Key) {
        if let Some(seat) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut seat.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    fn pump(&mut self, key: Key, now: Time) {
        let Some(seat) = self.sessions.get_mut(key) else { return };
        seat.is_dirty = false;
        let entered = seat.span.as_ref().map(|span| span.enter());
        seat.session.pump(&mut Context {
            ops: &mut self.ops,
            now,
            session: key,
            peer: seat.session.peer(),
            local: seat.session.local(),
            limits: &self.limits,
            hold_max: self.limits.pipe_bytes_max.min(self.share),
            admission: &self.admission,
            store: &mut self.store,
            links: &mut self.links,
            unix_seconds: self.unix_seconds,
            date: &self.date,
            boundaries: &mut self.boundaries,
            counting: &self.counting,
        });
        let ended = seat.session.ended();
        if let Some(ending) = ended {
            self.farewell = Some(seat.session.log_end(ending, now));
        }
        drop(entered);
        match ended {
            None => Self::arm(seat, key, &mut self.timers, &self.limits),
            Some(_) => {
                if let Some((timer, _)) = seat.timer {
                    self.timers.disarm(timer);
                }
                self.surplus -= usize::from(seat.session.is_surplus());
                self.listeners_due = true;
                self.sessions.remove(key);
            }
        }
    }

    /// Sees to it that a timer fires when the session wants, or earlier. Traffic that only moves the
    /// deadline away costs nothing here: the timer fires once in vain and is armed anew.
    fn arm(seat: &mut Seat, key: Key, timers: &mut Wheel<Due>, limits: &Limits) {
        match (seat.session.deadline(limits), seat.timer) {
            (Some(wanted), Some((_, armed))) if armed <= wanted => {}
            (Some(wanted), earlier) => {
                if let Some((timer, _)) = earlier {
                    timers.disarm(timer);
                }
                seat.timer = Some((timers.arm(wanted, Due::Session(key)), wanted));
            }
            (None, Some((timer, _))) => {
                timers.disarm(timer);
                seat.timer = None;
            }
            (None, None) => {}
        }
    }

    /// Whether another connection can be served.
    fn has_room(&self) -> bool {
        self.sessions.len() - self.surplus < self.limits.connections_max && self.admission.has_room()
    }

    /// Accept while there is room, or who comes can be told that there is none; close what is not wanted any more.
    fn pump_listeners(&mut self) {
        self.listeners_due = false;
        let served = self.sessions.len() - self.surplus;
        let room = if self.has_room() { self.limits.connections_max - served } else { 0 };
        let surplus = if self.admission.refuses() { SURPLUS_MAX.saturating_sub(self.surplus) } else { 0 };
        // Each gets its share, so that a burst on all of them stays within the bound; what is left over is asked for anew.
        let listeners = self.listeners.len().max(1);
        let share = |room: usize| u32::try_from(room.div_ceil(listeners)).unwrap_or(u32::MAX);
        let left =
            self.limits.connections_left(self.accepted).map_or(u32::MAX, |left| left.try_into().unwrap_or(u32::MAX));
        let is_draining = self.phase != Phase::Serving || left == 0;
        self.is_full = room == 0 && !is_draining && !self.listeners.is_empty();
        self.listeners.retain(|_, entrance| {
            if is_draining {
                entrance.listener.close();
            }
            let surplus = if entrance.reception.template.can_refuse() { surplus } else { 0 };
            entrance.listener.pump(share(room + surplus).min(left), &mut self.ops);
            !entrance.listener.is_closed()
        });
    }

    /// Accepts no more. Sessions go on to their end, at most for `timeout` if there is one.
    pub fn drain(&mut self, now: Time, timeout: Option<Duration>) {
        if self.phase == Phase::Serving {
            let deadline = timeout.map(|timeout| self.timers.arm(now + timeout, Due::DrainDeadline));
            self.phase = Phase::Draining { deadline };
            self.links.drain();
            self.watches.end();
            let keys: Vec<Key> = self.sessions.keys().collect();
            for key in keys {
                if let Some(seat) = self.sessions.get_mut(key) {
                    seat.session.drain(now);
                }
                self.touch(key);
            }
            self.settle_phase();
        }
    }

    /// Finishes the drain when nothing is left to wait for.
    fn settle_phase(&mut self) {
        // Of room that another worker has made, this one hears only by being woken for a turn.
        if self.listeners_due || self.is_full || self.phase != Phase::Serving {
            self.pump_listeners();
        }
        if let Phase::Draining { deadline } = self.phase
            && self.listeners.is_empty()
            && self.sessions.is_empty()
            && self.links.is_empty()
            && self.watches.is_empty()
            && self.store_is_at_rest()
        {
            if let Some(timer) = deadline {
                self.timers.disarm(timer);
            }
            self.phase = Phase::Finished;
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
            self.sweep = Some(self.timers.arm(at, Due::Sweep));
        }
    }

    /// Sees to it that links are looked through when one may have waited for too long.
    fn arm_link_expiry(&mut self) {
        match (self.links.next_expiry(), self.link_expiry) {
            (Some(at), Some((_, armed))) if armed <= at => {}
            (next, armed) => {
                if let Some((timer, _)) = armed {
                    self.timers.disarm(timer);
                }
                self.link_expiry = next.map(|at| (self.timers.arm(at, Due::LinkExpiry), at));
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
        self.phase == Phase::Finished
    }

    /// How the session that ended last did end.
    pub const fn farewell(&self) -> Option<Farewell> {
        self.farewell
    }

    /// How much there is of everything.
    pub fn census(&self) -> Census {
        Census {
            listeners: self.listeners.len(),
            sessions: self.sessions.len(),
            operations: self.ops.in_flight(),
            links: self.links.len(),
            watches: self.watches.len(),
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
                WATCH if self.watches.contains(token.machine) => {}
                LINK if self.links.contains(token.machine) => in_flight.extend(self.links.owner(token.machine)),
                _ => return Err(Violation::Orphan(token)),
            }
        }
        in_flight.sort_unstable();
        for (key, seat) in self.sessions.iter() {
            let is_awaited = seat.timer.is_some() || in_flight.binary_search(&key).is_ok() || seat.session.is_queued();
            if !seat.is_dirty && !is_awaited {
                return Err(Violation::Forsaken(key));
            }
            let held_bytes = seat.session.memory() + self.links.memory_of(key);
            if held_bytes > seat.session.memory_max(&self.limits) + 2 * slack_bytes {
                return Err(Violation::Hoarding { session: key, held_bytes });
            }
        }
        Ok(())
    }
}

/// A span that somebody listens to.
fn recorded(span: tracing::Span) -> Option<Box<tracing::Span>> {
    (!span.is_disabled()).then(|| Box::new(span))
}
