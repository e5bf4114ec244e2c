//! HTTP/1.1 on a load connection: requests one after another, or pipelined.

use std::collections::VecDeque;

use super::body::BodyCheck;
use super::exchange::{Judge, Prepared, Response, Sent};
use super::tally::ErrorKind;
use crate::buffer::{Chain, Inbox};
use crate::client::{AtEnd, ClientConnection, ClientError, ClientLimits, Event, Room};
use crate::driver::Time;
use crate::http::HeadLimits;

/// The protocol of one connection.
#[derive(Debug)]
pub struct Http1 {
    client: ClientConnection,
    /// In the order of the requests.
    sent: VecDeque<Sent>,
    /// The response to the first of them, from its head on.
    response: Option<Response>,
}

impl Http1 {
    /// A connection with up to `depth` requests in progress.
    pub fn new(depth: usize) -> Self {
        let limits = ClientLimits { pipeline_max: depth, ..ClientLimits::default() };
        Self { client: ClientConnection::new(limits), sent: VecDeque::new(), response: None }
    }

    /// Whether another request may be sent.
    pub fn may_request(&self) -> bool {
        self.client.may_request()
    }

    /// Appends a request to `out`.
    pub fn request(&mut self, prepared: &Prepared, sent: Sent, out: &mut Chain) {
        let target = &prepared.targets[sent.target];
        self.client.request(&target.http1, out);
        if let Some(body) = &target.body {
            self.client.send_data(body.clone(), out);
        }
        self.sent.push_back(sent);
    }

    /// Reads all there is.
    ///
    /// # Errors
    /// The connection is of no further use.
    pub fn read(&mut self, inbox: &mut Inbox, prepared: &mut Prepared, judge: &mut Judge<'_>) -> Result<(), ErrorKind> {
        let (room, limits) = (Room { takes_head: true, data_bytes: usize::MAX }, HeadLimits::default());
        loop {
            let event = self.client.find(inbox, room, &limits, |head| head.status.code()).map_err(kind_of)?;
            let Some(sent) = self.sent.front().copied() else { return Ok(()) };
            let target = &mut prepared.targets[sent.target];
            match event {
                Event::Wait => return Ok(()),
                Event::Interim(_) => {}
                Event::Head(status) => {
                    self.response = Some(Response { status, body: BodyCheck::new(judge.expect, &target.reference) });
                }
                Event::Data(bytes) => {
                    if let Some(response) = &mut self.response {
                        response.body.on_data(&inbox.bytes()[..bytes], &target.reference);
                    }
                    inbox.consume(bytes);
                }
                Event::End(_) => self.complete(prepared, judge),
            }
        }
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// A response is missing, or a part of it.
    pub fn on_end(&mut self, inbox: &Inbox, prepared: &mut Prepared, judge: &mut Judge<'_>) -> Result<(), ErrorKind> {
        match self.client.on_end(inbox).map_err(kind_of)? {
            AtEnd::Complete => self.complete(prepared, judge),
            AtEnd::Idle => {}
        }
        // What was pipelined behind a last response is never answered.
        if self.sent.is_empty() { Ok(()) } else { Err(ErrorKind::Reset) }
    }

    fn complete(&mut self, prepared: &mut Prepared, judge: &mut Judge<'_>) {
        if let (Some(sent), Some(response)) = (self.sent.pop_front(), self.response.take()) {
            judge.on_response(sent, response, &mut prepared.targets[sent.target].reference);
        }
    }

    /// Whether a response has begun that is not complete.
    pub const fn is_in_response(&self) -> bool {
        self.response.is_some()
    }

    /// Whether no further request can be sent, and none is in progress.
    pub fn is_over(&self) -> bool {
        self.client.is_over() || (self.sent.is_empty() && !self.client.may_request())
    }

    /// The requests in progress, the oldest first.
    pub fn sent(&self) -> impl Iterator<Item = Sent> {
        self.sent.iter().copied()
    }

    /// When the oldest request in progress was sent.
    pub fn oldest(&self) -> Option<Time> {
        self.sent.front().map(|sent| sent.at)
    }
}

/// The kind of a protocol error.
const fn kind_of(error: ClientError) -> ErrorKind {
    match error {
        ClientError::NoResponse { .. } => ErrorKind::Reset,
        ClientError::Truncated => ErrorKind::ShortBody,
        ClientError::Head(_)
        | ClientError::Body(_)
        | ClientError::Interim
        | ClientError::Upgrade
        | ClientError::EarlyUpgrade
        | ClientError::Unrequested => ErrorKind::Malformed,
    }
}
