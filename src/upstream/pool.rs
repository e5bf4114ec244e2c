//! [`UpstreamPool`]: the connections of one worker to upstreams, in use and idle.
//!
//! ```text
//!              connected              release(keep)
//!   Connecting ──────────► InUse ────────────────────► Idle ──┐ closed, data received,
//!     │  │ no address       │  ▲ acquire                │     │ or idle_timeout over
//!     │  ▼                  │  └────────────────────────┘     │
//!     │ Failed              │ release(close)                  │
//!     │  │ release          ▼                                 │
//!     │  └──────► gone ◄── Closing ◄──────────────────────────┘
//!     │ release              ▲  ▲ all acknowledged, or timed out
//!     │                      │  └── Flushing ◄──── release(flush) of one in use
//!     └──────► Abandoned ────┘ connected before the cancel took effect
//! ```
//!
//! A connection outlives the session that uses it. Its receive stays armed from one request to the
//! next. So the worker notices at once when an upstream closes an idle connection, and reuse costs
//! no system call. What the bytes mean is known to those who use the connection: as bytes, or as a
//! stream, see [`super::UpstreamStream`]. Nor does it know which upstream to choose.

#[cfg(feature = "internals")]
pub mod planted_bug;

use std::rc::Rc;
use std::time::Duration;

use super::stream::{Http1, UpstreamStream};
use super::{ConnectError, Connected, Connector, OutboundTokens, Upstream};
use crate::buffer::{Chunk, Inbox};
use crate::driver::{Address, Ops, Outcome, Time, Token};
use crate::table::{Key, Table};
use crate::tcp::CloseKind;
use crate::transport::Transport;
use crate::waiter::{SessionKey, Waiter};

/// The token kind of upstream connections.
pub const UPSTREAM_CONNECTION: u8 = 3;

/// The upstream connections of one worker.
#[derive(Debug, Default)]
pub struct UpstreamPool {
    connections: Table<UpstreamConnection>,
    /// Connections without a user that are still to be closed or abandoned.
    leaving: Vec<ConnectionKey>,
    /// Encrypted connections that something has happened on, or that wait for memory.
    encrypted: Vec<ConnectionKey>,
    /// When to ask those again that wait for memory.
    next_retry: Option<Time>,
    /// Requests to resume, since another one freed what they waited for.
    woken: Vec<Waiter>,
    /// When the first idle connection may have reached its idle timeout.
    next_expiry: Option<Time>,
    /// When the first flushing connection may have timed out.
    next_flush_expiry: Option<Time>,
    /// Timeout of a flush; zero: no limit.
    flush_timeout: Duration,
    flushing: usize,
    idle: usize,
    is_draining: bool,
}

/// Identifies a connection of a pool.
pub type ConnectionKey = Key<UpstreamConnection>;

/// One connection to an upstream, established or being established.
#[derive(Debug)]
pub struct UpstreamConnection {
    /// Received bytes that have not been read.
    inbox: Inbox,
    /// The requests and responses on it, unless it carries other bytes.
    http1: Http1,
    upstream: Rc<Upstream>,
    /// The peer's address, once connected.
    address: Option<Address>,
    state: State,
    /// How many requests it has carried before the current one.
    uses: u32,
    /// Something has happened that its owner has not looked at yet.
    has_news: bool,
}

#[derive(Debug)]
enum State {
    Connecting {
        owner: Waiter,
        connector: Connector,
    },
    InUse {
        owner: Waiter,
        connection: Transport,
    },
    Idle {
        until: Time,
        connection: Transport,
    },
    Closing {
        close_kind: CloseKind,
        connection: Transport,
    },
    /// Sent bytes have not all been acknowledged yet.
    Flushing {
        until: Option<Time>,
        connection: Transport,
    },
    Abandoned(Connector),
    Gone,
}

/// Progress of a connection.
#[derive(Debug)]
pub enum ConnectStatus<'a> {
    /// The name is being resolved, or an address connected to.
    Underway,
    /// No address of the upstream accepted the connection.
    Failed(ConnectError),
    /// Connected.
    Ready(&'a mut Transport),
}

/// What to do with a connection after use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Keep it idle for reuse: the next request can begin.
    Keep(KeepAlive),
    /// Close it.
    Close(CloseKind),
    /// Reset it once all sent bytes have been acknowledged, or after this long without progress;
    /// zero: no limit.
    FlushReset(Duration),
}

/// Limits of idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Maximum of idle connections per upstream and worker.
    pub idle_max: usize,
    /// Idle timeout; zero: connections are not reused.
    pub idle_timeout: Duration,
}

impl Default for KeepAlive {
    /// 64 connections, 60 s: less than the usual idle timeout of upstreams, so that they rarely
    /// close first.
    fn default() -> Self {
        Self { idle_max: 64, idle_timeout: Duration::from_secs(60) }
    }
}

const fn tokens_of(key: ConnectionKey) -> OutboundTokens {
    OutboundTokens { machine: key.raw(), kind: UPSTREAM_CONNECTION }
}

impl UpstreamPool {
    /// A connection to this upstream for `owner`: an idle one, or a new one if there is none or
    /// `fresh` is set. A `preamble` before TLS needs a new one, see [`Connector::new`].
    pub fn acquire(
        &mut self,
        upstream: &Rc<Upstream>,
        owner: Waiter,
        fresh: bool,
        connect_timeout: Duration,
        preamble: Option<Chunk>,
    ) -> ConnectionKey {
        debug_assert!(fresh || preamble.is_none(), "an idle connection has begun already");
        if !fresh && let Some(key) = self.revive(upstream, owner) {
            return key;
        }
        self.connections.insert_with(|key| {
            let connector = Connector::new(Rc::clone(upstream), tokens_of(key), connect_timeout, preamble);
            UpstreamConnection {
                inbox: Inbox::default(),
                http1: Http1::new(),
                upstream: Rc::clone(upstream),
                address: None,
                state: State::Connecting { owner, connector },
                uses: 0,
                has_news: false,
            }
        })
    }

    fn revive(&mut self, upstream: &Upstream, owner: Waiter) -> Option<ConnectionKey> {
        loop {
            let key = upstream.take_idle()?;
            let entry = self.connections.get_mut(key)?;
            if let State::Idle { connection, .. } = entry.take_state() {
                self.idle -= 1;
                if entry.leads_to_its_upstream() {
                    entry.state = State::InUse { owner, connection };
                    entry.uses = entry.uses.saturating_add(1);
                    return Some(key);
                }
                tracing::debug!(upstream = %upstream.address(), "closing an idle connection: its address is no longer in use");
                entry.state = State::Closing { close_kind: CloseKind::Fin, connection };
                self.leaving.push(key);
            }
        }
    }

    /// The connection, until it is released.
    pub fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut UpstreamConnection> {
        let entry = self.connections.get_mut(key)?;
        entry.has_news = false;
        Some(entry)
    }

    /// Ends the owner's use of a connection, in whatever state it is.
    pub fn release(&mut self, key: ConnectionKey, release: Release, now: Time) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        entry.state = match entry.take_state() {
            State::Connecting { connector, .. } => State::Abandoned(connector),
            State::InUse { connection, .. } => match release {
                Release::Keep(keep_alive) if !self.is_draining && entry.can_wait(&connection, keep_alive) => {
                    let until = now + keep_alive.idle_timeout;
                    self.next_expiry = Some(self.next_expiry.map_or(until, |next| next.min(until)));
                    self.idle += 1;
                    entry.upstream.add_idle(key);
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
            entry.http1.clear();
            self.leaving.push(key);
        }
    }

    /// Records an outcome. Returns the owner of the connection, to be resumed; `None`: nothing uses it.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) -> Option<Waiter> {
        let key = token.machine.typed();
        let Some(entry) = self.connections.get_mut(key) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known upstream connection");
            return None;
        };
        match &mut entry.state {
            State::Connecting { owner, connector } => {
                let owner = *owner;
                connector.on_outcome(token, outcome, now);
                entry.tell(owner)
            }
            State::InUse { owner, connection } => {
                let (owner, is_encrypted) = (*owner, connection.is_encrypted());
                if let Some(buffer) = OutboundTokens::record(connection, token, outcome) {
                    entry.inbox.push(buffer);
                }
                if is_encrypted {
                    entry.decrypt();
                    self.encrypted.push(key);
                }
                entry.tell(owner)
            }
            State::Idle { .. } => {
                self.on_outcome_while_idle(key, token, outcome);
                None
            }
            State::Flushing { until, connection } => {
                if let (Some(until), Outcome::Progress(_) | Outcome::Sent) = (until, &outcome) {
                    // `next_flush_expiry` stays: the timer fires early, and is armed again.
                    *until = now + self.flush_timeout;
                }
                drop(OutboundTokens::record(connection, token, outcome));
                self.leaving.push(key);
                None
            }
            State::Closing { connection, .. } => {
                drop(OutboundTokens::record(connection, token, outcome));
                self.leaving.push(key);
                None
            }
            State::Abandoned(connector) => {
                connector.on_outcome(token, outcome, now);
                self.leaving.push(key);
                None
            }
            State::Gone => {
                crate::tcp::unexpected("upstream connection", &"Gone", &outcome, token);
                self.leaving.push(key);
                None
            }
        }
    }

    /// Records an outcome of an idle connection: it has ended, or has sent bytes without a request.
    /// Only messages of TLS itself leave it as it is.
    fn on_outcome_while_idle(&mut self, key: ConnectionKey, token: Token, outcome: Outcome) {
        let Some(entry) = self.connections.get_mut(key) else { return };
        let State::Idle { connection, .. } = &mut entry.state else { return };
        if let Some(buffer) = OutboundTokens::record(connection, token, outcome) {
            entry.inbox.push(buffer);
        }
        if connection.is_encrypted() {
            entry.decrypt();
            self.encrypted.push(key);
            if entry.stays_idle() {
                return;
            }
        }
        let State::Idle { connection, .. } = entry.take_state() else { return };
        tracing::debug!(upstream = %entry.upstream.address(), "an idle connection ended");
        entry.state = State::Closing { close_kind: CloseKind::Fin, connection };
        entry.inbox.clear();
        entry.upstream.forget_idle(key);
        self.idle -= 1;
        self.leaving.push(key);
    }

    /// Schedules a request to be resumed.
    pub fn wake(&mut self, waiter: Waiter) {
        self.woken.push(waiter);
    }

    /// Whether [`UpstreamPool::wake`] has scheduled a request.
    pub const fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Takes the requests scheduled by [`UpstreamPool::wake`].
    pub fn take_woken(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.woken)
    }

    /// Advances closing, abandoning and encrypting.
    pub fn pump(&mut self, now: Time, ops: &mut Ops) {
        if !self.encrypted.is_empty() {
            self.drive_encrypted(now, ops);
        }
        if self.leaving.is_empty() {
            return;
        }
        let mut leaving = std::mem::take(&mut self.leaving);
        for key in leaving.drain(..) {
            if let Some(entry) = self.connections.get_mut(key)
                && entry.leave(ops)
            {
                self.flushing -= usize::from(matches!(entry.state, State::Flushing { .. }));
                self.connections.remove(key);
            }
        }
        self.leaving = leaving;
    }

    fn drive_encrypted(&mut self, now: Time, ops: &mut Ops) {
        self.next_retry = None;
        let mut keys = std::mem::take(&mut self.encrypted);
        keys.retain(|key| {
            let Some(entry) = self.connections.get_mut(*key) else { return false };
            let waits = entry.drive(now, ops);
            if waits && let State::InUse { connection, .. } = &entry.state {
                self.next_retry = Time::earliest(self.next_retry, connection.deadline());
            }
            waits
        });
        self.encrypted = keys;
    }

    /// When to call [`UpstreamPool::expire`] next.
    pub fn next_expiry(&self) -> Option<Time> {
        let idle = Time::earliest(self.next_expiry.filter(|_| self.idle > 0), self.next_retry);
        Time::earliest(idle, self.next_flush_expiry.filter(|_| self.flushing > 0))
    }

    /// Closes connections whose idle timeout or flush timeout is over.
    pub fn expire(&mut self, now: Time) {
        if self.next_flush_expiry.is_some_and(|next| next <= now) {
            self.end_flushes(|until| until.is_some_and(|until| until <= now));
        }
        if self.next_retry.is_some_and(|next| next <= now) {
            // What uses them has to look, too: there may be plaintext now.
            self.next_retry = None;
            for key in &self.encrypted {
                if let Some(entry) = self.connections.get_mut(*key) {
                    entry.decrypt();
                }
            }
            let owners: Vec<Waiter> = self.encrypted.iter().filter_map(|key| self.owner(*key)).collect();
            self.woken.extend(owners);
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

    /// Closes all idle connections, and lets no connection become idle from now on.
    pub fn drain(&mut self) {
        self.is_draining = true;
        self.close_idle(|_, _| true);
    }

    /// Resets all flushing connections now.
    pub fn cut(&mut self) {
        self.end_flushes(|_| true);
    }

    fn end_flushes(&mut self, is_over: impl Fn(Option<Time>) -> bool) {
        self.next_flush_expiry = None;
        let keys: Vec<ConnectionKey> = self.connections.keys().collect();
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

    /// Closes idle connections whose address or upstream is no longer in use.
    pub fn close_stranded(&mut self) {
        self.close_idle(|entry, _| !entry.leads_to_its_upstream());
    }

    fn close_idle(&mut self, mut is_over: impl FnMut(&UpstreamConnection, Time) -> bool) {
        if self.idle == 0 {
            return;
        }
        let keys: Vec<ConnectionKey> = self.connections.keys().collect();
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

    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Number of connections, idle ones included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Number of idle connections.
    pub const fn idle(&self) -> usize {
        self.idle
    }

    /// Whether the pool has this connection.
    pub fn contains(&self, key: ConnectionKey) -> bool {
        self.connections.contains(key)
    }

    /// Who uses this connection.
    pub fn owner(&self, key: ConnectionKey) -> Option<Waiter> {
        match self.connections.get(key)?.state {
            State::Connecting { owner, .. } | State::InUse { owner, .. } => Some(owner),
            State::Idle { .. } | State::Closing { .. } | State::Flushing { .. } | State::Abandoned(_) | State::Gone => {
                None
            }
        }
    }

    /// Who uses a connection on which something has happened that they have not looked at: they have
    /// to be resumed.
    pub fn unheeded(&self) -> impl Iterator<Item = Waiter> + '_ {
        let with_news = self.connections.iter().filter(|(_, entry)| entry.has_news);
        with_news.filter_map(|(key, _)| self.owner(key))
    }

    /// Who uses an encrypted connection that waits for memory, and is asked again after a time.
    pub fn waiting_for_memory(&self) -> impl Iterator<Item = Waiter> + '_ {
        let keys = self.encrypted.iter().filter(|_| self.next_retry.is_some());
        keys.filter_map(|key| self.owner(*key))
    }

    /// Bytes of memory that data in a session's connections occupy.
    pub fn memory_of(&self, session: SessionKey) -> usize {
        let is_of_session = |key: &ConnectionKey| self.owner(*key).is_some_and(|owner| owner.session == session);
        let of_session = self.connections.keys().filter(is_of_session);
        of_session
            .filter_map(|key| self.connections.get(key))
            .map(|entry| entry.inbox.memory() + entry.http1.memory())
            .sum()
    }
}

impl UpstreamConnection {
    /// Advances resolving and connecting, and returns the progress.
    pub fn poll_connect(&mut self, now: Time, ops: &mut Ops) -> ConnectStatus<'_> {
        if let State::Connecting { connector, .. } = &mut self.state {
            connector.pump(now, ops);
            if let Some(error) = connector.error() {
                return ConnectStatus::Failed(error);
            }
            if let Some(connected) = connector.take() {
                self.connected(connected);
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

    fn connected(&mut self, connected: Connected) {
        let Connected { transport: connection, address, received } = connected;
        tracing::debug!(%address, "upstream connected");
        received.into_iter().for_each(|buffer| self.inbox.push(buffer));
        self.address = Some(address);
        if let State::Connecting { owner, .. } = self.take_state() {
            self.state = State::InUse { owner, connection };
        }
    }

    /// The connection as bytes, and those received, once it is connected.
    pub fn bytes(&mut self) -> Option<(&mut Transport, &mut Inbox)> {
        let (connection, inbox, _) = self.connected_parts()?;
        Some((connection, inbox))
    }

    /// The request on it and its response, once it is connected.
    pub fn stream(&mut self) -> Option<UpstreamStream<'_>> {
        let (connection, inbox, http1) = self.connected_parts()?;
        Some(UpstreamStream::new(http1, connection, inbox))
    }

    /// What to do with it after a complete response.
    pub(super) fn release_after_response(&self, keep_alive: KeepAlive) -> Release {
        self.http1.release(keep_alive)
    }

    const fn connected_parts(&mut self) -> Option<(&mut Transport, &mut Inbox, &mut Http1)> {
        match &mut self.state {
            State::InUse { connection, .. } => Some((connection, &mut self.inbox, &mut self.http1)),
            State::Connecting { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Flushing { .. }
            | State::Abandoned(_)
            | State::Gone => None,
        }
    }

    /// Whether it has carried an earlier request, so that the upstream may have closed it
    /// meanwhile.
    pub const fn is_reused(&self) -> bool {
        self.uses > 0
    }

    /// When the current step times out.
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

    /// Whether the connection can become idle: nothing is unsent or unread, the upstream has not
    /// closed it, and the limits allow it.
    fn can_wait(&self, connection: &Transport, keep_alive: KeepAlive) -> bool {
        !keep_alive.idle_timeout.is_zero()
            && connection.can_send()
            && connection.is_receiving()
            && self.inbox.is_empty()
            && self.leads_to_its_upstream()
            && self.upstream.idle.borrow().len() < keep_alive.idle_max
    }

    /// Whether a new connection to its upstream could go to the same address.
    fn leads_to_its_upstream(&self) -> bool {
        self.address.as_ref().is_some_and(|address| self.upstream.is_at(address))
    }

    /// Notes that its owner has something to look at, and returns it.
    #[inline]
    fn tell(&mut self, owner: Waiter) -> Option<Waiter> {
        self.has_news = true;
        #[cfg(feature = "internals")]
        if planted_bug::strikes() {
            return None;
        }
        Some(owner)
    }

    /// Takes what has arrived on an encrypted connection.
    #[cold]
    fn decrypt(&mut self) {
        if let State::InUse { connection, .. } | State::Idle { connection, .. } = &mut self.state {
            while let Some(buffer) = connection.take_received() {
                self.inbox.push(buffer);
            }
        }
    }

    /// Lets an encrypted connection do what it has to do for itself. `true`: it waits for memory, and
    /// is to be asked again. It does not decrypt: what uses the connection would not look at it.
    fn drive(&mut self, now: Time, ops: &mut Ops) -> bool {
        let (State::InUse { connection, .. } | State::Idle { connection, .. }) = &mut self.state else { return false };
        connection.pump(now, ops);
        connection.deadline().is_some()
    }

    /// Whether nothing but messages of TLS itself has arrived on an idle connection.
    fn stays_idle(&self) -> bool {
        match &self.state {
            State::Idle { connection, .. } => {
                self.inbox.is_empty()
                    && connection.input_end().is_none()
                    && !connection.is_broken()
                    && connection.is_receiving()
            }
            _ => false,
        }
    }

    /// Advances closing; `true` once nothing is open and nothing in flight.
    fn leave(&mut self, ops: &mut Ops) -> bool {
        if let State::Abandoned(connector) = &mut self.state {
            connector.cancel(ops);
            match connector.take() {
                Some(Connected { transport: connection, .. }) => {
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

#[cfg(test)]
mod tests;
