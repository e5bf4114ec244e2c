//! Setup of a connection: reads the PROXY protocol header, then looks up the local address.
//!
//! ```text
//!              PROXY protocol header        local address
//!   Reading ─────────────────────► Asking ───────────────► setup result
//!      └── malformed, end of input, timeout: over
//! ```
//!
//! The header is read only if the listener expects one. The local address is looked up only if a
//! PROXY protocol header to an upstream needs it. Bytes after the header are kept for the task that
//! follows. The session decides whether it trusts the header.

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{CloseReason, Context, ListenerContext, Slot, Task};
use crate::buffer::Buffer;
use crate::driver::{Op, Outcome, Time};
use crate::session::Limits;
use crate::tcp::End;
use crate::tcp::proxy_header::{self, Ends, HEADER_BYTES_MAX, Parsed};
use crate::transport::Transport;

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

/// What the setup of a connection has found.
#[derive(Debug)]
pub(super) struct SetupResult {
    pub(super) context: Rc<ListenerContext>,
    /// The addresses in the PROXY protocol header.
    pub(super) ends: Option<Ends>,
    /// The local address, if it was looked up and there is one.
    pub(super) local: Option<SocketAddr>,
    /// Bytes received so far, for the next task.
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

    fn read_header(&mut self, mut buffer: Buffer) {
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
}

impl Task for Setup {
    fn name(&self) -> &'static str {
        "setup"
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.read_header(buffer);
    }

    fn on_outcome(&mut self, slot: Slot, outcome: Outcome, _now: Time) {
        debug_assert_eq!(slot, Slot::LocalAddress);
        self.local = match outcome {
            Outcome::Local(address) => Local::Known(address),
            // The client is gone: the next receive or send reports it.
            _ => Local::Known(None),
        };
    }

    fn drain(&mut self, now: Time) {
        self.draining_since = Some(now);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        match &self.header {
            Header::Malformed => return Some(CloseReason::NoProxyHeader),
            Header::Reading(head) => {
                match client.input_end() {
                    Some(End::Failed(fault)) => return Some(CloseReason::ClientLost(fault)),
                    // A port check: connects and closes without sending anything.
                    Some(End::Eof) if head.is_empty() => return Some(CloseReason::Done),
                    Some(End::Eof) => return Some(CloseReason::NoProxyHeader),
                    None if self.deadline.is_some_and(|deadline| deadline <= cx.now) => return Some(CloseReason::Idle),
                    None => client.set_receiving(true, cx.ops),
                }
            }
            Header::Read(_) => {
                if self.local == Local::NotAsked && self.context.service.wants_local_address() {
                    cx.ops.submit(Slot::LocalAddress.token(cx.session), Op::LocalAddress { socket: client.socket() });
                    self.local = Local::Asking;
                }
            }
        }
        None
    }

    fn setup_result(&mut self) -> Option<SetupResult> {
        let Header::Read(ends) = self.header else { return None };
        let local = match self.local {
            Local::Asking => return None,
            Local::NotAsked => None,
            Local::Known(address) => address,
        };
        Some(SetupResult {
            context: Rc::clone(&self.context),
            ends,
            local,
            received: mem::take(&mut self.rest),
            draining_since: self.draining_since,
        })
    }

    fn deadline(&self, _limits: &Limits) -> Option<Time> {
        self.deadline
    }

    fn close(&mut self, _ending: CloseReason, client: &Transport, _cx: &mut Context<'_>) -> bool {
        client.is_closed() && self.local != Local::Asking
    }

    fn memory(&self) -> usize {
        let head = match &self.header {
            Header::Reading(head) => head.capacity(),
            Header::Read(_) | Header::Malformed => 0,
        };
        head + self.rest.iter().map(Buffer::capacity).sum::<usize>()
    }
}
