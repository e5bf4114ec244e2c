//! Checks one endpoint periodically: connect, send a request if configured, judge the response,
//! close.
//!
//! ```text
//!           is due               connected            response, end, timeout
//!   Idle ────────────► Connecting ─────────► Asking ───────────────────────────► Closing
//!    ▲                  │  │  └───────────────────── no request configured ────────►│ ▲
//!    │   unreachable    │  └─────────────────────── `end()` ───────────────────────►│ │
//!    ├──────────────────┘                      └─── `end()` ────────────────────────┼─┘
//!    └──────────────────────────────────────────────────────────────────────────────┘ closed
//! ```
//!
//! Of a response, the status decides, and if a text is expected in the body, its first
//! [`CHECK_BODY_BYTES_MAX`] bytes.
//!
//! A check has its result before its connection is closed. `rise` passed checks or `fall` failed
//! ones in a row change the endpoint's state, for all workers. Each of them has this state machine, and
//! the one with the lease checks ([`shared`](super::shared)).
//!
//! It does not know when other endpoints are checked, nor what a group does with an endpoint that
//! is down.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::group::{CHECK_BODY_BYTES_MAX, CheckKind, CheckMethod, EndpointId, HttpCheck, UpstreamGroup};
use super::health_monitor::MonitorTask;
use super::shared::{Claim, INTERVAL_MIN, SharedCheck};
use super::{ConnectError, OutboundConnection, OutboundTokens, Upstream};
use crate::buffer::{Chain, Chunk, Inbox};
use crate::client::{ClientConnection, ClientError, ClientLimits, Event, Request};
use crate::driver::{Fault, Ops, Outcome, Time, Token};
use crate::http::{BadResponse, Method, Status};
use crate::table::Key;
use crate::tcp::{CloseKind, End, proxy_header};
use crate::transport::Transport;

/// The state machine that checks one endpoint.
#[derive(Debug)]
pub(super) struct HealthCheck {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    check: Arc<SharedCheck>,
    /// Number of this worker.
    worker: usize,
    /// Whether it has the lease.
    is_checker: bool,
    /// When to claim the lease, or to renew it.
    claim_at: Time,
    /// `None`: the check is to connect only.
    request: Option<Request>,
    /// When the next check begins; `None`: it was ended.
    next: Option<Time>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting(OutboundConnection),
    Asking { connection: OutboundConnection, exchange: Box<Exchange> },
    Closing(OutboundConnection),
}

/// A request and what has come of its response.
#[derive(Debug)]
struct Exchange {
    /// The request, until the connection can send: over TLS, the end of the handshake may still be on its
    /// way out.
    unsent: Chain,
    client: ClientConnection,
    inbox: Inbox,
    search: TextSearch,
    deadline: Time,
}

/// Looks for a text in the beginning of a body that comes in pieces.
#[derive(Debug, Default)]
struct TextSearch {
    /// What has come of the body, at most [`CHECK_BODY_BYTES_MAX`].
    seen: Vec<u8>,
}

/// A check that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) result: Result<(), CheckFailure>,
    /// Whether the endpoint went down or came up by it.
    pub(super) has_changed: bool,
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
    /// The connection ended in the middle of the body, before the expected text.
    Truncated,
    /// The expected text is not in the body, or not near its beginning.
    Text,
}

impl HealthCheck {
    /// Checks an endpoint of the group periodically, for the first time at `first`, while worker number
    /// `worker`, which is this one, has the lease.
    pub(super) fn new(
        group: Rc<UpstreamGroup>,
        endpoint: EndpointId,
        check: Arc<SharedCheck>,
        worker: usize,
        first: Time,
    ) -> Self {
        let request = request(&check.config().kind, group.upstream(endpoint));
        let (is_checker, claim_at) = (false, Time::ZERO);
        Self { group, endpoint, check, worker, is_checker, claim_at, request, next: Some(first), state: State::Idle }
    }

    fn upstream(&self) -> &Rc<Upstream> {
        self.group.upstream(self.endpoint)
    }

    /// Whether the results so far have the endpoint up. `None`: this worker does not check it.
    pub(super) fn finds_up(&self) -> Option<bool> {
        (self.is_checker && !self.is_ending()).then(|| self.check.verdict().is_up())
    }

    /// Starts no further check and gives up the one under way.
    pub(super) fn end(&mut self) {
        self.next = None;
        self.close();
    }

    /// Records an outcome.
    pub(super) fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        match &mut self.state {
            State::Asking { connection, exchange } => {
                if let Some(buffer) = connection.on_outcome(token, outcome, now) {
                    exchange.inbox.push(buffer);
                }
            }
            // Received bytes are discarded.
            State::Connecting(connection) | State::Closing(connection) => {
                drop(connection.on_outcome(token, outcome, now));
            }
            State::Idle => crate::tcp::unexpected("check", &"Idle", &outcome, token),
        }
    }

    /// Advances. Returns what came of a check, once for each check.
    pub(super) fn pump(&mut self, key: Key<MonitorTask>, now: Time, ops: &mut Ops) -> Option<Conclusion> {
        let is_due = matches!(self.state, State::Idle) && self.next.is_some_and(|next| next <= now);
        if !self.is_ending() && (self.claim_at <= now || (self.is_checker && is_due)) {
            self.claim(now);
        }
        if self.is_checker && is_due {
            self.begin(key, now);
        }
        let mut verdict = None;
        if let State::Connecting(connection) = &mut self.state {
            connection.pump(now, ops);
            if let Some(error) = connection.error() {
                if error.is_shortage() {
                    // No connect was sent, so nothing can be said of the endpoint.
                    tracing::debug!(upstream = %self.group.upstream(self.endpoint).address(), %error, "not checked");
                } else {
                    verdict = Some(Err(CheckFailure::Unreachable(error)));
                }
                self.state = State::Idle;
            } else if connection.transport().is_some() {
                verdict = self.connected(now, ops);
            }
        }
        if let State::Asking { connection, exchange } = &mut self.state {
            connection.pump(now, ops);
            while let Some(buffer) = connection.take_received() {
                exchange.inbox.push(buffer);
            }
            if let Some(transport) = connection.transport() {
                if !exchange.unsent.is_empty() && transport.can_send() {
                    transport.send(exchange.unsent.take(), ops);
                }
                if let CheckKind::Http(check) = &self.check.config().kind {
                    verdict = exchange.judge(check, transport, now);
                }
            }
        }
        if verdict.is_some() {
            self.close();
        }
        if let State::Closing(connection) = &mut self.state {
            connection.pump(now, ops);
            if connection.is_closed() {
                self.state = State::Idle;
            }
        }
        verdict.map(|result| self.conclude(result))
    }

    /// Takes or renews the lease. Without it, a check that is under way is given up.
    fn claim(&mut self, now: Time) {
        match self.check.claim(self.worker, now) {
            Claim::Granted { renew_at, from } => {
                if let Some(from) = from {
                    let (upstream, worker) = (self.upstream().address(), self.worker);
                    tracing::warn!(%upstream, from, worker, "a worker has stopped checking: another one takes over");
                }
                (self.is_checker, self.claim_at) = (true, renew_at);
            }
            Claim::Refused { until } => {
                (self.is_checker, self.claim_at) = (false, until);
                self.close();
            }
        }
    }

    fn begin(&mut self, key: Key<MonitorTask>, now: Time) {
        self.next = Some(now + spread(self.check.config().interval, &self.group));
        let tokens = OutboundTokens { machine: key.raw(), kind: super::HEALTH_MONITOR };
        let upstream = Rc::clone(self.upstream());
        let preamble = self.announcement().filter(|_| upstream.address().is_tls());
        let connection = OutboundConnection::with_preamble(upstream, tokens, self.check.config().timeout, preamble);
        self.state = State::Connecting(connection);
    }

    /// The PROXY header, if connections begin with one. A check has no client: the header says so.
    fn announcement(&self) -> Option<Chunk> {
        let version = self.group.announces()?;
        Some(Chunk::shared(proxy_header::header(version, None, None)))
    }

    /// Begins the request. Without one, the check has passed.
    fn connected(&mut self, now: Time, ops: &mut Ops) -> Option<Result<(), CheckFailure>> {
        let Some(request) = &self.request else { return Some(Ok(())) };
        let mut chain = Chain::new();
        if let Some(header) = self.announcement().filter(|_| !self.upstream().address().is_tls()) {
            chain.push(header);
        }
        let mut client = ClientConnection::new(ClientLimits::default());
        client.request(request, &mut chain);
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Connecting(mut connection) => {
                if let Some(transport) = connection.transport() {
                    transport.set_receiving(true, ops);
                }
                let (unsent, deadline) = (chain, now + self.check.config().timeout);
                let (inbox, search) = (Inbox::default(), TextSearch::default());
                let exchange = Exchange { unsent, client, inbox, search, deadline };
                State::Asking { connection, exchange: Box::new(exchange) }
            }
            state @ (State::Idle | State::Asking { .. } | State::Closing(_)) => state,
        };
        None
    }

    fn close(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Connecting(mut connection) | State::Asking { mut connection, .. } => {
                connection.close(CloseKind::Fin);
                State::Closing(connection)
            }
            state @ (State::Idle | State::Closing(_)) => state,
        };
    }

    /// Counts a result for all workers. The record of a change is the only one.
    fn conclude(&self, result: Result<(), CheckFailure>) -> Conclusion {
        let changed = self.check.on_check(self.worker, result.is_ok());
        if let Some(counters) = self.group.counters(self.endpoint) {
            counters.count_check(result.is_ok());
        }
        let upstream = self.upstream().address();
        match (changed, result) {
            (Some(true), _) => tracing::info!(%upstream, "upstream up: its checks pass"),
            (Some(false), Err(reason)) => tracing::warn!(%upstream, %reason, "upstream down: its checks fail"),
            (None, Err(reason)) => tracing::debug!(%upstream, %reason, "check failed"),
            (Some(false) | None, Ok(())) => {}
        }
        Conclusion { result, has_changed: changed.is_some() }
    }

    /// When to pump it next.
    pub(super) fn deadline(&self) -> Option<Time> {
        let deadline = match &self.state {
            State::Idle => self.next.filter(|_| self.is_checker),
            State::Connecting(connection) => connection.deadline(),
            State::Asking { connection, exchange } => Time::earliest(connection.deadline(), Some(exchange.deadline)),
            State::Closing(_) => None,
        };
        if self.is_ending() { deadline } else { Time::earliest(deadline, Some(self.claim_at)) }
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

fn request(kind: &CheckKind, upstream: &Upstream) -> Option<Request> {
    let CheckKind::Http(check) = kind else { return None };
    let HttpCheck { target, method, host, fields, .. } = &**check;
    let method = match method {
        CheckMethod::Get => Method::Get,
        CheckMethod::Head => Method::Head,
    };
    let address = upstream.address().authority();
    let mut request = Request::builder(method, target, host.as_ref().map_or(&address, |host| host.as_str()));
    if !fields.iter().any(|field| field.name().as_str().eq_ignore_ascii_case("User-Agent")) {
        request = request.field("User-Agent", concat!("xps/", env!("CARGO_PKG_VERSION"), " (health check)"));
    }
    for field in fields {
        request = request.field(field.name().as_str(), field.value());
    }
    Some(request.close().end())
}

impl Exchange {
    /// The result of the check, from what has been received; `None`: none yet.
    fn judge(&mut self, check: &HttpCheck, transport: &Transport, now: Time) -> Option<Result<(), CheckFailure>> {
        loop {
            match self.client.read(&mut self.inbox, |head| head.status) {
                Ok(Event::Head(status)) if !check.admits(status) => return Some(Err(CheckFailure::Status(status))),
                Ok(Event::Head(_)) if check.body.is_none() => return Some(Ok(())),
                Ok(Event::Head(_) | Event::Interim(_)) => {}
                Ok(Event::Data(data)) => {
                    if self.search.finds(check.body.as_deref().unwrap_or_default(), &data) {
                        return Some(Ok(()));
                    }
                    if self.search.is_over() {
                        return Some(Err(CheckFailure::Text));
                    }
                }
                Ok(Event::End(_)) => return Some(Err(CheckFailure::Text)),
                Ok(Event::Wait) => break,
                Err(error) => return Some(Err(error.into())),
            }
        }
        let check_failure = match transport.input_end() {
            Some(End::Eof) => match self.client.on_end(&self.inbox) {
                Ok(_) => CheckFailure::Text,
                Err(error) => error.into(),
            },
            Some(End::Failed(fault)) => CheckFailure::Broken(fault),
            None if self.deadline <= now => CheckFailure::NoResponse,
            None => return None,
        };
        Some(Err(check_failure))
    }
}

impl TextSearch {
    /// Adds a piece of the body. Returns whether the text has come.
    fn finds(&mut self, text: &str, piece: &[u8]) -> bool {
        let room = CHECK_BODY_BYTES_MAX - self.seen.len();
        // A text may begin in the pieces before. What they have of it is less than all.
        let from = self.seen.len().saturating_sub(text.len().saturating_sub(1));
        self.seen.extend_from_slice(&piece[..piece.len().min(room)]);
        text.is_empty() || self.seen[from..].windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether nothing more is looked at.
    const fn is_over(&self) -> bool {
        self.seen.len() == CHECK_BODY_BYTES_MAX
    }
}

impl From<ClientError> for CheckFailure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Head(BadResponse { reason, .. }) | ClientError::Body(reason) => Self::BadResponse(reason),
            ClientError::Interim => Self::BadResponse("no final head after 64 KiB of interim responses"),
            ClientError::Upgrade | ClientError::EarlyUpgrade => Self::Status(Status::SWITCHING_PROTOCOLS),
            ClientError::Unrequested => Self::BadResponse("bytes without a request"),
            ClientError::NoResponse { .. } => Self::Ended,
            ClientError::Truncated => Self::Truncated,
        }
    }
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
            Self::Truncated => f.write_str("the connection ended in the middle of the response body"),
            Self::Text => {
                write!(f, "the expected text is not in the first {} KiB of the body", CHECK_BODY_BYTES_MAX >> 10)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::driver::Driver;
    use crate::driver::sim::{Behaviour, Faults, Sim, Step};
    use crate::http::forward::{Authority, FieldLine};
    use crate::table::RawKey;
    use crate::upstream::GroupConfig;
    use crate::upstream::group::{CheckConfig, StatusRange};

    const KEY: Key<MonitorTask> = RawKey::from_parts(7, 0).typed();
    const TIMEOUT: Duration = Duration::from_secs(2);

    /// The result of one check of a server that behaves like this. Nothing is left of it.
    fn check(seed: u64, kind: CheckKind, behaviour: Behaviour) -> Result<(), CheckFailure> {
        let mut sim = Sim::new(seed, Faults::none());
        let address: SocketAddr = ([10, 0, 0, 1], 80).into();
        sim.upstream(address, behaviour);
        let config = CheckConfig { kind, interval: Duration::from_secs(60), timeout: TIMEOUT, rise: 1, fall: 1 };
        let config = GroupConfig { checks: Some(config), ..GroupConfig::of([address.to_string().parse().unwrap()]) };
        let group = UpstreamGroup::new(config, 0);
        let shared = group.shared(EndpointId(0)).check.clone().unwrap();
        let mut check = HealthCheck::new(group, EndpointId(0), shared, 0, Time::ZERO);
        let (mut ops, mut done, mut verdict) = (Ops::new(), Vec::new(), None);
        for _ in 0..2000 {
            let found = check.pump(KEY, sim.now(), &mut ops).map(|conclusion| conclusion.result);
            assert!(verdict.is_none() || found.is_none(), "a check has one result");
            verdict = verdict.or(found);
            if let Some(verdict) = verdict {
                check.end();
                if check.is_over() {
                    assert_eq!((ops.in_flight(), sim.open_descriptors()), (0, 0));
                    return verdict;
                }
            }
            let wait = check.deadline().map(|deadline| deadline.since(sim.now()));
            sim.turn(&mut ops, wait, &mut done).unwrap();
            for completion in done.drain(..) {
                let token = ops.settle(completion.id, completion.outcome.is_final()).unwrap();
                check.on_outcome(token, completion.outcome, sim.now());
            }
        }
        panic!("no end: {check:?}");
    }

    fn http() -> CheckKind {
        CheckKind::Http(Box::new(HttpCheck::get("/well")))
    }

    /// The request that a check sends.
    const REQUEST: &str = concat!(
        "GET /well HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: xps/",
        env!("CARGO_PKG_VERSION"),
        " (health check)\r\nConnection: close\r\n\r\n"
    );

    /// A server that sends this once it has the whole request, and then does this.
    fn answers(bytes: &str, then: Step) -> Behaviour {
        Behaviour::Serve(vec![Step::Expect(REQUEST.len()), Step::Send(bytes.into()), then])
    }

    #[test]
    fn the_request_is_a_plain_get() {
        let upstream = Upstream::new("10.0.0.1:80".parse().unwrap(), None);
        assert_eq!(&request(&http(), &upstream).unwrap().head()[..], REQUEST.as_bytes());
        assert!(request(&CheckKind::Connect, &upstream).is_none());
    }

    #[test]
    fn the_final_status_decides_wherever_its_head_is_cut() {
        let status = |code| Err(CheckFailure::Status(Status::from_code(code).unwrap()));
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok(())),
            ("HTTP/1.0 302 \r\n\r\nelsewhere", Ok(())),
            ("HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 204 \r\n\r\n", Ok(())),
            ("HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n", status(503)),
            ("HTTP/1.1 101 \r\nUpgrade: x\r\n\r\n", status(101)),
            ("HTTP/1.1 100 \r\n\r\nHTTP/1.1 2", Err(CheckFailure::Ended)),
            ("", Err(CheckFailure::Ended)),
            ("SSH-2.0\r\n", Err(CheckFailure::BadResponse("it does not begin with a status line"))),
        ];
        for (bytes, expected) in cases {
            for seed in 0..20 {
                assert_eq!(check(seed, http(), answers(bytes, Step::Close)), expected, "{bytes:?}, seed {seed}");
            }
        }
    }

    #[test]
    fn the_request_is_as_configured() {
        let upstream = Upstream::new("10.0.0.1:80".parse().unwrap(), None);
        let field = |name, value| FieldLine::new(name, value).unwrap();
        let check = HttpCheck {
            method: CheckMethod::Head,
            host: Some(Authority::new("app.example:8080").unwrap()),
            fields: vec![field("user-agent", "probe"), field("X-A", "1"), field("X-A", "2")],
            ..HttpCheck::get("/")
        };
        let expected = "HEAD / HTTP/1.1\r\nHost: app.example:8080\r\nuser-agent: probe\r\nX-A: 1\r\nX-A: 2\r\n\
                        Connection: close\r\n\r\n";
        let request = request(&CheckKind::Http(Box::new(check)), &upstream).unwrap();
        assert_eq!(String::from_utf8_lossy(request.head()), expected);
    }

    #[test]
    fn other_statuses_can_be_expected() {
        let status = vec![StatusRange::new(204, 204).unwrap(), StatusRange::new(401, 403).unwrap()];
        let kind = CheckKind::Http(Box::new(HttpCheck { status, ..HttpCheck::get("/well") }));
        for (code, passes) in [(200, false), (204, true), (401, true), (403, true), (404, false)] {
            let response = format!("HTTP/1.1 {code} \r\n\r\n");
            let result = check(1, kind.clone(), answers(&response, Step::Close));
            assert_eq!(result.is_ok(), passes, "{code}: {result:?}");
        }
    }

    #[test]
    fn a_text_is_found_in_the_body_wherever_that_is_cut() {
        let kind =
            CheckKind::Http(Box::new(HttpCheck { body: Some("all well".to_owned()), ..HttpCheck::get("/well") }));
        let text = Err(CheckFailure::Text);
        let late = format!("HTTP/1.1 200 \r\n\r\n{}all well", "-".repeat(CHECK_BODY_BYTES_MAX));
        let in_time = format!("HTTP/1.1 200 \r\n\r\n{}all well", "-".repeat(CHECK_BODY_BYTES_MAX - 8));
        let cases = [
            ("HTTP/1.1 200 \r\nContent-Length: 12\r\n\r\nit: all well", Ok(())),
            ("HTTP/1.1 200 \r\nContent-Length: 999\r\n\r\nall well", Ok(())),
            ("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall w\r\n3\r\nell\r\n0\r\n\r\n", Ok(())),
            ("HTTP/1.1 200 \r\n\r\nall well", Ok(())),
            ("HTTP/1.1 200 \r\n\r\nall  well", text),
            ("HTTP/1.1 200 \r\nContent-Length: 8\r\n\r\nall badly", text),
            ("HTTP/1.1 204 \r\n\r\n", text),
            ("HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nall", Err(CheckFailure::Truncated)),
            ("HTTP/1.1 500 \r\n\r\nall well", Err(CheckFailure::Status(Status::from_code(500).unwrap()))),
            (&in_time, Ok(())),
            (&late, text),
        ];
        for (bytes, expected) in cases {
            for seed in 0..10 {
                let found = check(seed, kind.clone(), answers(bytes, Step::Close));
                assert_eq!(found, expected, "{:?}…, seed {seed}", &bytes[..bytes.len().min(60)]);
            }
        }
        let silent = "HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nall";
        assert_eq!(check(1, kind, answers(silent, Step::Stall(4 * TIMEOUT))), Err(CheckFailure::NoResponse));
    }

    #[test]
    fn a_server_that_falls_silent_fails_after_the_timeout() {
        for bytes in ["", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(check(1, http(), answers(bytes, Step::Stall(4 * TIMEOUT))), Err(CheckFailure::NoResponse));
        }
    }

    #[test]
    fn endless_interim_responses_fail() {
        let endless = "HTTP/1.1 100 \r\n\r\n".repeat(8000);
        let result = check(1, http(), answers(&endless, Step::ReadUntilEof));
        assert!(matches!(result, Err(CheckFailure::BadResponse(_))), "{result:?}");
    }

    #[test]
    fn to_accept_a_connection_is_enough_for_a_check_without_a_request() {
        assert_eq!(check(1, CheckKind::Connect, Behaviour::echo()), Ok(()));
        let result = check(1, CheckKind::Connect, Behaviour::Refuse);
        assert!(matches!(result, Err(CheckFailure::Unreachable(_))), "{result:?}");
    }
}
