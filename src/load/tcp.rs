//! Bytes without HTTP on a load connection.

use super::body::{BodyCheck, Reference};
use super::exchange::{Judge, Response, Sent};
use super::plan::TcpMode;
use super::tally::ErrorKind;
use crate::buffer::{Chain, Chunk, Inbox};
use crate::driver::Time;

/// The protocol of one connection.
#[derive(Debug)]
pub struct Tcp {
    mode: TcpMode,
    payload: Chunk,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A request may be sent.
    Ready,
    /// The bytes were sent, and their echo is expected.
    Echoed { sent: Sent, count: usize },
    /// The bytes were sent and the sending side is to be ended; the rest is read to its end.
    Answered { sent: Sent, body: BodyCheck },
    /// The bytes were given to the kernel.
    Streamed { sent: Sent },
    /// There was one request, or the connection is of no further use.
    Over,
}

impl Tcp {
    /// A connection that was just made.
    pub const fn new(mode: TcpMode, payload: Chunk) -> Self {
        Self { mode, payload, state: State::Ready }
    }

    /// Whether another request may be sent.
    pub const fn may_request(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Appends a request to `out`.
    pub fn request(&mut self, sent: Sent, judge: &mut Judge<'_>, out: &mut Chain) {
        self.state = match self.mode {
            TcpMode::Echo => State::Echoed { sent, count: 0 },
            TcpMode::Request => State::Answered { sent, body: BodyCheck::new(judge.expect, &Reference::default()) },
            TcpMode::Stream => State::Streamed { sent },
            TcpMode::Connect => {
                judge.on_success(sent);
                State::Over
            }
        };
        if self.mode != TcpMode::Connect {
            out.push(self.payload.clone());
        }
    }

    /// Whether a connection alone is a request.
    pub fn is_only_connecting(&self) -> bool {
        self.mode == TcpMode::Connect
    }

    /// Whether the sending side is to be ended once everything is sent.
    pub const fn ends_sending(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    /// The kernel has taken everything.
    pub fn on_all_sent(&mut self, judge: &mut Judge<'_>) {
        if let State::Streamed { sent } = self.state {
            judge.on_success(sent);
            self.state = State::Ready;
        }
    }

    /// Reads all there is.
    ///
    /// # Errors
    /// The connection is of no further use.
    pub fn read(&mut self, inbox: &mut Inbox, judge: &mut Judge<'_>) -> Result<(), ErrorKind> {
        while !inbox.is_empty() {
            let data = inbox.bytes();
            let length = data.len();
            match &mut self.state {
                State::Ready | State::Streamed { .. } if self.mode == TcpMode::Stream => {}
                State::Ready | State::Streamed { .. } | State::Over => return Err(ErrorKind::WrongBody),
                State::Answered { body, .. } => body.on_data(data, &Reference::default()),
                State::Echoed { sent, count } => {
                    let sent = *sent;
                    if self.payload.get(*count..*count + length) != Some(data) {
                        return Err(ErrorKind::WrongBody);
                    }
                    *count += length;
                    if *count == self.payload.len() {
                        judge.on_success(sent);
                        self.state = State::Ready;
                    }
                }
            }
            inbox.consume(length);
        }
        Ok(())
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// A response is missing, or a part of it.
    pub fn on_end(&mut self, judge: &mut Judge<'_>) -> Result<(), ErrorKind> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Ready | State::Over => Ok(()),
            State::Echoed { sent, count } => {
                self.state = State::Echoed { sent, count };
                Err(if count > 0 { ErrorKind::ShortBody } else { ErrorKind::Reset })
            }
            State::Streamed { sent } => {
                self.state = State::Streamed { sent };
                Err(ErrorKind::Reset)
            }
            State::Answered { sent, body } => {
                judge.on_response(sent, Response { status: 0, body }, &mut Reference::default());
                Ok(())
            }
        }
    }

    /// Whether no further request can be sent, and none is in progress.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// The request in progress.
    pub fn sent(&self) -> Option<Sent> {
        match &self.state {
            State::Echoed { sent, .. } | State::Answered { sent, .. } | State::Streamed { sent } => Some(*sent),
            State::Ready | State::Over => None,
        }
    }

    /// When it was sent.
    pub fn oldest(&self) -> Option<Time> {
        self.sent().map(|sent| sent.at)
    }
}
