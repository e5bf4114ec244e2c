//! One session per client connection: the connection, and the task that serves it.
//!
//! ```text
//!         close reason        no operation in flight, everything closed
//!   Open ─────────────► Closing ──────────────────────────────────────► Closed
//!     │                    ▲ the client has acknowledged everything, or `send_timeout` has passed
//!     └───► Flushing ──────┘
//! ```
//!
//! A [`Session`] owns the client's [`Transport`] and a task that implements the protocol: `echo`,
//! `reverse`, `proxy`, `file_sender`, `receive` or [`http`]. The listener's [`Service`] makes the
//! task. If the listener expects a PROXY protocol header or TLS, or chooses upstreams by server name, or
//! if an upstream needs the local address, the session is in the phase `setup` first, without a task. Outcomes are recorded first; then `pump`
//! looks at all states and submits every operation that is needed and not yet in flight. An extra
//! `pump` changes nothing.
//!
//! A reset destroys data in flight, so a session that ends with a reset flushes what it has sent
//! first, except where the client cannot or must not be waited for
//! ([`CloseReason::close_kind`]).

mod check;
mod close_reason;
pub mod control;
mod echo;
mod file_sender;
pub mod http;
mod limits;
mod listener_context;
mod name_routes;
mod phase;
mod proxy;
mod receive;
mod reverse;
mod service;
mod setup;
mod slot;
mod tunnel;

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use tracing::Level;

pub use check::{Awaited, StreamViolation};
pub use close_reason::{CloseReason, SessionEnd};
pub use file_sender::Content;
pub use limits::{Http2Limits, HttpLimits, Limits};
pub use listener_context::ListenerContext;
pub use name_routes::{NameRoute, NameRoutes, ServerNames};
pub use receive::{Destination, Naming};
pub use service::Service;
pub use slot::{SESSION, Slot};
pub use tunnel::{Tunnel, TunnelLimits};

use self::phase::Phase;
use self::service::{Ends, Protocol, facts_of};
use self::setup::{Progress, Setup, SetupResult, Told};
use crate::buffer::{Buffer, Chain};
use crate::driver::{Ops, Outcome, Peer, Socket, Time};
use crate::file::store::Store;
use crate::http::DateLine;
use crate::http::multipart::Boundaries;
use crate::limit::{Access, Admission, ConnectionPermit, Denied};
use crate::tcp::CloseKind;
use crate::telemetry::metrics::WorkerCounters;
use crate::tls::{ConnectionFacts, Handshake};
use crate::transport::Transport;
use crate::upstream::UpstreamAddress;
use crate::upstream::{Unreachable, UpstreamPool};
use crate::waiter::{SessionKey, StreamId};

/// What a state machine needs from its worker: the operation queue, the time, the limits.
#[derive(Debug)]
pub struct Context<'a> {
    /// The queue to the driver.
    pub ops: &'a mut Ops,
    /// The time of this turn.
    pub now: Time,
    /// The key of this session.
    pub session: SessionKey,
    /// The client's address.
    pub peer: Peer,
    /// The local address of the client's connection, if `setup` looked it up.
    pub local: Option<SocketAddr>,
    /// The TLS of the client's connection; `None`: plain text.
    pub tls: Option<Rc<ConnectionFacts>>,
    pub limits: &'a Limits,
    /// Bytes that each direction may hold before its source is paused: the configured limit, or
    /// less while buffer memory is scarce.
    pub hold_max: usize,
    /// Whether buffer memory is scarce.
    pub is_scarce: bool,
    /// Access lists, connection limits and request rates.
    pub admission: &'a Admission,
    /// The cache of files and folders.
    pub store: &'a mut Store,
    pub upstream_pool: &'a mut UpstreamPool,
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// The same time as the `Date` field of a response.
    pub date: &'a DateLine,
    /// Source of boundaries for `multipart/byteranges` bodies.
    pub boundaries: &'a mut Boundaries,
    /// The metrics of this worker.
    pub counters: &'a WorkerCounters,
}

impl Context<'_> {
    const fn tunnel_limits(&self) -> tunnel::TunnelLimits {
        tunnel::TunnelLimits { hold_max: self.hold_max, now: self.now, send_timeout: self.limits.http.send_timeout }
    }
}

/// An accepted connection.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// The socket that `accept` returned.
    pub socket: Socket,
    /// The client's address.
    pub peer: Peer,
    /// The connection exceeds the connection limit. It gets an error response and is closed.
    pub is_over_limit: bool,
}

/// One client's connection and what serves it.
#[derive(Debug)]
pub struct Session {
    peer: Peer,
    opened: Time,
    last_activity: Time,
    life: Life,
    client: Transport,
    phase: Phase,
    rare: Option<Box<RareFields>>,
}

/// Fields that few connections need, in a box to keep [`Session`] small.
#[derive(Debug)]
struct RareFields {
    /// Counts the connection until it is dropped.
    _permit: Option<ConnectionPermit>,
    /// The local address, if it was looked up.
    local: Option<SocketAddr>,
    /// The TLS of the client's connection, after the handshake.
    tls: Option<Rc<ConnectionFacts>>,
    /// Accepted beyond the limit, only to send an error response.
    is_over_limit: bool,
}

impl RareFields {
    /// `None` if no field has a value.
    fn new(
        permit: Option<ConnectionPermit>,
        local: Option<SocketAddr>,
        tls: Option<Rc<ConnectionFacts>>,
        is_over_limit: bool,
    ) -> Option<Box<Self>> {
        let is_needed = permit.is_some() || local.is_some() || tls.is_some() || is_over_limit;
        is_needed.then(|| Box::new(Self { _permit: permit, local, tls, is_over_limit }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Open,
    /// Data that was sent has not reached the client yet.
    Flushing(CloseReason),
    Closing(CloseReason),
    Closed(CloseReason),
}

/// The protocol that a session runs on its client's connection.
///
/// A task owns every state machine it needs besides that connection. It gets the bytes and outcomes
/// that arrive, and `pump` asks it what to do next.
trait Task: fmt::Debug {
    /// The name of the service, for logs.
    fn name(&self) -> &'static str;

    /// Whether the access log has a line for each request, so that the end of the connection adds little.
    fn is_in_access_log(&self) -> bool {
        false
    }

    /// The upstream, if there is one, for logs.
    fn upstream(&self) -> Option<&UpstreamAddress> {
        None
    }

    /// The name that the client asked for in a ClientHello that was passed on, for logs.
    fn server_name(&self) -> Option<&str> {
        None
    }

    /// Why no upstream is connected, if the attempt failed, for logs.
    fn failure(&self) -> Option<Unreachable> {
        None
    }

    /// Takes bytes from the client.
    fn on_received(&mut self, buffer: Buffer);

    /// Records an outcome of one of the task's own slots.
    fn on_outcome(&mut self, slot: Slot, outcome: Outcome, now: Time) {
        let _ = now;
        tracing::error!(task = self.name(), ?slot, outcome = outcome.name(), "unexpected outcome");
        debug_assert!(false, "{self:?} got {outcome:?} for {slot:?}");
    }

    /// Notes that what this stream waits for may be there: the result of a look-up, or a slot of an
    /// upstream.
    fn on_ready(&mut self, stream: StreamId) {
        let _ = stream;
    }

    /// Notes that the server is stopping: the task finishes its current work and starts nothing
    /// new.
    fn drain(&mut self, now: Time) {
        let _ = now;
    }

    /// Submits the operations that are needed now. `Some`: the session ends.
    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason>;

    /// Whether the task waits in the queue for an upstream that is at its connection limit.
    fn is_queued(&self) -> bool {
        false
    }

    /// Number of HTTP exchanges that have begun and not ended.
    fn exchanges(&self) -> usize {
        0
    }

    /// Checks that each of its streams waits for something that will come, and what is counted of them.
    fn check_streams(&self, client: &Transport, awaited: &Awaited<'_>, limits: &Limits) -> Result<(), StreamViolation> {
        let _ = (client, awaited, limits);
        Ok(())
    }

    /// Whether an orderly close now would make truncated data look complete to a peer. Data already
    /// being sent to the client does not count.
    fn is_unfinished(&self) -> bool {
        false
    }

    /// When to pump at the latest, apart from the idle timeout.
    fn deadline(&self, limits: &Limits) -> Option<Time> {
        let _ = limits;
        None
    }

    /// Takes the data not yet sent to the client, to flush it before the connection closes.
    fn take_unsent(&mut self) -> Chain {
        Chain::new()
    }

    /// Whether the protocol itself has signalled the end to the client. Its connection is then
    /// closed in order, whatever the close reason.
    fn is_end_signalled(&self) -> bool {
        false
    }

    /// Continues to close what the task owns; `true` once nothing is open and nothing in flight.
    /// A closed client connection no longer uses anything that belongs to the task.
    fn close(&mut self, close_reason: CloseReason, client: &Transport, cx: &mut Context<'_>) -> bool {
        let _ = (close_reason, client, cx);
        true
    }

    /// Bytes of buffer memory that the task holds.
    fn memory(&self) -> usize;

    /// The upper bound of `memory`, apart from data already in flight when a source was paused.
    fn memory_max(&self, limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + limits.line_bytes_max
    }
}

impl Session {
    /// A session over a connected socket. It submits nothing before its first `pump`.
    pub fn new(
        key: SessionKey,
        accepted: Accepted,
        context: &Rc<ListenerContext>,
        admission: &Admission,
        now: Time,
        limits: &Limits,
    ) -> Self {
        let Accepted { socket, peer, is_over_limit } = accepted;
        let setup = Setup::of(context, now, limits);
        // Before a PROXY header the client's address is unknown: access lists are checked
        // afterwards, and until then the connection counts for the proxy's address.
        let everybody = Access::default();
        let access = if context.expects_proxy_header { &everybody } else { &context.access };
        let (permit, life) = match enter(admission, peer, access, is_over_limit) {
            Ok(permit) => (permit, Life::Open),
            Err(denied) => (None, Life::Closing(CloseReason::Denied(denied))),
        };
        let phase = match setup {
            Some(setup) => Phase::Setup(Box::new(setup)),
            None => {
                let ends = Ends { peer, local: None, tls: None };
                Phase::Service(context.service.task(Protocol::Http1, key, ends, is_over_limit, now, limits))
            }
        };
        Self {
            peer,
            opened: now,
            last_activity: now,
            life,
            client: Transport::plain(socket, slot::client_tokens(key)),
            phase,
            rare: RareFields::new(permit, None, None, is_over_limit),
        }
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, slot: Slot, outcome: Outcome, now: Time, counters: &WorkerCounters) {
        if matches!(outcome, Outcome::Received(_) | Outcome::Progress(_) | Outcome::Sent) {
            self.last_activity = now;
        }
        match slot {
            Slot::ClientRecv => {
                if let Some(buffer) = self.client.on_received(outcome) {
                    counters.count_received(buffer.len() as u64);
                    if self.life == Life::Open {
                        self.phase.on_received(buffer);
                    }
                }
            }
            Slot::ClientSend => {
                let before = self.client.sent_bytes();
                self.client.on_sent(outcome);
                counters.count_sent(self.client.sent_bytes() - before);
            }
            Slot::ClientClose => self.client.on_closed(outcome),
            Slot::ClientFile => self.client.on_read(outcome),
            Slot::File | Slot::LocalAddress | Slot::Read0 | Slot::Read1 | Slot::Read2 | Slot::Read3 => {
                self.phase.on_outcome(slot, outcome, now);
            }
        }
    }

    /// Notes activity on the upstream connection of a stream.
    pub fn on_upstream(&mut self, stream: StreamId, now: Time) {
        self.last_activity = now;
        // A session with one stream looks at it in every pump.
        if stream != StreamId::ONLY {
            self.on_ready(stream);
        }
    }

    /// Notes that what this stream waits for may be there.
    pub fn on_ready(&mut self, stream: StreamId) {
        // Nothing is waited for during setup.
        if let Some(task) = self.phase.task_mut() {
            task.on_ready(stream);
        }
    }

    /// Notes that the server is stopping.
    pub fn drain(&mut self, now: Time) {
        self.phase.drain(now);
    }

    /// Ends the session from outside, in any state; the next `pump` acts on it. A flush in progress
    /// is abandoned.
    pub fn end(&mut self, close_reason: CloseReason) {
        match self.life {
            Life::Open => self.life = Life::Closing(close_reason),
            Life::Flushing(close_reason) => self.life = Life::Closing(close_reason),
            Life::Closing(_) | Life::Closed(_) => {}
        }
    }

    /// Submits the operations that are needed now and not yet in flight.
    pub fn pump(&mut self, cx: &mut Context<'_>) {
        if self.life == Life::Open {
            while let Some(buffer) = self.client.take_received() {
                cx.counters.count_received(buffer.len() as u64);
                self.phase.on_received(buffer);
            }
            #[cfg(feature = "ktls-tx")]
            if self.client.take_ending() {
                self.phase.drain(cx.now);
            }
            let over = self.advance(cx);
            if over.is_none() {
                self.client.pump(cx.now, cx.ops);
            }
            let idle =
                || self.idle_deadline(cx.limits).filter(|deadline| *deadline <= cx.now).map(|_| CloseReason::Idle);
            if let Some(close_reason) = over.or_else(idle) {
                let has_stalled =
                    close_reason == CloseReason::Idle && self.phase.task().is_some_and(Task::is_unfinished);
                let close_reason = if has_stalled { CloseReason::Stalled } else { close_reason };
                tracing::debug!(close_reason = close_reason.code(), "closing");
                self.life = match close_reason.close_kind() {
                    CloseKind::FlushReset if !self.is_end_signalled() => Life::Flushing(close_reason),
                    CloseKind::Fin | CloseKind::FlushReset | CloseKind::Reset => Life::Closing(close_reason),
                };
                self.last_activity = cx.now;
            }
        }
        if let Life::Flushing(close_reason) = self.life {
            self.flush(close_reason, cx);
        }
        if let Life::Closing(close_reason) | Life::Flushing(close_reason) = self.life {
            let close_kind = match self.life {
                Life::Flushing(_) => CloseKind::FlushReset,
                _ if self.is_end_signalled() => CloseKind::Fin,
                _ if close_reason.close_kind() == CloseKind::Fin => CloseKind::Fin,
                _ => CloseKind::Reset,
            };
            self.client.close(close_kind, cx.ops);
            let phase_is_closed = self.phase.close(close_reason, &self.client, cx);
            if self.client.is_closed() && phase_is_closed {
                self.life = Life::Closed(close_reason);
            }
        }
    }

    /// Advances the phase; a setup that is complete is followed by the service at once. `Some`: the
    /// session ends.
    fn advance(&mut self, cx: &mut Context<'_>) -> Option<CloseReason> {
        if let Phase::Setup(setup) = &mut self.phase {
            match setup.pump(&mut self.client, cx) {
                Progress::Wait => return None,
                Progress::Over(close_reason) => return Some(close_reason),
                Progress::Ready(setup_result) => {
                    if let Err(denied) = self.serve(setup_result, cx) {
                        return Some(CloseReason::Denied(denied));
                    }
                }
            }
        }
        self.phase.task_mut()?.pump(&mut self.client, cx)
    }

    /// Whether the protocol itself has signalled the end to the client.
    fn is_end_signalled(&self) -> bool {
        self.phase.task().is_some_and(Task::is_end_signalled)
    }

    /// Sends the rest of the data, until the client stops reading for `send_timeout`.
    fn flush(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        if self.flush_deadline(cx.limits).is_some_and(|deadline| deadline <= cx.now) {
            self.life = Life::Closing(close_reason);
        } else if self.client.can_send() {
            let unsent = self.phase.task_mut().map_or_else(Chain::new, Task::take_unsent);
            if !unsent.is_empty() {
                self.client.send(unsent, cx.ops);
            }
        }
    }

    fn flush_deadline(&self, limits: &Limits) -> Option<Time> {
        let timeout = limits.http.send_timeout;
        (!timeout.is_zero()).then(|| self.last_activity + timeout)
    }

    /// Begins the service, after the setup.
    fn serve(&mut self, setup_result: SetupResult, cx: &mut Context<'_>) -> Result<(), Denied> {
        let SetupResult { context, told, mut local, named, protocol, since, received, draining_since } = setup_result;
        let Told { ends, tls: told } = if cx.admission.is_trusted(self.peer) { told } else { Told::default() };
        if let Some(ends) = ends {
            tracing::debug!(proxy = %self.peer, client = %ends.client, "PROXY header accepted");
            self.peer = Peer::Inet(ends.client);
            local = Some(ends.server);
        }
        let is_over_limit = self.is_over_limit();
        // The connection no longer counts for the proxy's address.
        self.rare = RareFields::new(None, None, None, is_over_limit);
        let access = named.as_ref().map_or(&context.access, |named| &named.route.access);
        let permit = enter(cx.admission, self.peer, access, is_over_limit)?;
        if let Some(Handshake::Done(info)) = self.client.handshake() {
            cx.counters.count_handshake(info.version, info.is_resumed);
        }
        // What the proxy says is of the client. With TLS of its own on top, that is the proxy's.
        let tls = told.map(|told| facts_of(*told)).or_else(|| self.tls_facts(&context, cx.admission)).map(Rc::new);
        self.rare = RareFields::new(permit, local, tls.clone(), is_over_limit);
        (cx.peer, cx.local, cx.tls) = (self.peer, local, tls);
        let ends = Ends { peer: self.peer, local, tls: cx.tls.as_deref() };
        let mut task = match named {
            Some(named) => Service::named_task(named, cx.session, ends),
            None => context.service.task(protocol, cx.session, ends, is_over_limit, since, cx.limits),
        };
        received.into_iter().for_each(|buffer| task.on_received(buffer));
        if let Some(since) = draining_since {
            task.drain(since);
        }
        self.phase = Phase::Service(task);
        Ok(())
    }

    /// What the handshake has settled, if there was one.
    fn tls_facts(&self, context: &ListenerContext, admission: &Admission) -> Option<ConnectionFacts> {
        let (Some(listener), Some(Handshake::Done(info))) = (&context.tls, self.client.handshake()) else {
            return None;
        };
        let facts = ConnectionFacts::of(&info, listener);
        Some(if admission.is_trusted(self.peer) { facts.of_gateway() } else { facts })
    }

    /// When to pump at the latest. `None` while closing: every operation in flight is cancelled, so
    /// its outcome follows soon.
    pub fn deadline(&self, limits: &Limits) -> Option<Time> {
        match self.life {
            Life::Open => {
                let deadline = Time::earliest(self.idle_deadline(limits), self.phase.deadline(limits));
                if self.client.is_encrypted() { Time::earliest(deadline, self.client.deadline()) } else { deadline }
            }
            Life::Flushing(_) => self.flush_deadline(limits),
            Life::Closing(_) | Life::Closed(_) => None,
        }
    }

    fn idle_deadline(&self, limits: &Limits) -> Option<Time> {
        (!limits.idle_timeout.is_zero()).then(|| self.last_activity + limits.idle_timeout)
    }

    /// The close reason, once no operation is in flight and no descriptor open.
    pub const fn ended(&self) -> Option<CloseReason> {
        match self.life {
            Life::Closed(close_reason) => Some(close_reason),
            Life::Open | Life::Flushing(_) | Life::Closing(_) => None,
        }
    }

    /// Whether its TLS handshake is still to come or in progress, so that little is known of its client.
    pub fn is_handshaking(&self) -> bool {
        self.life == Life::Open && self.phase.is_handshaking()
    }

    /// Whether the connection exceeds the limit and gets only an error response.
    pub fn is_over_limit(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_over_limit)
    }

    /// The client's address.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The local address of the client's connection, if it was looked up.
    pub fn local(&self) -> Option<SocketAddr> {
        self.rare.as_ref().and_then(|rare| rare.local)
    }

    /// The TLS of the client's connection, after the handshake.
    pub fn tls(&self) -> Option<Rc<ConnectionFacts>> {
        self.rare.as_ref().and_then(|rare| rare.tls.clone())
    }

    /// Whether the session waits in the queue for an upstream, so that no operation need be in
    /// flight.
    pub fn is_queued(&self) -> bool {
        self.life == Life::Open && self.phase.task().is_some_and(Task::is_queued)
    }

    /// Number of its HTTP exchanges that have begun and not ended.
    pub fn exchanges(&self) -> usize {
        self.phase.task().map_or(0, Task::exchanges)
    }

    /// Checks the streams of a session that is not marked to be pumped: each of them waits for something
    /// that will come, and what is counted of them is what they have. For tests.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check_streams(&self, awaited: &Awaited<'_>, limits: &Limits) -> Result<(), StreamViolation> {
        match self.phase.task() {
            Some(task) if self.life == Life::Open => task.check_streams(&self.client, awaited, limits),
            _ => Ok(()),
        }
    }

    /// Bytes of buffer memory held for this connection, both directions.
    pub fn memory(&self) -> usize {
        self.phase.memory() + self.client.memory()
    }

    /// The upper bound of [`Session::memory`], apart from data already in flight when a source was
    /// paused.
    pub fn memory_max(&self, limits: &Limits) -> usize {
        self.phase.memory_max(limits) + self.client.memory_max()
    }

    /// Bytes of plaintext received, and bytes that have reached the client.
    pub fn traffic(&self) -> (u64, u64) {
        (self.client.received_bytes(), self.client.delivered_bytes())
    }

    /// Writes the log record of this connection, and returns how it ended.
    pub fn log_end(&self, close_reason: CloseReason, now: Time) -> SessionEnd {
        let session_end = SessionEnd { close_reason, failure: self.phase.task().and_then(Task::failure) };
        let (received, sent) = self.traffic();
        let duration_ms = now.since(self.opened).as_millis() as u64;
        let (service, peer) = (self.phase.name(), self.peer);
        let upstream = self.phase.task().and_then(Task::upstream).map(tracing::field::display);
        let facts = self.rare.as_ref().and_then(|rare| rare.tls.as_deref());
        let (tls, server_name) =
            (facts.map(|facts| &*facts.version), facts.and_then(|facts| facts.server_name.as_deref()));
        // What a name chose the upstream by, if there was no TLS here.
        let server_name = self.phase.server_name().or(server_name);
        let client_subject = facts.and_then(ConnectionFacts::client_subject);
        let level = self.end_level(close_reason);
        let (close_reason, cause) = (close_reason.code(), session_end.cause().map(tracing::field::display));
        macro_rules! record {
            ($level:ident) => {
                tracing::event!(
                    Level::$level, service, %peer, upstream, tls, server_name, client_subject, received, sent, duration_ms,
                    close_reason, cause, "connection ended"
                )
            };
        }
        match level {
            Level::WARN => record!(WARN),
            Level::DEBUG => record!(DEBUG),
            _ => record!(INFO),
        }
        session_end
    }

    /// The level of the record of this connection's end.
    fn end_level(&self, close_reason: CloseReason) -> Level {
        // A denied connection has made no request that the access log would have.
        let is_denied = matches!(close_reason, CloseReason::Denied(_));
        if close_reason.is_worth_a_warning() {
            Level::WARN
        } else if !is_denied && self.phase.task().is_some_and(Task::is_in_access_log) {
            Level::DEBUG
        } else {
            Level::INFO
        }
    }
}

/// Checks the access list, and counts the connection unless it exceeds the limit.
fn enter(
    admission: &Admission,
    peer: Peer,
    access: &Access,
    is_over_limit: bool,
) -> Result<Option<ConnectionPermit>, Denied> {
    match is_over_limit {
        true if access.admits(peer) => Ok(None),
        true => Err(Denied::Address),
        false => admission.enter(peer, access),
    }
}
