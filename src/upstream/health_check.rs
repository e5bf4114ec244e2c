//! Checks one endpoint of a group, again and again: connects to it, asks it if so configured, judges, closes.
//!
//! ```text
//!          its time              connected            answered, ended, overdue
//!   Idle ────────────► Connecting ─────────► Asking ───────────────────────────► Closing
//!    ▲                  │  │  └───────────────────── nothing to be asked ──────────►│ ▲
//!    │   unreachable    │  │ it is over                                             │ │
//!    ├──────────────────┘  └──────────► Abandoned ── it came about all the same ────┼─┘
//!    │                                    │                                         │
//!    └────────────────────────────────────┴─────────────────────────────────────────┘ closed
//! ```
//!
//! The verdict falls before the connection is closed, and so many in a row change what the group believes. Each worker
//! checks the endpoints of its own groups: workers share nothing, so an upstream is asked once an interval by each of them,
//! and each comes to its own conclusion.
//!
//! It does not know when other endpoints are checked, nor what a group does with an endpoint that is down.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::group::{CheckConfig, CheckCounter, CheckKind, EndpointId, UpstreamGroup};
use super::{ConnectError, Connector, ConnectorTokens, Upstream};
use crate::buffer::{Chain, Chunk, Inbox};
use crate::config::UpstreamAddress;
use crate::driver::{Fault, Ops, Outcome, Time, Token};
use crate::http::response_head::{Parsed, parse};
use crate::http::{HeadLimits, Status};
use crate::table::Key;
use crate::tcp::{CloseKind, Connection, ConnectionTokens, End, proxy_header};

/// The machine that checks one endpoint.
#[derive(Debug)]
pub(super) struct HealthCheck {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    config: Rc<CheckConfig>,
    /// What is sent; empty: nothing is asked.
    request: Arc<[u8]>,
    counter: CheckCounter,
    /// When the next check begins; `None`: there will be none.
    next: Option<Time>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting(Connector),
    Asking { connection: Connection, inbox: Inbox, deadline: Time },
    Closing(Connection),
    Abandoned(Connector),
}

/// Why a check was not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckFailure {
    Unreachable(ConnectError),
    /// No whole head in time.
    NoResponse,
    /// The connection ended before a whole head.
    Ended,
    Broken(Fault),
    /// Not HTTP, or too much of it.
    BadResponse(&'static str),
    Status(Status),
}

/// The slots of a check.
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
    const fn token(self, machine: Key) -> Token {
        Token { machine, kind: super::HEALTH_MONITOR, slot: self as u8 }
    }
}

/// What an answer may come to before its final head has ended: a server may send as many 1xx as it likes.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

impl HealthCheck {
    /// Checks an endpoint of the group from `first` on. `counter`: what checks have shown of it so far.
    pub(super) fn new(
        group: Rc<UpstreamGroup>,
        endpoint: EndpointId,
        config: Rc<CheckConfig>,
        counter: CheckCounter,
        first: Time,
    ) -> Self {
        let request = request(&config.kind, &group, endpoint);
        Self { group, endpoint, config, request, counter, next: Some(first), state: State::Idle }
    }

    fn upstream(&self) -> &Rc<Upstream> {
        self.group.upstream(self.endpoint)
    }

    /// What is checked, and how.
    pub(super) fn subject(&self) -> (UpstreamAddress, Rc<CheckConfig>) {
        (self.upstream().address().clone(), Rc::clone(&self.config))
    }

    /// What it has shown so far.
    pub(super) const fn counter(&self) -> CheckCounter {
        self.counter
    }

    /// Its group.
    pub(super) const fn group(&self) -> &Rc<UpstreamGroup> {
        &self.group
    }

    /// Begins nothing any more, and gives up what is under way.
    pub(super) fn end(&mut self) {
        self.next = None;
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Connecting(connector) => State::Abandoned(connector),
            State::Asking { connection, .. } => State::Closing(connection),
            state @ (State::Idle | State::Closing(_) | State::Abandoned(_)) => state,
        };
    }

    /// Records an outcome.
    pub(super) fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        match &mut self.state {
            State::Connecting(connector) | State::Abandoned(connector) => connector.on_outcome(outcome, now),
            State::Asking { connection, inbox, .. } => {
                if let Some(buffer) = on_connection(connection, token, outcome) {
                    inbox.push(buffer);
                }
            }
            // What still arrives is of no interest.
            State::Closing(connection) => drop(on_connection(connection, token, outcome)),
            State::Idle => crate::tcp::unexpected("check", &"Idle", &outcome, token),
        }
    }

    /// Goes on; the verdict, once for each check.
    pub(super) fn pump(&mut self, key: Key, now: Time, ops: &mut Ops) -> Option<Result<(), CheckFailure>> {
        if let State::Idle = self.state
            && self.next.is_some_and(|next| next <= now)
        {
            self.begin(key, now);
        }
        let mut verdict = None;
        if let State::Connecting(connector) = &mut self.state {
            connector.pump(now, ops);
            if let Some(error) = connector.error() {
                if error.is_shortage() {
                    // Nobody was asked, so nobody has failed.
                    tracing::debug!(upstream = %self.group.upstream(self.endpoint).address(), %error, "not checked");
                } else {
                    verdict = Some(Err(CheckFailure::Unreachable(error)));
                }
                self.state = State::Idle;
            } else if let Some((socket, _)) = connector.take() {
                verdict = self.connected(Connection::new(socket, connection_tokens(key)), now, ops);
            }
        }
        if let State::Asking { connection, inbox, deadline } = &mut self.state {
            verdict = judge(connection, inbox, *deadline <= now);
            if verdict.is_some() {
                self.close();
            }
        }
        if let State::Abandoned(connector) = &mut self.state {
            connector.cancel(ops);
            match connector.take() {
                Some((socket, _)) => self.state = State::Closing(Connection::new(socket, connection_tokens(key))),
                None if connector.is_at_rest() => self.state = State::Idle,
                None => {}
            }
        }
        if let State::Closing(connection) = &mut self.state {
            connection.close(CloseKind::Fin, ops);
            if connection.is_closed() {
                self.state = State::Idle;
            }
        }
        if let Some(verdict) = verdict {
            self.conclude(verdict, now);
        }
        verdict
    }

    fn begin(&mut self, key: Key, now: Time) {
        self.next = Some(now + spread(self.config.interval, &self.group));
        let tokens = ConnectorTokens { resolve: Slot::Resolve.token(key), connect: Slot::Connect.token(key) };
        self.state = State::Connecting(Connector::new(Rc::clone(self.upstream()), tokens, self.config.timeout));
    }

    fn connected(&mut self, mut connection: Connection, now: Time, ops: &mut Ops) -> Option<Result<(), CheckFailure>> {
        if self.request.is_empty() {
            self.state = State::Closing(connection);
            return Some(Ok(()));
        }
        let mut chain = Chain::new();
        chain.push(Chunk::shared(Arc::clone(&self.request)));
        connection.writer.send(chain, ops);
        connection.reader.want(true, ops);
        self.state = State::Asking { connection, inbox: Inbox::default(), deadline: now + self.config.timeout };
        None
    }

    fn close(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Asking { connection, .. } => State::Closing(connection),
            state @ (State::Idle | State::Connecting(_) | State::Closing(_) | State::Abandoned(_)) => state,
        };
    }

    fn conclude(&mut self, verdict: Result<(), CheckFailure>, now: Time) {
        let changed = self.counter.on_result(verdict.is_ok());
        let upstream = self.upstream().address();
        match (changed, verdict) {
            (Some(true), _) => tracing::info!(%upstream, "upstream up: its checks pass"),
            (Some(false), Err(reason)) => tracing::warn!(%upstream, %reason, "upstream down: its checks fail"),
            (None, Err(reason)) => tracing::debug!(%upstream, %reason, "check failed"),
            (Some(false) | None, Ok(())) => {}
        }
        if let Some(is_up) = changed {
            self.group.set_checked(self.endpoint, is_up, now);
        }
    }

    /// When it wants to be pumped for the time's sake.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Idle => self.next,
            State::Connecting(connector) => connector.deadline(),
            State::Asking { deadline, .. } => Some(*deadline),
            State::Closing(_) | State::Abandoned(_) => None,
        }
    }

    /// Whether it was ended.
    pub(super) const fn is_ending(&self) -> bool {
        self.next.is_none()
    }

    /// Whether it was ended and nothing is open or in flight.
    pub(super) const fn is_over(&self) -> bool {
        self.is_ending() && matches!(self.state, State::Idle)
    }
}

/// An interval, a tenth longer or shorter.
pub(super) fn spread(interval: Duration, group: &UpstreamGroup) -> Duration {
    let interval = interval.max(INTERVAL_MIN);
    interval - interval / 10 + group.draw(interval / 5)
}

/// However short an interval is said to be, there is some time between two checks.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

fn request(kind: &CheckKind, group: &UpstreamGroup, endpoint: EndpointId) -> Arc<[u8]> {
    match kind {
        CheckKind::Connect => Arc::new([]),
        CheckKind::Http { target } => {
            let version = env!("CARGO_PKG_VERSION");
            let authority = group.upstream(endpoint).address().authority();
            // A check comes on nobody's behalf.
            let mut request = group.announces().map_or_else(Vec::new, |version| proxy_header::header(version, None));
            let head = format!(
                "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: xps/{version} (health check)\r\nConnection: close\r\n\r\n"
            );
            request.extend_from_slice(head.as_bytes());
            request.into()
        }
    }
}

/// What the answer shows so far; `None`: nothing yet.
fn judge(connection: &Connection, inbox: &mut Inbox, is_overdue: bool) -> Option<Result<(), CheckFailure>> {
    while inbox.may_hold_head() {
        match parse(inbox.bytes(), false, &HeadLimits::default()) {
            Ok(Parsed::Complete { head, length })
                if head.status.is_informational() && head.status != Status::SWITCHING_PROTOCOLS =>
            {
                inbox.consume(length);
            }
            Ok(Parsed::Complete { head, .. }) => {
                let is_good = (200..400).contains(&head.status.code());
                return Some(if is_good { Ok(()) } else { Err(CheckFailure::Status(head.status)) });
            }
            Ok(Parsed::Partial) => {
                if !inbox.gather() {
                    break;
                }
            }
            Err(bad) => return Some(Err(CheckFailure::BadResponse(bad.reason))),
        }
    }
    let check_failure = match connection.reader.end() {
        Some(End::Eof) => CheckFailure::Ended,
        Some(End::Failed(fault)) => CheckFailure::Broken(fault),
        None if connection.reader.received_bytes() > RESPONSE_BYTES_MAX => CheckFailure::BadResponse("it has no end"),
        None if is_overdue => CheckFailure::NoResponse,
        None => return None,
    };
    Some(Err(check_failure))
}

fn on_connection(connection: &mut Connection, token: Token, outcome: Outcome) -> Option<crate::buffer::Buffer> {
    if token.slot == Slot::Recv as u8 {
        return connection.on_received(outcome);
    }
    if token.slot == Slot::Send as u8 {
        connection.on_sent(outcome);
    } else {
        connection.on_closed(outcome);
    }
    None
}

const fn connection_tokens(check: Key) -> ConnectionTokens {
    ConnectionTokens { recv: Slot::Recv.token(check), send: Slot::Send.token(check), close: Slot::Close.token(check) }
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => error.fmt(f),
            Self::NoResponse => f.write_str("no answer in time"),
            Self::Ended => f.write_str("the connection ended without an answer"),
            Self::Broken(fault) => fault.fmt(f),
            Self::BadResponse(reason) => write!(f, "bad answer: {reason}"),
            Self::Status(status) => write!(f, "it answers {}", status.code()),
        }
    }
}
