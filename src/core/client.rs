//! The client mode: copies one local stream to a server and the server's bytes back, like netcat.
//!
//! ```text
//!              connected             both directions ended, a failure, idle
//!   Connecting ─────────► Relaying ───────────────────────────────────────► Closing ──► Closed
//!       └── no address, a failure of the local stream, idle ───────────────────►┘
//! ```
//!
//! An outbound session: an [`OutboundConnection`] to the server, and a [`Tunnel`] between it and the
//! local stream. The local stream is one end of a socket pair, because the drivers receive from
//! sockets only: standard input and output may be files or terminals, and may be shared with other
//! programs. Connecting, timeouts, half-close and backpressure work as in the server, but nothing of
//! a server runs: no core, no accepted session, no group of upstreams.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use super::worker::{Environment, Machine, Worker, settle};
use crate::buffer::Inbox;
use crate::config::{BackendChoice, Limits, UpstreamAddress};
use crate::driver::probe::{self, Backend, Unavailable};
use crate::driver::{
    Completion, Epoll, EpollConfig, FeatureSet, KernelDriver, Ops, Outcome, Socket, Time, Token, Uring, UringConfig,
};
use crate::session::{CloseReason, SessionEnd, Tunnel, TunnelLimits};
use crate::table::RawKey;
use crate::tcp::{CloseKind, ConnectionTokens};
use crate::tls::TlsPeer;
use crate::transport::Transport;
use crate::upstream::{OutboundConnection, OutboundTokens, Release, Unreachable, Upstream};

/// Error of a client connection.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The requested driver is not available.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The driver cannot be set up, or it failed.
    #[error("the event loop failed: {0}")]
    Driver(#[from] io::Error),
    /// The connection was not established, or it failed later.
    #[error("{upstream}: {session_end}")]
    Connection {
        /// The upstream's configured address.
        upstream: UpstreamAddress,
        /// How the session ended.
        session_end: SessionEnd,
    },
}

/// Connects `stream`, one end of a socket pair, to the upstream. Returns when both directions end.
/// `tls`: for an address over TLS.
///
/// # Errors
/// Any session end other than [`CloseReason::Done`].
pub fn run(
    stream: UnixStream,
    upstream: UpstreamAddress,
    tls: Option<TlsPeer>,
    backend: BackendChoice,
    uring_off: FeatureSet,
    limits: Limits,
) -> Result<(), ClientError> {
    let pool = limits.pool.within(limits.pipe_bytes_max);
    let selection = probe::choose(backend, uring_off, 1)?;
    tracing::debug!(backend = selection.backend.name(), %uring_off, ?pool, "connecting");
    match selection.backend {
        Backend::IoUring => {
            let size = selection.ring_size;
            let driver = Uring::new(UringConfig { off: uring_off, size, ..UringConfig::new(pool) })?;
            join(driver, stream.into(), upstream, tls, limits)
        }
        Backend::Epoll => {
            join(Epoll::new(EpollConfig { pool, ..EpollConfig::default() })?, stream.into(), upstream, tls, limits)
        }
    }
}

fn join(
    mut driver: impl KernelDriver,
    stream: OwnedFd,
    upstream: UpstreamAddress,
    tls: Option<TlsPeer>,
    limits: Limits,
) -> Result<(), ClientError> {
    let socket = driver.adopt(stream);
    let session = ClientSession::new(socket, upstream.clone(), tls, limits, driver.now());
    match Worker::new(driver, session).run()?.session_end() {
        Some(SessionEnd { close_reason: CloseReason::Done, .. }) | None => Ok(()),
        Some(session_end) => Err(ClientError::Connection { upstream, session_end }),
    }
}

/// The kinds of tokens: the operations of the connection to the server, and of the local stream.
const SERVER: u8 = 0;
const LOCAL: u8 = 1;

/// The key in all tokens: there is one session.
const ONLY: RawKey = RawKey::from_parts(0, 0);

/// The slots of the local stream.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum LocalSlot {
    Recv,
    Send,
    Close,
}

impl LocalSlot {
    const fn token(self) -> Token {
        Token { machine: ONLY, kind: LOCAL, slot: self as u8 }
    }
}

/// One connection to a server, and the local stream that is copied to it.
#[derive(Debug)]
struct ClientSession {
    ops: Ops,
    limits: Limits,
    upstream: Rc<Upstream>,
    server: OutboundConnection,
    /// What the server has sent and the tunnel has not taken.
    received: Inbox,
    local: Transport,
    tunnel: Tunnel,
    life: Life,
    opened: Time,
    last_activity: Time,
    /// It has not been pumped yet, so nothing is in flight that would end a wait.
    is_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    Closing {
        close_reason: CloseReason,
        /// When a flush of what was sent to the server is given up.
        flush_deadline: Option<Time>,
    },
    Closed(CloseReason),
}

impl ClientSession {
    /// A session that has not begun to connect.
    fn new(local: Socket, upstream: UpstreamAddress, tls: Option<TlsPeer>, limits: Limits, now: Time) -> Self {
        let tokens = OutboundTokens { machine: ONLY, kind: SERVER };
        let local_tokens = ConnectionTokens {
            recv: LocalSlot::Recv.token(),
            send: LocalSlot::Send.token(),
            close: LocalSlot::Close.token(),
        };
        let upstream = Upstream::new(upstream, tls);
        Self {
            ops: Ops::new(),
            server: OutboundConnection::new(Rc::clone(&upstream), tokens, limits.connect_timeout),
            limits,
            upstream,
            received: Inbox::default(),
            local: Transport::plain(local, local_tokens),
            tunnel: Tunnel::new(),
            life: Life::Open,
            opened: now,
            last_activity: now,
            is_new: true,
        }
    }

    /// How it ended, once it has.
    fn session_end(&self) -> Option<SessionEnd> {
        let failure = self.server.error().map(Unreachable::Connect);
        match self.life {
            Life::Closed(close_reason) => Some(SessionEnd { close_reason, failure }),
            Life::Open | Life::Closing { .. } => None,
        }
    }

    /// Records an outcome.
    fn on_completion(&mut self, Completion { id, outcome }: Completion, now: Time) {
        let Some(token) = settle(&mut self.ops, id, &outcome) else { return };
        if token.kind == SERVER {
            self.last_activity = now;
            if let Some(buffer) = self.server.on_outcome(token, outcome, now)
                && self.life == Life::Open
            {
                self.received.push(buffer);
            }
            return;
        }
        if matches!(outcome, Outcome::Received(_) | Outcome::Progress(_) | Outcome::Sent) {
            self.last_activity = now;
        }
        if token.slot == LocalSlot::Recv as u8 {
            if let Some(buffer) = self.local.on_received(outcome)
                && self.life == Life::Open
            {
                self.tunnel.push_to_upstream(buffer);
            }
        } else if token.slot == LocalSlot::Send as u8 {
            self.local.on_sent(outcome);
        } else {
            self.local.on_closed(outcome);
        }
    }

    /// Submits what is needed now and not in flight yet. `share`: bytes that one direction may hold.
    fn pump(&mut self, now: Time, share: usize) {
        if self.life == Life::Open
            && let Some(close_reason) = self.advance(now, share)
        {
            tracing::debug!(close_reason = close_reason.code(), "closing");
            self.begin_close(close_reason, now);
        }
        if let Life::Closing { close_reason, flush_deadline } = self.life {
            if flush_deadline.is_some_and(|deadline| deadline <= now) {
                self.server.close(CloseKind::Reset);
            }
            self.server.pump(now, &mut self.ops);
            // What was sent to it is in the socket pair, whose other end can still read it.
            self.local.close(CloseKind::Fin, &mut self.ops);
            if self.server.is_closed() && self.local.is_closed() {
                self.life = Life::Closed(close_reason);
                self.log_end(now);
            }
        }
    }

    /// Connects, then relays. `Some`: the session ends.
    fn advance(&mut self, now: Time, share: usize) -> Option<CloseReason> {
        self.server.pump(now, &mut self.ops);
        if self.server.error().is_some() {
            return Some(CloseReason::UpstreamUnreachable);
        }
        while let Some(buffer) = self.server.take_received() {
            self.received.push(buffer);
        }
        let hold_max = self.limits.pipe_bytes_max.min(share);
        let close_reason = match self.server.transport() {
            Some(server) => {
                let limits = TunnelLimits { hold_max, now, send_timeout: self.limits.http.send_timeout };
                let close_reason = self.tunnel.pump(&mut self.local, server, &mut self.received, limits, &mut self.ops);
                server.pump(now, &mut self.ops);
                close_reason
            }
            None => {
                self.tunnel.keep(false, &mut self.local, hold_max, &mut self.ops);
                self.local.receive_fault().map(CloseReason::ClientLost)
            }
        };
        let is_idle = self.idle_deadline().is_some_and(|deadline| deadline <= now);
        let idle = if self.tunnel.memory() > 0 { CloseReason::Stalled } else { CloseReason::Idle };
        close_reason.or_else(|| is_idle.then_some(idle))
    }

    fn begin_close(&mut self, close_reason: CloseReason, now: Time) {
        let mut flush_deadline = None;
        let close_kind = match close_reason.release(self.limits.http.send_timeout) {
            Release::Close(close_kind) => close_kind,
            Release::FlushReset(timeout) => {
                flush_deadline = (!timeout.is_zero()).then(|| now + timeout);
                CloseKind::FlushReset
            }
            Release::Keep(_) => CloseKind::Fin,
        };
        self.server.close(close_kind);
        self.received.clear();
        self.life = Life::Closing { close_reason, flush_deadline };
    }

    fn idle_deadline(&self) -> Option<Time> {
        let timeout = self.limits.idle_timeout;
        (!timeout.is_zero()).then(|| self.last_activity + timeout)
    }

    fn deadline(&self) -> Option<Time> {
        match self.life {
            Life::Open => {
                let step = Time::earliest(self.server.deadline(), self.tunnel.deadline());
                Time::earliest(step, self.idle_deadline())
            }
            Life::Closing { flush_deadline, .. } => flush_deadline,
            Life::Closed(_) => None,
        }
    }

    fn log_end(&self, now: Time) {
        let Some(session_end) = self.session_end() else { return };
        let upstream = self.upstream.address();
        let (sent, received) = (self.local.received_bytes(), self.local.sent_bytes());
        let duration_ms = now.since(self.opened).as_millis() as u64;
        let (close_reason, cause) = (session_end.close_reason.code(), session_end.cause().map(tracing::field::display));
        if session_end.close_reason.is_worth_a_warning() {
            tracing::warn!(%upstream, sent, received, duration_ms, close_reason, cause, "connection ended");
        } else {
            tracing::info!(%upstream, sent, received, duration_ms, close_reason, cause, "connection ended");
        }
    }
}

impl Machine for ClientSession {
    fn ops(&mut self) -> &mut Ops {
        &mut self.ops
    }

    fn wait(&self, now: Time) -> Option<Duration> {
        if self.is_new { Some(Duration::ZERO) } else { self.deadline().map(|deadline| deadline.since(now)) }
    }

    fn on_turn(&mut self, environment: Environment, done: &mut Vec<Completion>) {
        self.is_new = false;
        for completion in done.drain(..) {
            self.on_completion(completion, environment.now);
        }
        self.pump(environment.now, environment.share);
    }

    fn is_finished(&self) -> bool {
        matches!(self.life, Life::Closed(_))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::driver::Driver;
    use crate::driver::sim::{Behaviour, Faults, PeerId, Sim, Step};
    use crate::tcp::Listener;
    use crate::upstream::ConnectError;

    /// The local stream is a connection that a listener has accepted.
    fn local_stream(sim: &mut Sim, steps: Vec<Step>) -> (Socket, PeerId) {
        let address: SocketAddr = ([10, 0, 0, 2], 80).into();
        let mut listener = Listener::new(sim.listener(address), Token { machine: ONLY, kind: 2, slot: 0 });
        let peer = sim.client(address, Duration::ZERO, steps);
        let (mut ops, mut done, mut local) = (Ops::new(), Vec::new(), None);
        while !listener.is_closed() {
            listener.pump(1, &mut ops);
            sim.turn(&mut ops, None, &mut done).unwrap();
            for Completion { id, outcome } in done.drain(..) {
                ops.settle(id, outcome.is_final());
                if let Some((socket, _)) = listener.on_outcome(outcome).unwrap() {
                    local = Some(socket);
                    listener.close();
                }
            }
        }
        (local.unwrap(), peer)
    }

    /// What the local stream has received, and how the session ended. Nothing is left of it.
    fn joined(seed: u64, steps: Vec<Step>, behaviour: Behaviour, limits: &Limits) -> (Vec<u8>, SessionEnd) {
        let mut sim = Sim::new(seed, Faults::none());
        let address: SocketAddr = ([10, 0, 0, 1], 80).into();
        sim.upstream(address, behaviour);
        let (local, peer) = local_stream(&mut sim, steps);
        let upstream = address.to_string().parse().unwrap();
        let mut session = ClientSession::new(local, upstream, None, limits.clone(), sim.now());
        let mut done = Vec::new();
        for _ in 0..100_000 {
            if session.is_finished() {
                assert_eq!((session.ops.in_flight(), sim.open_descriptors()), (0, 0), "seed {seed}");
                // What is on its way arrives.
                for _ in 0..10_000 {
                    sim.turn(&mut session.ops, Some(Duration::from_secs(1)), &mut done).unwrap();
                    if sim.peer(peer).is_done() {
                        break;
                    }
                }
                return (sim.peer(peer).received().to_vec(), session.session_end().unwrap());
            }
            let wait = session.wait(sim.now());
            let turn = sim.turn(session.ops(), wait, &mut done).unwrap();
            let environment = Environment { now: turn.now, share: sim.pool().share(), unix_seconds: 0 };
            session.on_turn(environment, &mut done);
        }
        panic!("no end with seed {seed}: {session:?}");
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|number| number as u8).collect()
    }

    #[test]
    fn what_goes_in_comes_back_from_an_echo() {
        for seed in 0..100 {
            let input = bytes(1 + 1000 * seed as usize);
            let steps = vec![Step::Send(input.clone()), Step::ShutdownWrite, Step::ReadUntilEof];
            let (output, end) = joined(seed, steps, Behaviour::echo(), &Limits::default());
            assert_eq!(end.close_reason, CloseReason::Done, "seed {seed}");
            assert!(output == input, "seed {seed}: {} bytes", output.len());
        }
    }

    #[test]
    fn an_end_of_input_goes_on_and_the_other_direction_continues() {
        for seed in 0..100 {
            let steps = vec![Step::ShutdownWrite, Step::ReadUntilEof];
            let (output, end) = joined(seed, steps, Behaviour::respond(bytes(70_000)), &Limits::default());
            assert_eq!((end.close_reason, output == bytes(70_000)), (CloseReason::Done, true), "seed {seed}");
            let (output, end) =
                joined(seed, vec![Step::ReadUntilEof], Behaviour::greet(bytes(70_000)), &Limits::default());
            assert_eq!((end.close_reason, output == bytes(70_000)), (CloseReason::Done, true), "seed {seed}");
        }
    }

    #[test]
    fn a_refused_connection_ends_it_with_the_reason() {
        let (_, end) = joined(1, vec![Step::ReadUntilEof], Behaviour::Refuse, &Limits::default());
        assert_eq!(end.close_reason, CloseReason::UpstreamUnreachable);
        assert!(matches!(end.failure, Some(Unreachable::Connect(ConnectError::Refused { .. }))), "{end}");
    }

    #[test]
    fn a_connection_that_is_reset_on_either_side_ends_it() {
        for seed in 0..100 {
            let steps = vec![Step::Send(bytes(1000)), Step::ReadUntilEof];
            let (_, end) = joined(seed, steps, Behaviour::die_after(500), &Limits::default());
            assert!(matches!(end.close_reason, CloseReason::UpstreamLost(_)), "seed {seed}: {end}");
            let steps = vec![Step::Expect(500), Step::Reset];
            let behaviour = Behaviour::Serve(vec![Step::Send(bytes(1000)), Step::ReadUntilEof]);
            let (_, end) = joined(seed, steps, behaviour, &Limits::default());
            assert!(matches!(end.close_reason, CloseReason::ClientLost(_)), "seed {seed}: {end}");
        }
    }

    #[test]
    fn without_traffic_it_ends_after_the_idle_timeout() {
        let limits = Limits { idle_timeout: Duration::from_secs(2), ..Limits::default() };
        let (_, end) = joined(1, vec![Step::ReadUntilEof], Behaviour::respond(Vec::new()), &limits);
        assert_eq!(end.close_reason, CloseReason::Idle);
    }
}
