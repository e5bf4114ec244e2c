//! One connection of the load generator.
//!
//! ```text
//!              connected              over, broken, timed out
//!   Connecting ─────────► Talking ───────────────────────────► Closing ──► closed
//!       └── no connection, closed early ──────────────────────────▲
//! ```
//!
//! It joins an [`OutboundConnection`] and the protocol that is spoken over it. It sends what it is given
//! and counts what comes of it. It does not know when a request is due, nor what follows its end.

use std::sync::Arc;

use super::exchange::{Judge, Prepared, Sent};
use super::http1::Http1;
use super::http2::Http2;
use super::plan::{HttpVersion, Plan, Work};
use super::tally::ErrorKind;
use super::tcp::Tcp;
use crate::buffer::{Buffer, Chain, Chunk, Inbox};
use crate::driver::{Ops, Outcome, Time, Token};
use crate::tcp::{CloseKind, End};
use crate::tls::Handshake;
use crate::upstream::{ConnectError, OutboundConnection};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It sends requests, which are counted.
    Load,
    /// It stays open and sends nothing.
    Idle,
    /// It sends requests, which are not counted, and reads the responses at a trickle.
    Slow,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    outbound: OutboundConnection,
    /// The index of its origin.
    pub origin: usize,
    /// What it is for.
    pub role: Role,
    /// When it began to connect.
    begun: Time,
    /// When it was connected.
    connected: Time,
    inbox: Inbox,
    out: Chain,
    state: State,
    /// Requests sent so far.
    requested: u64,
    /// It was told in this turn that it has something to do.
    pub is_marked: bool,
    /// Its owner knows that it has ended.
    pub has_ended: bool,
    /// It is in the list of those that can take a request.
    pub is_listed: bool,
    /// Whether it receives at present; always, but for [`Role::Slow`].
    is_reading: bool,
    is_sending_ended: bool,
}

#[derive(Debug)]
enum State {
    Connecting,
    Talking(Talk),
    Closing,
}

/// The protocol that is spoken.
#[derive(Debug)]
enum Talk {
    Http1(Http1),
    /// Boxed: the others are smaller by far.
    Http2(Box<Http2>),
    Tcp(Tcp),
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being connected.
    Connecting,
    /// It is connected, since this turn.
    Connected,
    /// It is connected.
    Open,
    /// It could not be connected; it is closed.
    Unreachable(ConnectError),
    /// It is ending or has ended, in order or not. It closes by itself.
    Ended,
}

impl Connection {
    /// A connection that begins to connect at `now`.
    pub fn new(outbound: OutboundConnection, origin: usize, role: Role, now: Time) -> Self {
        Self {
            outbound,
            origin,
            role,
            begun: now,
            connected: now,
            inbox: Inbox::default(),
            out: Chain::new(),
            state: State::Connecting,
            requested: 0,
            is_marked: false,
            has_ended: false,
            is_listed: false,
            is_reading: true,
            is_sending_ended: false,
        }
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        if let Some(buffer) = self.outbound.on_outcome(token, outcome, now) {
            self.push(buffer);
        }
    }

    fn push(&mut self, buffer: Buffer) {
        if matches!(self.state, State::Talking(_)) {
            self.inbox.push(buffer);
        }
        if self.role == Role::Slow {
            self.is_reading = false;
        }
    }

    /// Advances what is in progress: connects, reads, counts. Requests are sent by
    /// [`Connection::request`], and leave with [`Connection::flush`].
    pub fn advance(
        &mut self,
        work: &Work,
        prepared: &mut Prepared,
        plan: &Plan,
        judge: &mut Judge<'_>,
        ops: &mut Ops,
    ) -> Status {
        self.outbound.pump(judge.now, ops);
        match &mut self.state {
            State::Closing => return Status::Ended,
            State::Connecting => {
                if let Some(error) = self.outbound.error() {
                    self.state = State::Closing;
                    return Status::Unreachable(error);
                }
                let Some(talk) = self.begin(work, plan) else { return Status::Connecting };
                self.state = State::Talking(talk);
                self.connected = judge.now;
                if let Some(transport) = self.outbound.transport() {
                    transport.set_receiving(true, ops);
                }
                // What came behind the handshake is read in the next turn of the caller's loop.
                self.receive();
                return Status::Connected;
            }
            State::Talking(_) => {}
        }
        self.receive();
        match self.talk(prepared, judge) {
            Ok(false) => Status::Open,
            Ok(true) => {
                self.close(CloseKind::Fin, ops, judge.now);
                Status::Ended
            }
            Err(kind) => {
                self.fail(kind, judge);
                self.close(CloseKind::Reset, ops, judge.now);
                Status::Ended
            }
        }
    }

    /// The protocol, once the connection is made.
    fn begin(&mut self, work: &Work, plan: &Plan) -> Option<Talk> {
        let chosen = match self.outbound.transport()?.handshake() {
            Some(Handshake::Done(info)) => info.protocol,
            Some(Handshake::InProgress | Handshake::Failed(_)) | None => None,
        };
        Some(match (work, chosen) {
            (Work::Tcp { mode, payload }, _) => Talk::Tcp(Tcp::new(*mode, Chunk::shared(Arc::clone(payload)))),
            (Work::Http { .. }, Some(b"h2")) | (Work::Http { version: HttpVersion::Http2, .. }, None) => {
                Talk::Http2(Box::new(Http2::new(plan.streams, &mut self.out)))
            }
            (Work::Http { .. }, _) => Talk::Http1(Http1::new(plan.pipeline)),
        })
    }

    fn receive(&mut self) {
        while let Some(buffer) = self.outbound.take_received() {
            self.push(buffer);
        }
    }

    /// Reads. `true`: the connection is over, in order.
    fn talk(&mut self, prepared: &mut Prepared, judge: &mut Judge<'_>) -> Result<bool, ErrorKind> {
        let (State::Talking(talk), Some(transport)) = (&mut self.state, self.outbound.transport()) else {
            return Ok(true);
        };
        let is_all_sent = self.out.is_empty() && transport.can_send();
        match talk {
            Talk::Http1(http) => http.read(&mut self.inbox, prepared, judge)?,
            Talk::Http2(http) => http.read(&mut self.inbox, &mut self.out, prepared, judge)?,
            Talk::Tcp(tcp) => {
                tcp.read(&mut self.inbox, judge)?;
                if is_all_sent {
                    tcp.on_all_sent(judge);
                }
            }
        }
        if let Some(end) = transport.input_end() {
            if let End::Failed(_) = end {
                return Err(talk.broken());
            }
            match talk {
                Talk::Http1(http) => http.on_end(&self.inbox, prepared, judge)?,
                Talk::Http2(http) => http.on_end()?,
                Talk::Tcp(tcp) => tcp.on_end(judge)?,
            }
            return Ok(true);
        }
        // An error of sending alone: what the server has sent before may still come.
        Ok(talk.is_over())
    }

    /// Whether a request can be sent now. `requests_max`: on one connection.
    pub fn may_request(&self, requests_max: Option<u64>) -> bool {
        let State::Talking(talk) = &self.state else { return false };
        let is_within = requests_max.is_none_or(|max| self.requested < max);
        self.role != Role::Idle
            && is_within
            && match talk {
                Talk::Http1(http) => http.may_request(),
                Talk::Http2(http) => http.may_request(),
                Talk::Tcp(tcp) => tcp.may_request(),
            }
    }

    /// Sends a request with [`Connection::flush`].
    pub fn request(&mut self, prepared: &mut Prepared, intended: Time, judge: &mut Judge<'_>) {
        let State::Talking(talk) = &mut self.state else { return };
        let mut sent = Sent { target: prepared.next(), intended, at: judge.now };
        self.requested += 1;
        match talk {
            // What is measured is how long connecting took, whenever that was.
            Talk::Tcp(tcp) if tcp.is_only_connecting() => {
                let taken = self.connected.since(self.begun).as_nanos() as u64;
                sent.at = Time::from_nanos(judge.now.as_nanos().saturating_sub(taken));
                tcp.request(sent, judge, &mut self.out);
            }
            Talk::Http1(http) => http.request(prepared, sent, &mut self.out),
            Talk::Http2(http) => http.request(prepared, sent, &mut self.out),
            Talk::Tcp(tcp) => tcp.request(sent, judge, &mut self.out),
        }
    }

    /// Submits what is to be sent.
    pub fn flush(&mut self, now: Time, ops: &mut Ops) {
        let (State::Talking(talk), Some(transport)) = (&mut self.state, self.outbound.transport()) else { return };
        if transport.can_send() {
            if let Talk::Http2(http) = talk
                && self.out.is_empty()
            {
                http.send_bodies(&mut self.out);
            }
            if !self.out.is_empty() {
                transport.send(std::mem::take(&mut self.out), ops);
            } else if let Talk::Tcp(tcp) = talk
                && tcp.ends_sending()
                && !self.is_sending_ended
            {
                self.is_sending_ended = true;
                transport.shutdown(ops);
            }
        }
        transport.set_receiving(self.is_reading, ops);
        transport.pump(now, ops);
    }

    /// Ends it: it is over for its owner, and closes by itself.
    pub fn close(&mut self, kind: CloseKind, ops: &mut Ops, now: Time) {
        self.inbox = Inbox::default();
        self.out = Chain::new();
        self.state = State::Closing;
        self.outbound.close(kind);
        self.outbound.pump(now, ops);
    }

    /// Counts each request in progress as failed. The first of them, of which the response may have begun,
    /// for this reason, the others because their connection is gone.
    pub fn fail(&mut self, kind: ErrorKind, judge: &mut Judge<'_>) {
        let State::Talking(talk) = &self.state else { return };
        let behind = if kind == ErrorKind::Timeout { kind } else { ErrorKind::Reset };
        talk.sent().enumerate().for_each(|(at, sent)| judge.on_error(sent, if at == 0 { kind } else { behind }));
    }

    /// Counts requests that were sent before this as timed out. `true`: the connection is of no further use.
    pub fn time_out(&mut self, before: Time, judge: &mut Judge<'_>) -> bool {
        let State::Talking(talk) = &mut self.state else { return false };
        if talk.oldest().is_none_or(|oldest| oldest > before) {
            return false;
        }
        if let Talk::Http2(http) = talk {
            http.give_up(before, judge, &mut self.out);
            return false;
        }
        self.fail(ErrorKind::Timeout, judge);
        true
    }

    /// The protocol that is spoken, by its usual name.
    pub const fn protocol(&self) -> Option<&'static str> {
        match &self.state {
            State::Talking(Talk::Http1(_)) => Some("HTTP/1.1"),
            State::Talking(Talk::Http2(_)) => Some("HTTP/2"),
            State::Talking(Talk::Tcp(_)) => Some("TCP"),
            State::Connecting | State::Closing => None,
        }
    }

    /// Whether its protocol has come to an end.
    pub fn is_over(&self) -> bool {
        matches!(&self.state, State::Talking(talk) if talk.is_over())
    }

    /// Whether it has requests in progress.
    pub fn is_busy(&self) -> bool {
        matches!(&self.state, State::Talking(talk) if talk.oldest().is_some())
    }

    /// When it began to connect.
    pub const fn connecting_since(&self) -> Time {
        self.begun
    }

    /// Reads the next piece, if it is one that reads at a trickle.
    pub const fn read_on(&mut self) {
        self.is_reading = true;
    }

    /// Bytes that were sent and received, since the beginning.
    pub fn transferred(&mut self) -> (u64, u64) {
        self.outbound.transport().map_or((0, 0), |transport| (transport.sent_bytes(), transport.received_bytes()))
    }

    /// Whether the connection is closed, and its entry can go.
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closing) && self.outbound.is_closed()
    }
}

impl Talk {
    /// What a request in progress fails with when the connection breaks.
    fn broken(&self) -> ErrorKind {
        match self {
            Self::Http1(http) if http.is_in_response() => ErrorKind::ShortBody,
            Self::Http2(http) if http.is_in_response() => ErrorKind::ShortBody,
            Self::Http1(_) | Self::Http2(_) | Self::Tcp(_) => ErrorKind::Reset,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Http1(http) => http.is_over(),
            Self::Http2(http) => http.is_over(),
            Self::Tcp(tcp) => tcp.is_over(),
        }
    }

    fn oldest(&self) -> Option<Time> {
        match self {
            Self::Http1(http) => http.oldest(),
            Self::Http2(http) => http.oldest(),
            Self::Tcp(tcp) => tcp.oldest(),
        }
    }

    fn sent(&self) -> impl Iterator<Item = Sent> {
        let (http1, http2, tcp) = match self {
            Self::Http1(http) => (Some(http.sent()), None, None),
            Self::Http2(http) => (None, Some(http.sent()), None),
            Self::Tcp(tcp) => (None, None, tcp.sent()),
        };
        http1.into_iter().flatten().chain(http2.into_iter().flatten()).chain(tcp)
    }
}
