//! What a connection is for. Here the machines meet: a client's connection, and what serves it.
//!
//! ```text
//!          an ending             everything at rest, everything closed
//!   Open ─────────────► Closing ──────────────────────────────────────► Closed
//!     │                    ▲ what was sent has arrived, or no more of it for too long
//!     └───► Flushing ──────┘
//! ```
//!
//! A [`Session`] owns the client's [`Connection`] and a task that says what the bytes mean: `echo`,
//! `reverse`, `proxy`, `deliver`, `receive` or [`http`], made from its listener's [`Service`]. Outcomes are recorded; then one `pump` looks at all
//! states and emits what is wanted now and not yet under way. Pumping once too often changes nothing.
//!
//! A session that ends with a reset first delivers what was sent: a reset destroys what is still on its way.
//!
//! Where a proxy is to say first on whose behalf it comes, an `introduction` precedes the task.

mod close_reason;
mod echo;
mod file_sender;
pub mod http;
mod listener_context;
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

pub use close_reason::{CloseReason, SessionEnd};
pub use file_sender::Content;
pub use listener_context::ListenerContext;
pub use receive::{Destination, Naming};
pub use service::Service;
pub use slot::{SESSION, Slot};

use self::service::Ends;
use self::setup::{Setup, SetupResult};
use crate::buffer::{Buffer, Chain};
use crate::config::{Limits, UpstreamAddress};
use crate::driver::{Ops, Outcome, Peer, Socket, Time};
use crate::file::multipart::Boundaries;
use crate::file::store::Store;
use crate::http::DateLine;
use crate::limit::{Access, Admission, ConnectionPermit, Denied};
use crate::table::Key;
use crate::tcp::{CloseKind, Connection};
use crate::telemetry::metrics::WorkerCounters;
use crate::upstream::{Unreachable, UpstreamPool};

/// What a machine acts with: where operations go, what time it is, what the bounds are.
#[derive(Debug)]
pub struct Context<'a> {
    /// The queue to the driver.
    pub ops: &'a mut Ops,
    /// The time of this turn.
    pub now: Time,
    /// Which session it is.
    pub session: Key,
    /// Who is at the client's end.
    pub peer: Peer,
    /// The address at this end, if it was asked for.
    pub local: Option<SocketAddr>,
    /// The configured bounds.
    pub limits: &'a Limits,
    /// Bytes that each direction may hold now, before its source is paused: the configured bound, or less while many hold
    /// much.
    pub hold_max: usize,
    /// Who may come in, and how often.
    pub admission: &'a Admission,
    /// The files at hand.
    pub store: &'a mut Store,
    /// The connections to upstreams.
    pub upstream_pool: &'a mut UpstreamPool,
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// The same as a field of HTTP.
    pub date: &'a DateLine,
    /// What stands between the parts of bodies with several.
    pub boundaries: &'a mut Boundaries,
    /// Where what happens is counted.
    pub counters: &'a WorkerCounters,
}

impl Context<'_> {
    /// The bounds under which a tunnel moves bytes.
    const fn tunnel_limits(&self) -> tunnel::TunnelLimits {
        tunnel::TunnelLimits { hold_max: self.hold_max, now: self.now, send_timeout: self.limits.http.send_timeout }
    }
}

/// A connection that has been accepted.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Socket,
    /// Who is at its other end.
    pub peer: Peer,
    /// There are as many as there may be already: it is to be told so, and nothing else.
    pub is_over_limit: bool,
}

/// One client's connection and what serves it.
#[derive(Debug)]
pub struct Session {
    peer: Peer,
    opened: Time,
    last_activity: Time,
    life: Life,
    client: Connection,
    task: Box<dyn Task>,
    rare: Option<Box<RareFields>>,
}

/// What few connections have.
#[derive(Debug)]
struct RareFields {
    /// Its place among the connections that are counted.
    _permit: Option<ConnectionPermit>,
    /// Its own address, if it was asked for.
    local: Option<SocketAddr>,
    /// It was accepted beyond the limit, only to be refused.
    is_over_limit: bool,
}

impl RareFields {
    /// `None` where there is nothing particular.
    fn new(permit: Option<ConnectionPermit>, local: Option<SocketAddr>, is_over_limit: bool) -> Option<Box<Self>> {
        let is_needed = permit.is_some() || local.is_some() || is_over_limit;
        is_needed.then(|| Box::new(Self { _permit: permit, local, is_over_limit }))
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Open,
    /// What was sent is still on its way to the client.
    Flushing(CloseReason),
    Closing(CloseReason),
    Closed(CloseReason),
}

/// What a connection is for.
///
/// A task owns the machines it needs beside the client's connection. It is handed what arrives, and
/// asked what to do next.
trait Task: fmt::Debug {
    /// The service's name, for logs.
    fn name(&self) -> &'static str;

    /// The upstream, if the task has one, for logs.
    fn upstream(&self) -> Option<&UpstreamAddress> {
        None
    }

    /// Why there is no upstream, if none could be had, for logs.
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

    /// Notes that what the store was asked for has come.
    fn on_ready(&mut self) {}

    /// Notes that the server is stopping: what is under way may be finished, nothing new begun.
    fn drain(&mut self, now: Time) {
        let _ = now;
    }

    /// What is known of the connection so that it can be served, from a task that has found that out and nothing else.
    fn setup_result(&mut self) -> Option<SetupResult> {
        None
    }

    /// Emits what is wanted now. `Some`: the session is over.
    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<CloseReason>;

    /// Whether it waits for the upstream that another session uses.
    fn is_queued(&self) -> bool {
        false
    }

    /// Whether somebody would take a part for the whole if the connection ended in order now, apart from what is being
    /// sent to the client.
    fn is_unfinished(&self) -> bool {
        false
    }

    /// When it wants to be pumped for the time's sake, besides the idle time-out.
    fn deadline(&self, limits: &Limits) -> Option<Time> {
        let _ = limits;
        None
    }

    /// What waits to be sent to the client, for the last time it is asked.
    fn take_unsent(&mut self) -> Chain {
        Chain::new()
    }

    /// Whether the client has been told of the end in the protocol's own way, whatever the ending is: its connection is
    /// closed in order.
    fn is_end_signalled(&self) -> bool {
        false
    }

    /// Goes on with closing what the task owns; `true` when nothing is open and nothing in flight.
    /// Once the client's connection is closed, it uses nothing of the task's any more.
    fn close(&mut self, close_reason: CloseReason, client: &Connection, cx: &mut Context<'_>) -> bool {
        let _ = (close_reason, client, cx);
        true
    }

    /// Bytes of buffer memory it holds.
    fn memory(&self) -> usize;

    /// The most that may be, apart from what was on its way when a source was paused.
    fn memory_max(&self, limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + limits.line_bytes_max
    }
}

impl Session {
    /// A session over a connected socket. It does nothing before its first pump.
    pub fn new(
        key: Key,
        accepted: Accepted,
        context: &Rc<ListenerContext>,
        admission: &Admission,
        now: Time,
        limits: &Limits,
    ) -> Self {
        let Accepted { socket, peer, is_over_limit } = accepted;
        let setup = Setup::of(context, now, limits);
        // For whom it comes is not known before it is introduced; only the proxy's connections are counted until then.
        let everybody = Access::default();
        let access = if setup.is_some() { &everybody } else { &context.access };
        let (permit, life) = match enter(admission, peer, access, is_over_limit) {
            Ok(permit) => (permit, Life::Open),
            Err(denied) => (None, Life::Closing(CloseReason::Denied(denied))),
        };
        let task: Box<dyn Task> = match setup {
            Some(setup) => Box::new(setup),
            None => context.service.task(key, Ends { peer, local: None }, is_over_limit, now, limits),
        };
        Self {
            peer,
            opened: now,
            last_activity: now,
            life,
            client: Connection::new(socket, slot::client_tokens(key)),
            task,
            rare: RareFields::new(permit, None, is_over_limit),
        }
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, slot: Slot, outcome: Outcome, now: Time) {
        if matches!(outcome, Outcome::Received(_) | Outcome::Progress(_) | Outcome::Sent) {
            self.last_activity = now;
        }
        match slot {
            Slot::ClientRecv => {
                if let Some(buffer) = self.client.on_received(outcome)
                    && self.life == Life::Open
                {
                    self.task.on_received(buffer);
                }
            }
            Slot::ClientSend => self.client.on_sent(outcome),
            Slot::ClientClose => self.client.on_closed(outcome),
            Slot::File | Slot::LocalAddress => self.task.on_outcome(slot, outcome, now),
        }
    }

    /// Notes that something happened on its link to an upstream.
    pub const fn on_upstream(&mut self, now: Time) {
        self.last_activity = now;
    }

    /// Notes that what the store was asked for has come.
    pub fn on_ready(&mut self) {
        self.task.on_ready();
    }

    /// Notes that the server is stopping.
    pub fn drain(&mut self, now: Time) {
        self.task.drain(now);
    }

    /// Ends the session from outside, whatever it is doing; the next pump acts on it. What is still on its way to the
    /// client is waited for no longer.
    pub fn end(&mut self, close_reason: CloseReason) {
        match self.life {
            Life::Open => self.life = Life::Closing(close_reason),
            Life::Flushing(close_reason) => self.life = Life::Closing(close_reason),
            Life::Closing(_) | Life::Closed(_) => {}
        }
    }

    /// Emits what is wanted now and not yet under way.
    pub fn pump(&mut self, cx: &mut Context<'_>) {
        if self.life == Life::Open {
            let mut over = self.task.pump(&mut self.client, cx);
            if over.is_none()
                && let Some(setup_result) = self.task.setup_result()
            {
                over = self.serve(setup_result, cx);
            }
            let idle =
                || self.idle_deadline(cx.limits).filter(|deadline| *deadline <= cx.now).map(|_| CloseReason::Idle);
            if let Some(close_reason) = over.or_else(idle) {
                let has_stalled = close_reason == CloseReason::Idle && self.task.is_unfinished();
                let close_reason = if has_stalled { CloseReason::Stalled } else { close_reason };
                tracing::debug!(%close_reason, "closing");
                self.life = match close_reason.close_kind() {
                    CloseKind::FlushReset if !self.task.is_end_signalled() => Life::Flushing(close_reason),
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
                _ if self.task.is_end_signalled() => CloseKind::Fin,
                _ if close_reason.close_kind() == CloseKind::Fin => CloseKind::Fin,
                _ => CloseKind::Reset,
            };
            self.client.close(close_kind, cx.ops);
            let task_is_closed = self.task.close(close_reason, &self.client, cx);
            if self.client.is_closed() && task_is_closed {
                self.life = Life::Closed(close_reason);
            }
        }
    }

    /// Sends what waits to be sent, as long as the client takes it.
    fn flush(&mut self, close_reason: CloseReason, cx: &mut Context<'_>) {
        if self.flush_deadline(cx.limits).is_some_and(|deadline| deadline <= cx.now) {
            self.life = Life::Closing(close_reason);
        } else if self.client.writer.is_idle() {
            let unsent = self.task.take_unsent();
            if !unsent.is_empty() {
                self.client.writer.send(unsent, cx.ops);
            }
        }
    }

    fn flush_deadline(&self, limits: &Limits) -> Option<Time> {
        let timeout = limits.http.send_timeout;
        (!timeout.is_zero()).then(|| self.last_activity + timeout)
    }

    /// Begins with what the connection is for. `Some`: it is over already.
    fn serve(&mut self, setup_result: SetupResult, cx: &mut Context<'_>) -> Option<CloseReason> {
        let SetupResult { context, ends, local, received, draining_since } = setup_result;
        let mut local = local;
        if let Some(ends) = ends.filter(|_| cx.admission.is_trusted(self.peer)) {
            tracing::debug!(proxy = %self.peer, client = %ends.client, "introduced");
            self.peer = Peer::Inet(ends.client);
            local = Some(ends.server);
        }
        let is_over_limit = self.is_over_limit();
        // The proxy's own place is another one's now.
        self.rare = RareFields::new(None, None, is_over_limit);
        let permit = match enter(cx.admission, self.peer, &context.access, is_over_limit) {
            Ok(permit) => permit,
            Err(denied) => return Some(CloseReason::Denied(denied)),
        };
        self.rare = RareFields::new(permit, local, is_over_limit);
        (cx.peer, cx.local) = (self.peer, local);
        let ends = Ends { peer: self.peer, local };
        self.task = context.service.task(cx.session, ends, is_over_limit, cx.now, cx.limits);
        received.into_iter().for_each(|buffer| self.task.on_received(buffer));
        if let Some(since) = draining_since {
            self.task.drain(since);
        }
        self.task.pump(&mut self.client, cx)
    }

    /// When to pump at the latest. `None` while closing: every operation in flight was cancelled and comes back soon.
    pub fn deadline(&self, limits: &Limits) -> Option<Time> {
        match self.life {
            Life::Open => Time::earliest(self.idle_deadline(limits), self.task.deadline(limits)),
            Life::Flushing(_) => self.flush_deadline(limits),
            Life::Closing(_) | Life::Closed(_) => None,
        }
    }

    fn idle_deadline(&self, limits: &Limits) -> Option<Time> {
        (!limits.idle_timeout.is_zero()).then(|| self.last_activity + limits.idle_timeout)
    }

    /// How it ended, once nothing of it is left: no operation, no descriptor.
    pub const fn ended(&self) -> Option<CloseReason> {
        match self.life {
            Life::Closed(close_reason) => Some(close_reason),
            Life::Open | Life::Flushing(_) | Life::Closing(_) => None,
        }
    }

    /// Whether it is there only to be told that there is no room.
    pub fn is_over_limit(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_over_limit)
    }

    /// Who is at the client's end.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// The address at this end, if it was asked for.
    pub fn local(&self) -> Option<SocketAddr> {
        self.rare.as_ref().and_then(|rare| rare.local)
    }

    /// Whether it waits for an upstream that another session uses, and nothing else need be under way.
    pub fn is_queued(&self) -> bool {
        self.life == Life::Open && self.task.is_queued()
    }

    /// Bytes of buffer memory held for this connection, both directions.
    pub fn memory(&self) -> usize {
        self.task.memory()
    }

    /// The bound of [`Session::memory`], apart from what was on its way when a source was paused.
    pub fn memory_max(&self, limits: &Limits) -> usize {
        self.task.memory_max(limits)
    }

    /// Writes the one record of this connection, and returns its last words.
    pub fn log_end(&self, close_reason: CloseReason, now: Time) -> SessionEnd {
        let session_end = SessionEnd { close_reason, failure: self.task.failure() };
        let received = self.client.reader.received_bytes();
        let sent = self.client.delivered_bytes();
        let duration_ms = now.since(self.opened).as_millis() as u64;
        let (service, peer) = (self.task.name(), self.peer);
        let upstream = self.task.upstream().map(tracing::field::display);
        if close_reason.is_worth_a_warning() {
            tracing::warn!(service, %peer, upstream, received, sent, duration_ms, close_reason = %session_end, "connection ended");
        } else {
            tracing::info!(service, %peer, upstream, received, sent, duration_ms, close_reason = %session_end, "connection ended");
        }
        session_end
    }
}

/// Lets a connection in. One too many has no place among those that are counted.
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
