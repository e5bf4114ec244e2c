//! Setup: the phase of a session before its service, in which it finds out what its connection is.
//! Reads the PROXY protocol header, then looks up the local address.
//!
//! ```text
//!              PROXY protocol header        local address
//!   Reading ─────────────────────► Asking ───────────────► ready: the service begins
//!      └── malformed, end of input, timeout: over
//! ```
//!
//! The header is read only if the listener expects one. The local address is looked up only if a
//! PROXY protocol header to an upstream needs it. Bytes after the header are kept for the service.
//! The session decides whether it trusts the header.
//!
//! A TLS handshake would be a step here, after the header and before the service: it decides which
//! protocol follows.

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{CloseReason, Context, ListenerContext, Slot};
use crate::buffer::Buffer;
use crate::driver::{Op, Outcome, Time};
use crate::session::Limits;
use crate::tcp::End;
use crate::tcp::proxy_header::{self, Ends, HEADER_BYTES_MAX, Parsed};
use crate::transport::Transport;

/// The setup of one connection.
#[derive(Debug)]
pub(super) struct Setup {
    context: Rc<ListenerContext>,
    header: Header,
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
    /// The addresses in the header; `None` if it has none, or if no header is expected.
    Read(Option<Ends>),
    Malformed,
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
    /// The addresses in the PROXY protocol header.
    pub(super) ends: Option<Ends>,
    /// The local address, if it was looked up and there is one.
    pub(super) local: Option<SocketAddr>,
    /// Bytes received so far, for the service.
    pub(super) received: Vec<Buffer>,
    /// When the server began to stop, if it has.
    pub(super) draining_since: Option<Time>,
}

impl Setup {
    /// `None`: no setup is needed.
    pub(super) fn of(context: &Rc<ListenerContext>, now: Time, limits: &Limits) -> Option<Self> {
        let header = match context.expects_proxy_header {
            true => Header::Reading(Vec::new()),
            false if context.service.wants_local_address() => Header::Read(None),
            false => return None,
        };
        let timeout = limits.http.head_timeout;
        Some(Self {
            context: Rc::clone(context),
            header,
            local: Local::NotAsked,
            rest: Vec::new(),
            deadline: (!timeout.is_zero()).then(|| now + timeout),
            draining_since: None,
        })
    }

    /// Takes bytes from the client.
    pub(super) fn on_received(&mut self, mut buffer: Buffer) {
        let Header::Reading(head) = &mut self.header else { return self.rest.push(buffer) };
        let before = head.len();
        head.extend(buffer.iter().take(HEADER_BYTES_MAX - before));
        match proxy_header::parse(head) {
            Ok(Parsed::Partial) => {}
            Ok(Parsed::Complete { ends, length }) => {
                buffer.advance(length - before);
                self.header = Header::Read(ends);
                if !buffer.is_empty() {
                    self.rest.push(buffer);
                }
            }
            Err(_) => self.header = Header::Malformed,
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
        let ends = match &self.header {
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
            Header::Read(ends) => *ends,
        };
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
        Progress::Ready(SetupResult {
            context: Rc::clone(&self.context),
            ends,
            local,
            received: mem::take(&mut self.rest),
            draining_since: self.draining_since,
        })
    }

    /// When to pump at the latest.
    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
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
        head + self.rest.iter().map(Buffer::capacity).sum::<usize>()
    }

    /// The upper bound of `memory`: the header, and as much as a service may hold.
    pub(super) const fn memory_max(limits: &Limits) -> usize {
        2 * limits.pipe_bytes_max + HEADER_BYTES_MAX
    }
}
