//! Checks one endpoint periodically: connect, send a request if configured, judge the response,
//! close.
//!
//! ```text
//!           is due               connected            response, end, timeout
//!   Idle ────────────► Connecting ─────────► Asking ───────────────────────────► Closing
//!    ▲                  │  │  └───────────────────── no request configured ────────►│ ▲
//!    │   unreachable    │  │ `end()`                                                │ │
//!    ├──────────────────┘  └──────────► Abandoned ── connected all the same ────────┼─┘
//!    │                                    │                                         │
//!    └────────────────────────────────────┴─────────────────────────────────────────┘ closed
//! ```
//!
//! A check has its result before its connection is closed. `rise` passed checks or `fall` failed
//! ones in a row change the endpoint's state. Each worker checks the endpoints of its own groups,
//! since workers share nothing: an upstream gets one check per interval and worker, and each worker
//! counts its own results.
//!
//! It does not know when other endpoints are checked, nor what a group does with an endpoint that
//! is down.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::group::{CheckConfig, CheckCounter, CheckKind, EndpointId, UpstreamGroup};
use super::health_monitor::MonitorTask;
use super::{ConnectError, Connector, ConnectorTokens, Upstream};
use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::{Fault, Ops, Outcome, Time, Token};
use crate::http::response_head::{Parsed, parse};
use crate::http::{HeadLimits, Status};
use crate::table::Key;
use crate::tcp::{CloseKind, ConnectionTokens, End, proxy_header};
use crate::transport::Transport;
use crate::upstream::UpstreamAddress;

/// The state machine that checks one endpoint.
#[derive(Debug)]
pub(super) struct HealthCheck {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    config: Rc<CheckConfig>,
    /// The bytes of the request; empty: the check is to connect only.
    request: Arc<[u8]>,
    counter: CheckCounter,
    /// When the next check begins; `None`: it was ended.
    next: Option<Time>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting(Connector),
    Asking { connection: Transport, inbox: Inbox, deadline: Time },
    Closing(Transport),
    Abandoned(Connector),
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckFailure {
    Unreachable(ConnectError),
    /// No complete response head within the timeout.
    NoResponse,
    /// The connection ended before a complete response head.
    Ended,
    Broken(Fault),
    /// Not valid HTTP, or too long.
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
    const fn token(self, machine: Key<MonitorTask>) -> Token {
        Token { machine: machine.raw(), kind: super::HEALTH_MONITOR, slot: self as u8 }
    }
}

/// Maximum of received bytes up to the end of the final response head: a server may send any number
/// of 1xx responses before it.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

impl HealthCheck {
    /// Checks an endpoint of the group periodically, for the first time at `first`. `counter`: the
    /// results so far.
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

    /// The upstream and the configuration of the check.
    pub(super) fn subject(&self) -> (UpstreamAddress, Rc<CheckConfig>) {
        (self.upstream().address().clone(), Rc::clone(&self.config))
    }

    /// The results so far.
    pub(super) const fn counter(&self) -> CheckCounter {
        self.counter
    }

    pub(super) const fn group(&self) -> &Rc<UpstreamGroup> {
        &self.group
    }

    /// Starts no further check and gives up the one under way.
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
            // Received bytes are discarded.
            State::Closing(connection) => drop(on_connection(connection, token, outcome)),
            State::Idle => crate::tcp::unexpected("check", &"Idle", &outcome, token),
        }
    }

    /// Advances. Returns the result of a check, once for each check.
    pub(super) fn pump(&mut self, key: Key<MonitorTask>, now: Time, ops: &mut Ops) -> Option<Result<(), CheckFailure>> {
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
                    // No connect was sent, so nothing can be said of the endpoint.
                    tracing::debug!(upstream = %self.group.upstream(self.endpoint).address(), %error, "not checked");
                } else {
                    verdict = Some(Err(CheckFailure::Unreachable(error)));
                }
                self.state = State::Idle;
            } else if let Some((socket, _)) = connector.take() {
                verdict = self.connected(Transport::plain(socket, connection_tokens(key)), now, ops);
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
                Some((socket, _)) => self.state = State::Closing(Transport::plain(socket, connection_tokens(key))),
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

    fn begin(&mut self, key: Key<MonitorTask>, now: Time) {
        self.next = Some(now + spread(self.config.interval, &self.group));
        let tokens = ConnectorTokens { resolve: Slot::Resolve.token(key), connect: Slot::Connect.token(key) };
        self.state = State::Connecting(Connector::new(Rc::clone(self.upstream()), tokens, self.config.timeout));
    }

    fn connected(&mut self, mut connection: Transport, now: Time, ops: &mut Ops) -> Option<Result<(), CheckFailure>> {
        if self.request.is_empty() {
            self.state = State::Closing(connection);
            return Some(Ok(()));
        }
        let mut chain = Chain::new();
        chain.push(Chunk::shared(Arc::clone(&self.request)));
        connection.send(chain, ops);
        connection.set_receiving(true, ops);
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

    /// When to pump it next.
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

/// The interval, longer or shorter by up to a tenth.
pub(super) fn spread(interval: Duration, group: &UpstreamGroup) -> Duration {
    let interval = interval.max(INTERVAL_MIN);
    interval - interval / 10 + group.draw(interval / 5)
}

/// Lower bound of the interval.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

fn request(kind: &CheckKind, group: &UpstreamGroup, endpoint: EndpointId) -> Arc<[u8]> {
    match kind {
        CheckKind::Connect => Arc::new([]),
        CheckKind::Http { target } => {
            let version = env!("CARGO_PKG_VERSION");
            let authority = group.upstream(endpoint).address().authority();
            // A check has no client: the PROXY header says so.
            let mut request = group.announces().map_or_else(Vec::new, |version| proxy_header::header(version, None));
            let head = format!(
                "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: xps/{version} (health check)\r\nConnection: close\r\n\r\n"
            );
            request.extend_from_slice(head.as_bytes());
            request.into()
        }
    }
}

/// The result of the check, from what has been received; `None`: none yet.
fn judge(connection: &Transport, inbox: &mut Inbox, is_overdue: bool) -> Option<Result<(), CheckFailure>> {
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
    let check_failure = match connection.input_end() {
        Some(End::Eof) => CheckFailure::Ended,
        Some(End::Failed(fault)) => CheckFailure::Broken(fault),
        None if connection.received_bytes() > RESPONSE_BYTES_MAX => {
            CheckFailure::BadResponse("no final head within 64 KiB")
        }
        None if is_overdue => CheckFailure::NoResponse,
        None => return None,
    };
    Some(Err(check_failure))
}

fn on_connection(connection: &mut Transport, token: Token, outcome: Outcome) -> Option<crate::buffer::Buffer> {
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

const fn connection_tokens(check: Key<MonitorTask>) -> ConnectionTokens {
    ConnectionTokens { recv: Slot::Recv.token(check), send: Slot::Send.token(check), close: Slot::Close.token(check) }
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(error) => error.fmt(f),
            Self::NoResponse => f.write_str("no response in time"),
            Self::Ended => f.write_str("the connection ended without a response"),
            Self::Broken(fault) => fault.fmt(f),
            Self::BadResponse(reason) => write!(f, "bad response: {reason}"),
            Self::Status(status) => write!(f, "status {}", status.code()),
        }
    }
}
