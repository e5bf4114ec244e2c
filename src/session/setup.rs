//! Setup: the phase of a session before its service, in which it finds out what its connection is.
//! Reads the PROXY protocol header, shakes hands or reads the name in a ClientHello, or waits for the
//! first bytes of the protocol, then looks up the local address.
//!
//! ```text
//!              PROXY protocol header         TLS handshake        local address
//!   Reading ─────────────────────► Shaking ───────────────► Asking ───────────────► ready:
//!      │                 │            │ failed                ▲ ▲                the service
//!      │                 │            ▼         sent          │ │                begins
//!      │                 │         Answering ─────────► Lingering ─────► over
//!      │                 │            ▲ no route              │ │
//!      │                 ├──────► Peeking ────────────────────┘ │
//!      │                 │                  ClientHello: a route│
//!      │                 └──────► Opening ──────────────────────┘
//!      │                                    first bytes: a protocol
//!      └── malformed, end of input, timeout: over
//! ```
//!
//! The header is read only if the listener expects one, and there is a handshake only if it has TLS. A
//! listener that chooses upstreams by name only peeks: the bytes are passed on as they are.
//! The local address is looked up only if a PROXY protocol header to an upstream needs it. Bytes after
//! the header are kept for what follows. The session decides whether it trusts the header.
//!
//! Whether a client speaks HTTP/1.1 or HTTP/2 is known before the service begins. Over TLS it is what
//! this connection's own handshake has agreed on (ALPN), whatever a PROXY protocol header says of the
//! client's. Without TLS, where the listener permits HTTP/2, it is in the first bytes (RFC 9113, 3.3 and
//! 3.4): the preface of HTTP/2, or a byte that differs from it.
//!
//! The answer to a handshake that fails is an alert, or a plain 400 if the client sent HTTP without
//! TLS. A close with unread bytes would be a reset, which could reach the client before it has read
//! the answer: so they are read and discarded for a short time.

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::name_routes::Named;
use super::service::Protocol;
use super::{CloseReason, Context, ListenerContext, Service, Slot};
use crate::buffer::{Buffer, Chunk, SizeClass};
use crate::driver::{Fault, Op, Outcome, Peer, Time, TlsFault};
use crate::http::h2::frame::PREFACE;
use crate::session::Limits;
use crate::session::http::refuse_plain;
use crate::tcp::End;
use crate::tcp::proxy_header::{self, Ends, HEADER_BYTES_MAX, Parsed};
use crate::telemetry::metrics::TimeoutKind;
use crate::tls::acme::ACME_TLS;
use crate::tls::{Handshake, HandshakeInfo, HelloError, HelloReader, Subject};
use crate::transport::Transport;

/// How long the answer to a failed handshake may take, and the client may go on sending after it.
const LINGER: Duration = Duration::from_secs(2);

/// The setup of one connection.
#[derive(Debug)]
pub(super) struct Setup {
    context: Rc<ListenerContext>,
    header: Header,
    tls: Tls,
    opening: Opening,
    local: Local,
    /// Bytes received after the header.
    rest: Vec<Buffer>,
    deadline: Option<Time>,
    draining_since: Option<Time>,
}

#[derive(Debug)]
enum Header {
    /// The bytes so far.
    Reading(Vec<u8>),
    /// What the header says; nothing, if no header is expected.
    Read(Told),
    Malformed,
}

/// What a PROXY protocol header says of the client.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// The addresses, if it has any.
    pub(super) ends: Option<Ends>,
    /// What the client has agreed on with the proxy, if it speaks TLS.
    pub(super) tls: Option<Box<proxy_header::Tls>>,
}

/// The TLS handshake.
#[derive(Debug)]
enum Tls {
    NotBegun,
    Shaking,
    /// The name in a ClientHello is looked for. The handshake itself is the upstream's.
    Peeking(HelloReader),
    /// The name has led to a route.
    Named(Named),
    /// Complete, or not wanted.
    Over,
    /// It failed, and the answer is being sent.
    Answering(Failure),
    /// The answer is sent, and the sending side shut down. What still comes is discarded.
    Lingering(Failure),
}

/// A failed handshake.
#[derive(Clone, Debug)]
struct Failure {
    fault: TlsFault,
    /// The name in a ClientHello that leads nowhere.
    server_name: Option<Rc<str>>,
    /// When the connection is closed at the latest.
    until: Time,
}

/// The protocol of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// The first bytes will tell. They are not waited for yet.
    Unknown,
    /// They are waited for, since then.
    Awaited(Time),
    /// Since when it has been waited for, if it has.
    Known(Protocol, Option<Time>),
}

/// The look-up of the local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    NotAsked,
    Asking,
    Known(Option<SocketAddr>),
}

/// Progress of a setup.
#[derive(Debug)]
pub(super) enum Progress {
    /// Waiting for the client or the kernel.
    Wait,
    /// Complete: the service can begin.
    Ready(SetupResult),
    /// The session ends before its service began.
    Over(CloseReason),
}

/// What the setup of a connection has found.
#[derive(Debug)]
pub(super) struct SetupResult {
    pub(super) context: Rc<ListenerContext>,
    /// What the PROXY protocol header says.
    pub(super) told: Told,
    /// The local address, if it was looked up and there is one.
    pub(super) local: Option<SocketAddr>,
    /// The route, if it was chosen by name.
    pub(super) named: Option<Named>,
    /// What the client speaks, to a service with several protocols.
    pub(super) protocol: Protocol,
    /// When the time for the first request began.
    pub(super) since: Time,
    /// Bytes received so far, for the service.
    pub(super) received: Vec<Buffer>,
    /// When the server began to stop, if it has.
    pub(super) draining_since: Option<Time>,
}

impl Setup {
    /// `None`: no setup is needed.
    pub(super) fn of(context: &Rc<ListenerContext>, now: Time, limits: &Limits) -> Option<Self> {
        let tls = match (&context.service, &context.tls) {
            (Service::ProxyByName(_), _) => Tls::Peeking(HelloReader::default()),
            (_, Some(_)) => Tls::NotBegun,
            (_, None) => Tls::Over,
        };
        let opening = match context.h2c && matches!(tls, Tls::Over) {
            true => Opening::Unknown,
            false => Opening::Known(Protocol::Http1, None),
        };
        let is_needed =
            !matches!(tls, Tls::Over) || opening == Opening::Unknown || context.service.wants_local_address();
        let header = match context.expects_proxy_header {
            true => Header::Reading(Vec::new()),
            false if is_needed => Header::Read(Told::default()),
            false => return None,
        };
        let timeout = limits.http.head_timeout;
        Some(Self {
            context: Rc::clone(context),
            header,
            tls,
            opening,
            local: Local::NotAsked,
            rest: Vec::new(),
            deadline: (!timeout.is_zero()).then(|| now + timeout),
            draining_since: None,
        })
    }

    /// Takes bytes from the client.
    pub(super) fn on_received(&mut self, mut buffer: Buffer) {
        let Header::Reading(head) = &mut self.header else { return self.keep(buffer) };
        let before = head.len();
        head.extend(buffer.iter().take(HEADER_BYTES_MAX - before));
        match proxy_header::parse(head) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete { ends, tls, length }) => {
                buffer.advance(length - before);
                self.header = Header::Read(Told { ends, tls });
                if !buffer.is_empty() {
                    self.keep(buffer);
                }
            }
            Err(_) => self.header = Header::Malformed,
        }
    }

    /// Keeps what follows the header. A ClientHello is copied: its bytes may come in many buffers.
    fn keep(&mut self, buffer: Buffer) {
        match &mut self.tls {
            Tls::Peeking(hello) => hello.push(&buffer),
            Tls::NotBegun | Tls::Shaking | Tls::Named(_) | Tls::Over | Tls::Answering(_) | Tls::Lingering(_) => {
                self.rest.push(buffer);
            }
        }
    }

    /// Records the outcome of the look-up of the local address.
    pub(super) fn on_outcome(&mut self, slot: Slot, outcome: Outcome) {
        debug_assert_eq!(slot, Slot::LocalAddress);
        self.local = match outcome {
            Outcome::Local(address) => Local::Known(address),
            // The client is gone: the next receive or send reports it.
            _ => Local::Known(None),
        };
    }

    /// Notes that the server is stopping; the service hears of it when it begins.
    pub(super) fn drain(&mut self, now: Time) {
        self.draining_since = Some(now);
    }

    /// Submits the operations that are needed now, and returns the progress.
    pub(super) fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Progress {
        if cx.peer == Peer::Gone && self.context.service.wants_local_address() {
            // Upstreams would be told that the connection is the server's own.
            return Progress::Over(CloseReason::ClientLost(Fault::Os(libc::ENOTCONN)));
        }
        match &self.header {
            Header::Malformed => return Progress::Over(CloseReason::NoProxyHeader),
            Header::Reading(head) => {
                return match client.input_end() {
                    Some(End::Failed(fault)) => Progress::Over(CloseReason::ClientLost(fault)),
                    // A port check: connects and closes without sending anything.
                    Some(End::Eof) if head.is_empty() => Progress::Over(CloseReason::Done),
                    Some(End::Eof) => Progress::Over(CloseReason::NoProxyHeader),
                    None if self.deadline.is_some_and(|deadline| deadline <= cx.now) => {
                        Progress::Over(CloseReason::Idle)
                    }
                    None => {
                        client.set_receiving(true, cx.ops);
                        Progress::Wait
                    }
                };
            }
            Header::Read(_) => {}
        }
        if self.is_handshaking()
            && let Some(progress) = self.shake(client, cx)
        {
            return progress;
        }
        if let Some(progress) = self.open(client, cx) {
            return progress;
        }
        let local = match self.local {
            Local::NotAsked if self.context.service.wants_local_address() => {
                cx.ops.submit(Slot::LocalAddress.token(cx.session), Op::LocalAddress { socket: client.socket() });
                self.local = Local::Asking;
                return Progress::Wait;
            }
            Local::Asking => return Progress::Wait,
            Local::NotAsked => None,
            Local::Known(address) => address,
        };
        let told = match &mut self.header {
            Header::Read(told) => mem::take(told),
            Header::Reading(_) | Header::Malformed => Told::default(),
        };
        let named = match mem::replace(&mut self.tls, Tls::Over) {
            Tls::Named(named) => Some(named),
            _ => None,
        };
        let (protocol, since) = match self.opening {
            Opening::Known(protocol, since) => (protocol, since.unwrap_or(cx.now)),
            Opening::Unknown | Opening::Awaited(_) => (Protocol::Http1, cx.now),
        };
        Progress::Ready(SetupResult {
            context: Rc::clone(&self.context),
            told,
            local,
            named,
            protocol,
            since,
            received: mem::take(&mut self.rest),
            draining_since: self.draining_since,
        })
    }

    /// Advances the handshake, or what stands for it. `None`: it is complete.
    fn shake(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<Progress> {
        if matches!(self.tls, Tls::Peeking(_))
            && let Some(progress) = self.peek(client, cx)
        {
            return Some(progress);
        }
        if let (Tls::NotBegun, Some(listener)) = (&self.tls, &self.context.tls) {
            let reads = Slot::ClientFile.token(cx.session);
            if let Err(fault) = client.begin_tls_server(reads, Arc::clone(&listener.config), mem::take(&mut self.rest))
            {
                return Some(Progress::Over(CloseReason::TlsFailed(fault)));
            }
            if listener.signs_slowly {
                client.work_away();
            }
            self.tls = Tls::Shaking;
            // What came with the header.
            self.rest.extend(std::iter::from_fn(|| client.take_received()));
        }
        if matches!(self.tls, Tls::Shaking) {
            match client.handshake() {
                Some(Handshake::InProgress) => return Some(self.await_handshake(client, cx)),
                Some(Handshake::Failed(TlsFault::NothingSent)) => return Some(Progress::Over(CloseReason::Done)),
                Some(Handshake::Failed(fault)) => {
                    self.tls = Tls::Answering(Failure { fault, server_name: None, until: cx.now + LINGER });
                    if let (TlsFault::PlainHttp, Service::Http(router_cell)) = (fault, &self.context.service) {
                        let response = refuse_plain(&router_cell.router(), self.peer(cx), cx);
                        client.send_unencrypted(Chunk::owned(response).into(), cx.ops);
                    }
                }
                Some(Handshake::Done(info)) => {
                    log(&info);
                    // A validation: the handshake was all of it (RFC 8737, 3).
                    if info.protocol == Some(ACME_TLS) {
                        return Some(Progress::Over(CloseReason::Done));
                    }
                    if info.protocol == Some(HTTP2) {
                        self.opening = Opening::Known(Protocol::Http2, None);
                    }
                    self.tls = Tls::Over;
                }
                None => self.tls = Tls::Over,
            }
        }
        let (Tls::Answering(failure) | Tls::Lingering(failure)) = &self.tls else { return None };
        Some(self.finish(failure.clone(), client, cx))
    }

    /// Waits until the first bytes tell the protocol. `None`: it is known.
    ///
    /// A client that goes away, sends nothing in time, or says nothing while the server is stopping is left
    /// to HTTP/1.1, which knows what becomes of it. Its time has run since this wait began. A client that
    /// has sent a part of the preface in time, and not the rest, would take an answer of HTTP/1.1 for
    /// malformed frames: the connection is closed without one.
    fn open(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<Progress> {
        let since = match self.opening {
            Opening::Known(..) => return None,
            Opening::Unknown => cx.now,
            Opening::Awaited(since) => since,
        };
        self.opening = Opening::Awaited(since);
        let limits = &cx.limits.http;
        let at_stop = self.draining_since.filter(|_| self.rest.is_empty());
        let until = |since: Time, timeout: Duration| (!timeout.is_zero()).then(|| since + timeout);
        self.deadline = Time::earliest(
            until(since, limits.head_timeout),
            at_stop.and_then(|stop| until(stop.max(since), limits.drain_idle_timeout)),
        );
        let is_late = self.deadline.is_some_and(|deadline| deadline <= cx.now);
        let protocol = match self.protocol() {
            Some(protocol) => protocol,
            None if is_late && !self.rest.is_empty() => {
                if self.draining_since.is_none() {
                    cx.counters.count_timeout(TimeoutKind::Head);
                }
                return Some(Progress::Over(CloseReason::Idle));
            }
            None if is_late || client.input_end().is_some() => Protocol::Http1,
            None => {
                self.join();
                client.set_receiving(true, cx.ops);
                return Some(Progress::Wait);
            }
        };
        self.opening = Opening::Known(protocol, Some(since));
        self.deadline = None;
        None
    }

    /// The protocol that begins with the bytes received. `None`: they are a part of the preface.
    fn protocol(&self) -> Option<Protocol> {
        let mut received = self.rest.iter().flat_map(|buffer| buffer.iter());
        for expected in PREFACE {
            if received.next()? != expected {
                return Some(Protocol::Http1);
            }
        }
        Some(Protocol::Http2)
    }

    /// Copies what has been received into one buffer: a client that sends one byte at a time does not
    /// hold a buffer for each.
    fn join(&mut self) {
        let [first, _, ..] = self.rest.as_slice() else { return };
        let fill = |memory: &mut [u8]| {
            let mut length = 0;
            for buffer in &self.rest {
                memory.get_mut(length..length + buffer.len()).ok_or(())?.copy_from_slice(buffer);
                length += buffer.len();
            }
            Ok::<_, ()>(length)
        };
        if let Some(Ok(joined)) = first.pool().filled(SizeClass::Small, fill) {
            self.rest = vec![joined];
        }
    }

    /// The client's address, as far as it is known.
    fn peer(&self, cx: &Context<'_>) -> Peer {
        match self.header {
            Header::Read(Told { ends: Some(ends), .. }) if cx.admission.is_trusted(cx.peer) => Peer::Inet(ends.client),
            Header::Read(_) | Header::Reading(_) | Header::Malformed => cx.peer,
        }
    }

    /// Looks for the name in the ClientHello, and for its route. `None`: there is one, or the answer is
    /// that there is none.
    fn peek(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<Progress> {
        let Tls::Peeking(hello) = &mut self.tls else { return None };
        let mut server_name: Option<Rc<str>> = None;
        let route = match (&self.context.service, hello.read()) {
            (_, Err(HelloError::Partial)) => {
                let progress = await_hello(hello, self.deadline, client, cx);
                return Some(progress);
            }
            (_, Err(HelloError::Malformed)) if !hello.is_tls() => Err((TlsFault::NotTls, None)),
            (_, Err(HelloError::Malformed)) => Err((TlsFault::Malformed, Some(DECODE_ERROR))),
            (Service::ProxyByName(routes), Ok(hello)) => {
                server_name = hello.server_name.map(Rc::from);
                routes.find(server_name.as_deref()).ok_or((TlsFault::NoRoute, Some(UNRECOGNIZED_NAME)))
            }
            (_, Ok(_)) => Err((TlsFault::Internal, None)),
        };
        self.tls = match route {
            Ok(route) => {
                tracing::debug!(server_name = server_name.as_deref(), route = ?route.names, "route chosen by server name");
                let (route, opening) = (Rc::clone(route), mem::take(hello).into_bytes());
                Tls::Named(Named { route, server_name, opening })
            }
            Err((fault, alert)) => {
                if let Some(alert) = alert {
                    client.send_unencrypted(Chunk::owned(fatal(alert).to_vec()).into(), cx.ops);
                }
                Tls::Answering(Failure { fault, server_name, until: cx.now + LINGER })
            }
        };
        None
    }

    fn await_handshake(&self, client: &mut Transport, cx: &mut Context<'_>) -> Progress {
        if let Some(End::Failed(fault)) = client.input_end() {
            return Progress::Over(CloseReason::ClientLost(fault));
        }
        if let Some(fault) = client.send_fault() {
            return Progress::Over(CloseReason::ClientLost(fault));
        }
        if self.deadline.is_some_and(|deadline| deadline <= cx.now) {
            return Progress::Over(CloseReason::TlsFailed(TlsFault::TooSlow));
        }
        client.set_receiving(true, cx.ops);
        Progress::Wait
    }

    /// After a failed handshake: sends the answer, then the end, and discards what comes.
    fn finish(&mut self, failure: Failure, client: &mut Transport, cx: &mut Context<'_>) -> Progress {
        self.rest.clear();
        let is_lingering = matches!(self.tls, Tls::Lingering(_));
        // Encrypted, sending has failed with the handshake.
        let is_lost = !client.is_encrypted() && client.send_fault().is_some();
        if failure.until <= cx.now || is_lost || is_lingering && client.has_input_ended() {
            return Progress::Over(CloseReason::TlsFailed(failure.fault));
        }
        if !is_lingering && client.is_sending_at_rest() {
            self.tls = Tls::Lingering(failure);
            client.shutdown(cx.ops);
        }
        client.set_receiving(true, cx.ops);
        Progress::Wait
    }

    /// Whether a handshake is still to come, is in progress, or has failed and is being answered.
    pub(super) const fn is_handshaking(&self) -> bool {
        !matches!(self.tls, Tls::Named(_) | Tls::Over)
    }

    /// When to pump at the latest.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match &self.tls {
            Tls::Answering(failure) | Tls::Lingering(failure) => Some(failure.until),
            Tls::NotBegun | Tls::Shaking | Tls::Peeking(_) | Tls::Named(_) | Tls::Over => self.deadline,
        }
    }

    /// Whether the client's connection is closed and nothing is in flight.
    pub(super) fn is_closed(&self, client: &Transport) -> bool {
        client.is_closed() && self.local != Local::Asking
    }

    /// Bytes of buffer memory held.
    pub(super) fn memory(&self) -> usize {
        let head = match &self.header {
            Header::Reading(head) => head.capacity(),
            Header::Read(_) | Header::Malformed => 0,
        };
        let hello = match &self.tls {
            Tls::Peeking(hello) => hello.memory(),
            Tls::Named(named) => named.opening.capacity(),
            Tls::NotBegun | Tls::Shaking | Tls::Over | Tls::Answering(_) | Tls::Lingering(_) => 0,
        };
        head + hello + self.rest.iter().map(Buffer::capacity).sum::<usize>()
    }

    /// The upper bound of `memory`: the header, a ClientHello, and as much as a service may hold.
    pub(super) const fn memory_max(limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + HEADER_BYTES_MAX + HelloReader::MEMORY_MAX
    }

    /// The name in a ClientHello that is passed on, for logs.
    pub(super) fn server_name(&self) -> Option<&str> {
        match &self.tls {
            Tls::Named(named) => named.server_name.as_deref(),
            Tls::Answering(failure) | Tls::Lingering(failure) => failure.server_name.as_deref(),
            Tls::NotBegun | Tls::Shaking | Tls::Peeking(_) | Tls::Over => None,
        }
    }
}

/// What there is to do while a ClientHello is incomplete.
fn await_hello(hello: &HelloReader, deadline: Option<Time>, client: &mut Transport, cx: &mut Context<'_>) -> Progress {
    match client.input_end() {
        Some(End::Failed(fault)) => Progress::Over(CloseReason::ClientLost(fault)),
        // A port check.
        Some(End::Eof) if hello.bytes().is_empty() => Progress::Over(CloseReason::Done),
        Some(End::Eof) => Progress::Over(CloseReason::TlsFailed(TlsFault::Abandoned)),
        None if deadline.is_some_and(|deadline| deadline <= cx.now) => {
            Progress::Over(CloseReason::TlsFailed(TlsFault::TooSlow))
        }
        None => {
            client.set_receiving(true, cx.ops);
            Progress::Wait
        }
    }
}

/// Writes what a handshake has settled to the log.
fn log(info: &HandshakeInfo<'_>) {
    tracing::debug!(
        version = info.version,
        cipher_suite = info.cipher_suite,
        protocol = info.protocol.map(|protocol| tracing::field::display(protocol.escape_ascii())),
        server_name = info.server_name,
        client_subject = info.peer_certificates.first().map(|certificate| Subject::of(certificate).text.into_string()),
        is_resumed = info.is_resumed,
        "TLS handshake complete"
    );
}

/// The name of HTTP/2 over TLS in ALPN (RFC 9113, 3.2).
const HTTP2: &[u8] = b"h2";

/// Alerts (RFC 8446, 6.2).
const DECODE_ERROR: u8 = 50;
const UNRECOGNIZED_NAME: u8 = 112;

/// A record with a fatal alert, in plain text.
const fn fatal(alert: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Pool, PoolConfig};

    fn buffer(pool: &Pool, bytes: &[u8]) -> Buffer {
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, ()>(bytes.len())
        };
        pool.filled(SizeClass::Small, fill).unwrap().unwrap()
    }

    fn setup(h2c: bool) -> Option<Setup> {
        let context = Rc::new(ListenerContext { h2c, ..Service::Echo.into() });
        Setup::of(&context, Time::from_nanos(1), &Limits::default())
    }

    /// What is known after these pieces, and the bytes that the service gets.
    fn after(pieces: &[&[u8]]) -> (Option<Protocol>, Vec<u8>) {
        let pool = Pool::new(PoolConfig::default());
        let mut setup = setup(true).unwrap();
        for piece in pieces {
            setup.on_received(buffer(&pool, piece));
            setup.join();
            assert_eq!(setup.rest.len(), 1, "small pieces share a buffer");
        }
        (setup.protocol(), setup.rest.iter().flat_map(|buffer| buffer.to_vec()).collect())
    }

    #[test]
    fn the_preface_is_recognised_however_it_is_cut() {
        for cut in 1..PREFACE.len() {
            let (first, second) = PREFACE.split_at(cut);
            assert_eq!(after(&[first]), (None, first.to_vec()), "{cut}");
            assert_eq!(after(&[first, second]), (Some(Protocol::Http2), PREFACE.to_vec()), "{cut}");
        }
        let bytes: Vec<&[u8]> = PREFACE.chunks(1).collect();
        assert_eq!(after(&bytes), (Some(Protocol::Http2), PREFACE.to_vec()));
        let more = [PREFACE, &[0; 9][..]].concat();
        assert_eq!(after(&[&more]), (Some(Protocol::Http2), more.clone()));
        assert_eq!(after(&[]), (None, Vec::new()));
    }

    #[test]
    fn the_first_other_byte_is_of_http_1() {
        for at in 0..PREFACE.len() {
            let mut other = PREFACE[..=at].to_vec();
            other[at] ^= 0x20;
            assert_eq!(after(&[&other]), (Some(Protocol::Http1), other.clone()), "{at}");
            if at > 0 {
                let (first, second) = other.split_at(at);
                assert_eq!(after(&[first, second]), (Some(Protocol::Http1), other.clone()), "{at}");
            }
        }
    }

    #[test]
    fn a_plain_listener_without_http2_needs_no_setup() {
        assert!(setup(false).is_none());
    }
}
