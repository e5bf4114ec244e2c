//! Sends a text or a file to each client, then closes the connection.
//!
//! ```text
//!           root folder         file open         all sent, FIN sent       end of input, or 2 s
//!   Start ──► Finding ──► Opening ─────► Sending ──────────────► Lingering ────────────────────► over
//!     └── text ───────────────────────────►▲   └─ file lost, client lost: over
//! ```
//!
//! If the folder or the file cannot be opened, nothing is sent.
//!
//! A close with unread bytes in the receive buffer is a reset, and the reset can overtake the last
//! data that was sent. So the sender lingers: it reads and discards until the client closes its
//! side.

use std::ffi::CString;
use std::time::Duration;

use super::{CloseReason, Context, Slot, Task};
use crate::buffer::{Buffer, Chain};
use crate::driver::{Fault, FileKind, Outcome, Time};
use crate::file::FileHandle;
use crate::file::store::{Inquiry, Lookup, RootPath};
use crate::session::Limits;
use crate::transport::Transport;
use crate::waiter::{SessionKey, Waiter};

/// How long to wait for the client to close its side after the FIN.
const LINGER: Duration = Duration::from_secs(2);

/// What is sent to each client.
#[derive(Clone, Debug)]
pub enum Content {
    /// A constant text.
    Text(&'static [u8]),
    /// The content of a file.
    File {
        /// The root folder. The path cannot leave it.
        root_path: RootPath,
        /// The path below the root folder.
        path: CString,
    },
    /// Nothing: the root folder could not be opened when the server started.
    Refused(Fault),
}

#[derive(Debug)]
pub(super) struct FileSender {
    content: Content,
    file: FileHandle,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    /// The store looks up the root folder. A result older than `since` is not used.
    Finding {
        since: Time,
    },
    Opening,
    /// The writer sends the content, then the FIN.
    Sending,
    Lingering {
        until: Time,
    },
}

impl FileSender {
    pub(super) const fn new(session: SessionKey, content: Content) -> Self {
        Self { content, file: FileHandle::new(Slot::File.token(session)), state: State::Start }
    }

    fn start(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Result<State, CloseReason> {
        match &self.content {
            Content::Text(text) => {
                let chain = Chain::from(*text);
                if !chain.is_empty() && client.can_send() {
                    client.send(chain, cx.ops);
                }
                Ok(State::Sending)
            }
            Content::File { .. } => Ok(State::Finding { since: cx.now }),
            Content::Refused(fault) => Err(CloseReason::FileRefused(*fault)),
        }
    }

    /// Whether something can be sent, or never can. Over TLS, session tickets may still be on their way.
    fn may_begin(client: &Transport) -> bool {
        client.can_send() || client.send_fault().is_some()
    }

    /// Opens the file once the root folder is known.
    fn open(&mut self, since: Time, cx: &mut Context<'_>) -> Result<State, CloseReason> {
        let Content::File { root_path, path } = &self.content else { return Ok(State::Sending) };
        let inquiry = Inquiry { waiter: Waiter::only_stream_of(cx.session), now: cx.now, since };
        match cx.store.root(root_path, inquiry, cx.ops) {
            Lookup::Found(Ok(root)) => {
                self.file.open(root, path.clone(), cx.ops);
                Ok(State::Opening)
            }
            Lookup::Found(Err(fault)) => Err(CloseReason::FileRefused(fault)),
            Lookup::Pending => Ok(State::Finding { since }),
        }
    }

    /// Starts to send the file once it is open.
    fn send_file(&self, client: &mut Transport, cx: &mut Context<'_>) -> Result<State, CloseReason> {
        match self.file.opened() {
            None => Ok(State::Opening),
            Some(Err(fault)) => Err(CloseReason::FileRefused(fault)),
            Some(Ok((file, info))) => match info.kind {
                FileKind::Directory => Err(CloseReason::FileRefused(Fault::Os(libc::EISDIR))),
                FileKind::Special => Err(CloseReason::FileRefused(Fault::Os(libc::EINVAL))),
                FileKind::Regular => {
                    if info.size > 0 && client.can_send() {
                        client.send_file(Chain::new(), file, 0, info.size, cx.ops);
                    }
                    Ok(State::Sending)
                }
            },
        }
    }
}

impl Task for FileSender {
    fn name(&self) -> &'static str {
        match self.content {
            Content::Text(_) => "send_text",
            Content::File { .. } | Content::Refused(_) => "send_file",
        }
    }

    fn on_received(&mut self, buffer: Buffer) {
        drop(buffer);
    }

    fn on_outcome(&mut self, _slot: Slot, outcome: Outcome, _now: Time) {
        self.file.on_outcome(outcome);
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        if self.state == State::Start && Self::may_begin(client) {
            match self.start(client, cx) {
                Ok(state) => self.state = state,
                Err(close_reason) => return Some(close_reason),
            }
        }
        if let State::Finding { since } = self.state {
            match self.open(since, cx) {
                Ok(state) => self.state = state,
                Err(close_reason) => return Some(close_reason),
            }
        }
        if self.state == State::Opening && Self::may_begin(client) {
            match self.send_file(client, cx) {
                Ok(state) => self.state = state,
                Err(close_reason) => return Some(close_reason),
            }
        }
        if self.state == State::Sending {
            if client.can_send() {
                client.shutdown(cx.ops);
            } else if client.is_shut_down() {
                self.state = State::Lingering { until: cx.now + LINGER };
            } else if let Some(fault) = client.send_fault() {
                return Some(match fault {
                    Fault::FileTruncated => CloseReason::FileLost(fault),
                    Fault::Os(_) | Fault::RootLost(_) | Fault::Resolver(_) | Fault::Tls(_) => {
                        CloseReason::ClientLost(fault)
                    }
                });
            }
        }
        if let State::Lingering { until } = self.state {
            client.set_receiving(true, cx.ops);
            if client.input_end().is_some() || until <= cx.now {
                return Some(CloseReason::Done);
            }
        }
        None
    }

    fn deadline(&self, _limits: &Limits) -> Option<Time> {
        match self.state {
            State::Lingering { until } => Some(until),
            State::Start | State::Finding { .. } | State::Opening | State::Sending => None,
        }
    }

    fn close(&mut self, _ending: CloseReason, client: &Transport, cx: &mut Context<'_>) -> bool {
        // The kernel may read the file while a send is in flight.
        if client.is_closed() {
            self.file.close(cx.ops);
        }
        self.file.is_closed()
    }

    fn memory(&self) -> usize {
        0
    }
}
