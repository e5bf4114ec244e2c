//! The connections of one worker to upstreams: those in use, and those that wait to be used again.
//!
//! ```text
//!              connected              release(keep)
//!   Connecting ──────────► InUse ────────────────────► Idle ──┐ anything happens on it,
//!     │  │ no address       │  ▲ acquire                │     │ or nothing for too long
//!     │  ▼                  │  └────────────────────────┘     │
//!     │ Failed              │ release(close)                  │
//!     │  │ release          ▼                                 │
//!     │  └──────► gone ◄── Closing ◄──────────────────────────┘
//!     │ release              ▲  ▲ all has arrived, or not for too long
//!     │                      │  └── Flushing ◄──── release(deliver) of one in use
//!     └──────► Abandoned ────┘ it came about all the same
//! ```
//!
//! A connection outlives the session that uses it. Its receive stays armed from one request to the next, so that an idle one
//! whose upstream goes away is noticed at once, and using it again asks nothing of the kernel. It does not know what
//! the bytes mean, nor which upstream is to be chosen.

use std::rc::Rc;
use std::time::Duration;

use super::{ConnectError, Connector, ConnectorTokens, Upstream};
use crate::buffer::Inbox;
use crate::driver::{Address, Ops, Outcome, Socket, Time, Token};
use crate::table::{Key, Table};
use crate::tcp::{CloseKind, Connection, ConnectionTokens};

/// The kind that marks a connection's tokens.
pub const UPSTREAM_CONNECTION: u8 = 3;

/// The connections of one worker to upstreams.
#[derive(Debug, Default)]
pub struct UpstreamPool {
    connections: Table<UpstreamConnection>,
    /// Connections that nobody uses and that have something to do: to be closed, or to be given up.
    leaving: Vec<Key>,
    /// Sessions that may go on since somebody else is done.
    woken: Vec<Key>,
    /// When the first idle one may have waited for too long.
    next_expiry: Option<Time>,
    /// When the first one may have waited for too long for what was sent on it to arrive.
    next_flush_expiry: Option<Time>,
    /// How long that is; zero: however long it takes.
    flush_timeout: Duration,
    flushing: usize,
    idle: usize,
    is_draining: bool,
}

/// One connection to an upstream, or the attempt at one.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// What has arrived and not been read.
    pub inbox: Inbox,
    upstream: Rc<Upstream>,
    /// Where it leads, once it is connected.
    address: Option<Address>,
    state: State,
    /// How many requests it has carried before this one.
    uses: u32,
}

#[derive(Debug)]
enum State {
    Connecting {
        owner: Key,
        connector: Connector,
    },
    InUse {
        owner: Key,
        connection: Connection,
    },
    Idle {
        until: Time,
        connection: Connection,
    },
    Closing {
        close_kind: CloseKind,
        connection: Connection,
    },
    /// What was sent is still on its way.
    Flushing {
        until: Option<Time>,
        connection: Connection,
    },
    Abandoned(Connector),
    Gone,
}

/// How far a connection is.
#[derive(Debug)]
pub enum ConnectStatus<'a> {
    /// Its upstream is being resolved or connected to.
    Underway,
    /// No address of the upstream took the connection.
    Failed(ConnectError),
    /// It can be used.
    Ready(&'a mut Connection),
}

/// What becomes of a connection that its user is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is where a next request can begin.
    Keep(KeepAlive),
    /// It is closed.
    Close(CloseKind),
    /// It is reset, after all that was sent on it has arrived, or has not got on for so long; zero: for however long.
    FlushReset(Duration),
}

/// How connections wait to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How many to one upstream may, in each worker.
    pub idle_max: usize,
    /// How long one may; zero: not at all.
    pub idle_timeout: Duration,
}

impl Default for KeepAlive {
    /// 64 connections, a minute each: less than what upstreams usually allow, so that they rarely close first.
    fn default() -> Self {
        Self { idle_max: 64, idle_timeout: Duration::from_secs(60) }
    }
}

/// The slots of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Slot {
    Resolve,
    Connect,
    Recv,
    Send,
    Close,
}

impl Slot {
    const fn token(self, entry: Key) -> Token {
        Token { machine: entry, kind: UPSTREAM_CONNECTION, slot: self as u8 }
    }
}

impl UpstreamPool {
    /// A connection to this upstream for `owner`: one that waits, unless a fresh one is asked for, else a new one.
    pub fn acquire(&mut self, upstream: &Rc<Upstream>, owner: Key, fresh: bool, connect_timeout: Duration) -> Key {
        if !fresh && let Some(key) = self.revive(upstream, owner) {
            return key;
        }
        self.connections.insert_with(|key| {
            let tokens = ConnectorTokens { resolve: Slot::Resolve.token(key), connect: Slot::Connect.token(key) };
            let connector = Connector::new(Rc::clone(upstream), tokens, connect_timeout);
            UpstreamConnection {
                inbox: Inbox::default(),
                upstream: Rc::clone(upstream),
                address: None,
                state: State::Connecting { owner, connector },
                uses: 0,
            }
        })
    }

    fn revive(&mut self, upstream: &Upstream, owner: Key) -> Option<Key> {
        loop {
            let key = upstream.idle.borrow_mut().pop()?;
            let entry = self.connections.get_mut(key)?;
            if let State::Idle { connection, .. } = entry.take_state() {
                self.idle -= 1;
                if entry.leads_to_its_upstream() {
                    entry.state = State::InUse { owner, connection };
                    entry.uses = entry.uses.saturating_add(1);
                    return Some(key);
                }
                tracing::debug!(upstream = %upstream.address(), "an idle connection leads elsewhere");
                entry.state = State::Closing { close_kind: CloseKind::Fin, connection };
                self.leaving.push(key);
            }
        }
    }

    /// The connection, as long as it is not released.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut UpstreamConnection> {
        self.connections.get_mut(key)
    }

    /// Lets go of a connection, whatever it is doing.
    pub fn release(&mut self, key: Key, release: Release, now: Time) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        entry.state = match entry.take_state() {
            State::Connecting { connector, .. } => State::Abandoned(connector),
            State::InUse { connection, .. } => match release {
                Release::Keep(keep_alive) if !self.is_draining && entry.can_wait(&connection, keep_alive) => {
                    let until = now + keep_alive.idle_timeout;
                    self.next_expiry = Some(self.next_expiry.map_or(until, |next| next.min(until)));
                    self.idle += 1;
                    entry.upstream.idle.borrow_mut().push(key);
                    State::Idle { until, connection }
                }
                Release::Keep(_) => State::Closing { close_kind: CloseKind::Fin, connection },
                Release::FlushReset(timeout) => {
                    self.flush_timeout = timeout;
                    self.flushing += 1;
                    let until = (!timeout.is_zero()).then(|| now + timeout);
                    self.next_flush_expiry = Time::earliest(self.next_flush_expiry, until);
                    State::Flushing { until, connection }
                }
                Release::Close(close_kind) => State::Closing { close_kind, connection },
            },
            state => state,
        };
        if !matches!(entry.state, State::Idle { .. }) {
            entry.inbox.clear();
            self.leaving.push(key);
        }
    }

    /// Records an outcome; who is to be told, if somebody is.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) -> Option<Key> {
        let Some(entry) = self.connections.get_mut(token.machine) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known link");
            return None;
        };
        let is_progress = matches!(outcome, Outcome::Progress(_) | Outcome::Sent);
        entry.on_outcome(token, outcome, now);
        if let State::Flushing { until: Some(until), .. } = &mut entry.state
            && is_progress
        {
            // The timer fires in vain, and is armed again.
            *until = now + self.flush_timeout;
        }
        if let State::Idle { .. } = entry.state {
            // It ended, or said something that nobody had asked for.
            let State::Idle { connection, .. } = entry.take_state() else { return None };
            tracing::debug!(upstream = %entry.upstream.address(), "an idle connection ended");
            entry.state = State::Closing { close_kind: CloseKind::Fin, connection };
            entry.inbox.clear();
            entry.upstream.forget_idle(token.machine);
            self.idle -= 1;
        }
        match entry.state {
            State::Connecting { owner, .. } | State::InUse { owner, .. } => Some(owner),
            State::Idle { .. } | State::Closing { .. } | State::Flushing { .. } | State::Abandoned(_) | State::Gone => {
                self.leaving.push(token.machine);
                None
            }
        }
    }

    /// Has a session pumped soon.
    pub fn wake(&mut self, session: Key) {
        self.woken.push(session);
    }

    /// The sessions that were woken.
    pub fn take_woken(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.woken)
    }

    /// Goes on with closing and giving up.
    pub fn pump(&mut self, ops: &mut Ops) {
        let mut leaving = std::mem::take(&mut self.leaving);
        for key in leaving.drain(..) {
            if let Some(entry) = self.connections.get_mut(key)
                && entry.leave(key, ops)
            {
                self.flushing -= usize::from(matches!(entry.state, State::Flushing { .. }));
                self.connections.remove(key);
            }
        }
        self.leaving = leaving;
    }

    /// When [`UpstreamPool::expire`] may find something.
    pub fn next_expiry(&self) -> Option<Time> {
        let idle = self.next_expiry.filter(|_| self.idle > 0);
        Time::earliest(idle, self.next_flush_expiry.filter(|_| self.flushing > 0))
    }

    /// Closes what has been idle, or has been on its way, for too long.
    pub fn expire(&mut self, now: Time) {
        if self.next_flush_expiry.is_some_and(|next| next <= now) {
            self.end_flushes(|until| until.is_some_and(|until| until <= now));
        }
        self.next_expiry = None;
        let mut next: Option<Time> = None;
        self.close_idle(|_, until| {
            let is_over = until <= now;
            if !is_over {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
            is_over
        });
        self.next_expiry = next;
    }

    /// Closes everything idle, and lets nothing become idle from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.close_idle(|_, _| true);
    }

    /// Waits no longer for anything that is on its way.
    pub fn cut(&mut self) {
        self.end_flushes(|_| true);
    }

    fn end_flushes(&mut self, is_over: impl Fn(Option<Time>) -> bool) {
        self.next_flush_expiry = None;
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let Some(entry) = self.connections.get_mut(key) else { continue };
            match entry.take_state() {
                State::Flushing { until, connection } if is_over(until) => {
                    entry.state = State::Closing { close_kind: CloseKind::Reset, connection };
                    self.flushing -= 1;
                    self.leaving.push(key);
                }
                state => {
                    if let State::Flushing { until, .. } = state {
                        self.next_flush_expiry = Time::earliest(self.next_flush_expiry, until);
                    }
                    entry.state = state;
                }
            }
        }
    }

    /// Closes what is idle and leads where no request will go any more.
    pub fn close_stranded(&mut self) {
        self.close_idle(|entry, _| !entry.leads_to_its_upstream());
    }

    fn close_idle(&mut self, mut is_over: impl FnMut(&UpstreamConnection, Time) -> bool) {
        if self.idle == 0 {
            return;
        }
        let keys: Vec<Key> = self.connections.keys().collect();
        for key in keys {
            let Some(entry) = self.connections.get_mut(key) else { continue };
            match entry.take_state() {
                State::Idle { until, connection } if is_over(entry, until) => {
                    entry.upstream.forget_idle(key);
                    entry.state = State::Closing { close_kind: CloseKind::Fin, connection };
                    self.idle -= 1;
                    self.leaving.push(key);
                }
                state => entry.state = state,
            }
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How many there are, idle ones included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// How many wait to be used again.
    pub const fn idle(&self) -> usize {
        self.idle
    }

    /// Whether such a connection exists.
    pub fn contains(&self, key: Key) -> bool {
        self.connections.contains(key)
    }

    /// The session that uses this connection.
    pub fn owner(&self, key: Key) -> Option<Key> {
        match self.connections.get(key)?.state {
            State::Connecting { owner, .. } | State::InUse { owner, .. } => Some(owner),
            State::Idle { .. } | State::Closing { .. } | State::Flushing { .. } | State::Abandoned(_) | State::Gone => {
                None
            }
        }
    }

    /// Bytes of buffer memory that wait in a session's connection.
    pub fn memory_of(&self, session: Key) -> usize {
        let of_session = self.connections.keys().filter(|key| self.owner(*key) == Some(session));
        of_session.filter_map(|key| self.connections.get(key)).map(|entry| entry.inbox.memory()).sum()
    }
}

impl UpstreamConnection {
    /// Goes on with reaching the upstream, and says how far it is.
    pub fn poll_connect(&mut self, key: Key, now: Time, ops: &mut Ops) -> ConnectStatus<'_> {
        if let State::Connecting { connector, .. } = &mut self.state {
            connector.pump(now, ops);
            if let Some(error) = connector.error() {
                return ConnectStatus::Failed(error);
            }
            if let Some((socket, address)) = connector.take() {
                self.connected(key, socket, address);
            }
        }
        match &mut self.state {
            State::InUse { connection, .. } => ConnectStatus::Ready(connection),
            State::Connecting { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Flushing { .. }
            | State::Abandoned(_)
            | State::Gone => ConnectStatus::Underway,
        }
    }

    fn connected(&mut self, key: Key, socket: Socket, address: Address) {
        tracing::debug!(%address, "upstream connected");
        self.address = Some(address);
        if let State::Connecting { owner, .. } = self.take_state() {
            self.state = State::InUse { owner, connection: Connection::new(socket, connection_tokens(key)) };
        }
    }

    /// The connection and what has arrived on it, once it is connected.
    pub const fn connected_parts(&mut self) -> Option<(&mut Connection, &mut Inbox)> {
        match &mut self.state {
            State::InUse { connection, .. } => Some((connection, &mut self.inbox)),
            State::Connecting { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Flushing { .. }
            | State::Abandoned(_)
            | State::Gone => None,
        }
    }

    /// Whether it has carried requests before this one, so that its upstream may have given it up meanwhile.
    pub const fn is_reused(&self) -> bool {
        self.uses > 0
    }

    /// When its present step will have taken too long.
    pub const fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Connecting { connector, .. } => connector.deadline(),
            State::InUse { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Flushing { .. }
            | State::Abandoned(_)
            | State::Gone => None,
        }
    }

    const fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Gone)
    }

    /// Whether the next request can begin right here.
    fn can_wait(&self, connection: &Connection, keep_alive: KeepAlive) -> bool {
        !keep_alive.idle_timeout.is_zero()
            && connection.writer.is_idle()
            && connection.reader.is_receiving()
            && self.inbox.is_empty()
            && self.leads_to_its_upstream()
            && self.upstream.idle.borrow().len() < keep_alive.idle_max
    }

    /// Whether a new connection could lead to the same address.
    fn leads_to_its_upstream(&self) -> bool {
        self.address.as_ref().is_some_and(|address| self.upstream.is_at(address))
    }

    fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        match &mut self.state {
            State::Connecting { connector, .. } | State::Abandoned(connector) => connector.on_outcome(outcome, now),
            State::InUse { connection, .. }
            | State::Idle { connection, .. }
            | State::Flushing { connection, .. }
            | State::Closing { connection, .. } => {
                if token.slot == Slot::Recv as u8 {
                    if let Some(buffer) = connection.on_received(outcome) {
                        self.inbox.push(buffer);
                    }
                } else if token.slot == Slot::Send as u8 {
                    connection.on_sent(outcome);
                } else {
                    connection.on_closed(outcome);
                }
            }
            State::Gone => crate::tcp::unexpected("upstream connection", &"Gone", &outcome, token),
        }
    }

    /// Goes on with ending; `true` when nothing is open and nothing in flight.
    fn leave(&mut self, key: Key, ops: &mut Ops) -> bool {
        if let State::Abandoned(connector) = &mut self.state {
            connector.cancel(ops);
            match connector.take() {
                Some((socket, _)) => {
                    let connection = Connection::new(socket, connection_tokens(key));
                    self.state = State::Closing { close_kind: CloseKind::Fin, connection };
                }
                None => return connector.is_at_rest(),
            }
        }
        match &mut self.state {
            State::Closing { close_kind, connection } => {
                self.inbox.clear();
                connection.close(*close_kind, ops);
                connection.is_closed()
            }
            State::Flushing { connection, .. } => {
                self.inbox.clear();
                connection.close(CloseKind::FlushReset, ops);
                connection.is_closed()
            }
            State::Gone => true,
            State::Connecting { .. } | State::InUse { .. } | State::Idle { .. } | State::Abandoned(_) => false,
        }
    }
}

const fn connection_tokens(entry: Key) -> ConnectionTokens {
    ConnectionTokens { recv: Slot::Recv.token(entry), send: Slot::Send.token(entry), close: Slot::Close.token(entry) }
}

#[cfg(test)]
mod tests;
