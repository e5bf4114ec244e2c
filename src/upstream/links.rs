//! The connections of one worker to upstreams: those in use, and those that wait to be used again.
//!
//! ```text
//!              connected              release(keep)
//!   Reaching ────────────► InUse ────────────────────► Idle ──┐ anything happens on it,
//!     │  │ no address       │  ▲ acquire                │     │ or nothing for too long
//!     │  ▼                  │  └────────────────────────┘     │
//!     │ Failed              │ release(close)                  │
//!     │  │ release          ▼                                 │
//!     │  └──────► gone ◄── Closing ◄──────────────────────────┘
//!     │ release              ▲  ▲ all has arrived, or not for too long
//!     │                      │  └── Delivering ◄── release(deliver) of one in use
//!     └──────► Abandoned ────┘ it came about all the same
//! ```
//!
//! A link outlives the session that uses it. Its receive stays armed from one request to the next, so that an idle one
//! whose upstream goes away is noticed at once, and using it again asks nothing of the kernel. It does not know what
//! the bytes mean, nor which upstream is to be chosen.

use std::rc::Rc;
use std::time::Duration;

use super::{ConnectError, Connector, ConnectorTokens, Upstream};
use crate::buffer::Inbox;
use crate::driver::{Address, Ops, Outcome, Socket, Time, Token};
use crate::table::{Key, Table};
use crate::tcp::{Connection, ConnectionTokens, Manner};

/// The kind that marks a link's tokens.
pub const LINK: u8 = 3;

/// The connections of one worker to upstreams.
#[derive(Debug, Default)]
pub struct Links {
    links: Table<Link>,
    /// Links that nobody uses and that have something to do: to be closed, or to be given up.
    leaving: Vec<Key>,
    /// Sessions that may go on since somebody else is done.
    woken: Vec<Key>,
    /// When the first idle one may have waited for too long.
    next_expiry: Option<Time>,
    /// When the first one may have waited for too long for what was sent on it to arrive.
    next_delivery: Option<Time>,
    /// How long that is; zero: however long it takes.
    delivery_timeout: Duration,
    delivering: usize,
    idle: usize,
    is_draining: bool,
}

/// One connection to an upstream, or the attempt at one.
#[derive(Debug)]
pub struct Link {
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
    Reaching {
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
        manner: Manner,
        connection: Connection,
    },
    /// What was sent is still on its way.
    Delivering {
        until: Option<Time>,
        connection: Connection,
    },
    Abandoned(Connector),
    Gone,
}

/// How far a link is.
#[derive(Debug)]
pub enum Reach<'a> {
    /// Its upstream is being resolved or connected to.
    Underway,
    /// No address of the upstream took the connection.
    Failed(ConnectError),
    /// It can be used.
    Ready(&'a mut Connection),
}

/// What becomes of a link that its user is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is where a next request can begin.
    Keep(KeepAlive),
    /// It is closed.
    Close(Manner),
    /// It is reset, after all that was sent on it has arrived, or has not got on for so long; zero: for however long.
    Deliver(Duration),
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

/// The slots of a link.
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
    const fn token(self, link: Key) -> Token {
        Token { machine: link, kind: LINK, slot: self as u8 }
    }
}

impl Links {
    /// A link to this upstream for `owner`: one that waits, unless a fresh one is asked for, else a new one.
    pub fn acquire(&mut self, upstream: &Rc<Upstream>, owner: Key, fresh: bool, connect_timeout: Duration) -> Key {
        if !fresh && let Some(key) = self.revive(upstream, owner) {
            return key;
        }
        self.links.insert_with(|key| {
            let tokens = ConnectorTokens { resolve: Slot::Resolve.token(key), connect: Slot::Connect.token(key) };
            let connector = Connector::new(Rc::clone(upstream), tokens, connect_timeout);
            Link {
                inbox: Inbox::default(),
                upstream: Rc::clone(upstream),
                address: None,
                state: State::Reaching { owner, connector },
                uses: 0,
            }
        })
    }

    fn revive(&mut self, upstream: &Upstream, owner: Key) -> Option<Key> {
        loop {
            let key = upstream.idle.borrow_mut().pop()?;
            let link = self.links.get_mut(key)?;
            if let State::Idle { connection, .. } = link.take_state() {
                self.idle -= 1;
                if link.leads_to_its_upstream() {
                    link.state = State::InUse { owner, connection };
                    link.uses = link.uses.saturating_add(1);
                    return Some(key);
                }
                tracing::debug!(upstream = %upstream.address(), "an idle connection leads elsewhere");
                link.state = State::Closing { manner: Manner::Orderly, connection };
                self.leaving.push(key);
            }
        }
    }

    /// The link, as long as it is not released.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Link> {
        self.links.get_mut(key)
    }

    /// Lets go of a link, whatever it is doing.
    pub fn release(&mut self, key: Key, release: Release, now: Time) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.state = match link.take_state() {
            State::Reaching { connector, .. } => State::Abandoned(connector),
            State::InUse { connection, .. } => match release {
                Release::Keep(keep_alive) if !self.is_draining && link.can_wait(&connection, keep_alive) => {
                    let until = now + keep_alive.idle_timeout;
                    self.next_expiry = Some(self.next_expiry.map_or(until, |next| next.min(until)));
                    self.idle += 1;
                    link.upstream.idle.borrow_mut().push(key);
                    State::Idle { until, connection }
                }
                Release::Keep(_) => State::Closing { manner: Manner::Orderly, connection },
                Release::Deliver(timeout) => {
                    self.delivery_timeout = timeout;
                    self.delivering += 1;
                    let until = (!timeout.is_zero()).then(|| now + timeout);
                    self.next_delivery = Time::earliest(self.next_delivery, until);
                    State::Delivering { until, connection }
                }
                Release::Close(manner) => State::Closing { manner, connection },
            },
            state => state,
        };
        if !matches!(link.state, State::Idle { .. }) {
            link.inbox.clear();
            self.leaving.push(key);
        }
    }

    /// Records an outcome; who is to be told, if somebody is.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) -> Option<Key> {
        let Some(link) = self.links.get_mut(token.machine) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known link");
            return None;
        };
        let is_progress = matches!(outcome, Outcome::Progress(_) | Outcome::Sent);
        link.on_outcome(token, outcome, now);
        if let State::Delivering { until: Some(until), .. } = &mut link.state
            && is_progress
        {
            // The timer fires in vain, and is armed again.
            *until = now + self.delivery_timeout;
        }
        if let State::Idle { .. } = link.state {
            // It ended, or said something that nobody had asked for.
            let State::Idle { connection, .. } = link.take_state() else { return None };
            tracing::debug!(upstream = %link.upstream.address(), "an idle connection ended");
            link.state = State::Closing { manner: Manner::Orderly, connection };
            link.inbox.clear();
            link.upstream.forget_idle(token.machine);
            self.idle -= 1;
        }
        match link.state {
            State::Reaching { owner, .. } | State::InUse { owner, .. } => Some(owner),
            State::Idle { .. }
            | State::Closing { .. }
            | State::Delivering { .. }
            | State::Abandoned(_)
            | State::Gone => {
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
            if let Some(link) = self.links.get_mut(key)
                && link.leave(key, ops)
            {
                self.delivering -= usize::from(matches!(link.state, State::Delivering { .. }));
                self.links.remove(key);
            }
        }
        self.leaving = leaving;
    }

    /// When [`Links::expire`] may find something.
    pub fn next_expiry(&self) -> Option<Time> {
        let idle = self.next_expiry.filter(|_| self.idle > 0);
        Time::earliest(idle, self.next_delivery.filter(|_| self.delivering > 0))
    }

    /// Closes what has been idle, or has been on its way, for too long.
    pub fn expire(&mut self, now: Time) {
        if self.next_delivery.is_some_and(|next| next <= now) {
            self.end_deliveries(|until| until.is_some_and(|until| until <= now));
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
        self.end_deliveries(|_| true);
    }

    fn end_deliveries(&mut self, is_over: impl Fn(Option<Time>) -> bool) {
        self.next_delivery = None;
        let keys: Vec<Key> = self.links.keys().collect();
        for key in keys {
            let Some(link) = self.links.get_mut(key) else { continue };
            match link.take_state() {
                State::Delivering { until, connection } if is_over(until) => {
                    link.state = State::Closing { manner: Manner::Reset, connection };
                    self.delivering -= 1;
                    self.leaving.push(key);
                }
                state => {
                    if let State::Delivering { until, .. } = state {
                        self.next_delivery = Time::earliest(self.next_delivery, until);
                    }
                    link.state = state;
                }
            }
        }
    }

    /// Closes what is idle and leads where no request will go any more.
    pub fn close_stranded(&mut self) {
        self.close_idle(|link, _| !link.leads_to_its_upstream());
    }

    fn close_idle(&mut self, mut is_over: impl FnMut(&Link, Time) -> bool) {
        if self.idle == 0 {
            return;
        }
        let keys: Vec<Key> = self.links.keys().collect();
        for key in keys {
            let Some(link) = self.links.get_mut(key) else { continue };
            match link.take_state() {
                State::Idle { until, connection } if is_over(link, until) => {
                    link.upstream.forget_idle(key);
                    link.state = State::Closing { manner: Manner::Orderly, connection };
                    self.idle -= 1;
                    self.leaving.push(key);
                }
                state => link.state = state,
            }
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// How many there are, idle ones included.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// How many wait to be used again.
    pub const fn idle(&self) -> usize {
        self.idle
    }

    /// Whether such a link exists.
    pub fn contains(&self, key: Key) -> bool {
        self.links.contains(key)
    }

    /// The session that uses this link.
    pub fn owner(&self, key: Key) -> Option<Key> {
        match self.links.get(key)?.state {
            State::Reaching { owner, .. } | State::InUse { owner, .. } => Some(owner),
            State::Idle { .. }
            | State::Closing { .. }
            | State::Delivering { .. }
            | State::Abandoned(_)
            | State::Gone => None,
        }
    }

    /// Bytes of buffer memory that wait in a session's link.
    pub fn memory_of(&self, session: Key) -> usize {
        let of_session = self.links.keys().filter(|key| self.owner(*key) == Some(session));
        of_session.filter_map(|key| self.links.get(key)).map(|link| link.inbox.memory()).sum()
    }
}

impl Link {
    /// Goes on with reaching the upstream, and says how far it is.
    pub fn reach(&mut self, key: Key, now: Time, ops: &mut Ops) -> Reach<'_> {
        if let State::Reaching { connector, .. } = &mut self.state {
            connector.pump(now, ops);
            if let Some(error) = connector.error() {
                return Reach::Failed(error);
            }
            if let Some((socket, address)) = connector.take() {
                self.connected(key, socket, address);
            }
        }
        match &mut self.state {
            State::InUse { connection, .. } => Reach::Ready(connection),
            State::Reaching { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Delivering { .. }
            | State::Abandoned(_)
            | State::Gone => Reach::Underway,
        }
    }

    fn connected(&mut self, key: Key, socket: Socket, address: Address) {
        tracing::debug!(%address, "upstream connected");
        self.address = Some(address);
        if let State::Reaching { owner, .. } = self.take_state() {
            self.state = State::InUse { owner, connection: Connection::new(socket, connection_tokens(key)) };
        }
    }

    /// The connection and what has arrived on it, once it is connected.
    pub const fn connected_parts(&mut self) -> Option<(&mut Connection, &mut Inbox)> {
        match &mut self.state {
            State::InUse { connection, .. } => Some((connection, &mut self.inbox)),
            State::Reaching { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Delivering { .. }
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
            State::Reaching { connector, .. } => connector.deadline(),
            State::InUse { .. }
            | State::Idle { .. }
            | State::Closing { .. }
            | State::Delivering { .. }
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
            State::Reaching { connector, .. } | State::Abandoned(connector) => connector.on_outcome(outcome, now),
            State::InUse { connection, .. }
            | State::Idle { connection, .. }
            | State::Delivering { connection, .. }
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
            State::Gone => crate::tcp::unexpected("link", &"Gone", &outcome, token),
        }
    }

    /// Goes on with ending; `true` when nothing is open and nothing in flight.
    fn leave(&mut self, key: Key, ops: &mut Ops) -> bool {
        if let State::Abandoned(connector) = &mut self.state {
            connector.cancel(ops);
            match connector.take() {
                Some((socket, _)) => {
                    let connection = Connection::new(socket, connection_tokens(key));
                    self.state = State::Closing { manner: Manner::Orderly, connection };
                }
                None => return connector.is_at_rest(),
            }
        }
        match &mut self.state {
            State::Closing { manner, connection } => {
                self.inbox.clear();
                connection.close(*manner, ops);
                connection.is_closed()
            }
            State::Delivering { connection, .. } => {
                self.inbox.clear();
                connection.close(Manner::Delivered, ops);
                connection.is_closed()
            }
            State::Gone => true,
            State::Reaching { .. } | State::InUse { .. } | State::Idle { .. } | State::Abandoned(_) => false,
        }
    }
}

const fn connection_tokens(link: Key) -> ConnectionTokens {
    ConnectionTokens { recv: Slot::Recv.token(link), send: Slot::Send.token(link), close: Slot::Close.token(link) }
}

#[cfg(test)]
mod tests;
