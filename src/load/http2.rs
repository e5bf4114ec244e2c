//! HTTP/2 on a load connection: requests as streams, at the same time.

use slab::Slab;

use super::body::BodyCheck;
use super::exchange::{Judge, Prepared, Response, Sent};
use super::tally::ErrorKind;
use crate::buffer::{Chain, Inbox};
use crate::client::{Http2Client, Http2ClientLimits, Http2Error, Http2Event};
use crate::driver::Time;

/// The protocol of one connection.
#[derive(Debug)]
pub struct Http2 {
    client: Http2Client,
    /// The requests in progress, by their tags.
    streams: Slab<Stream>,
}

#[derive(Debug)]
struct Stream {
    sent: Sent,
    /// From its head on.
    response: Option<Response>,
}

impl Http2 {
    /// A connection with up to `depth` requests in progress. Appends what a client sends first to `out`.
    pub fn new(depth: usize, out: &mut Chain) -> Self {
        let streams_max = u32::try_from(depth).unwrap_or(u32::MAX);
        let limits = Http2ClientLimits { streams_max, ..Http2ClientLimits::default() };
        Self { client: Http2Client::new(limits, out), streams: Slab::new() }
    }

    /// Whether another request may be sent.
    pub fn may_request(&self) -> bool {
        self.client.may_request()
    }

    /// Appends a request to `out`.
    pub fn request(&mut self, prepared: &Prepared, sent: Sent, out: &mut Chain) {
        let tag = self.streams.insert(Stream { sent, response: None });
        // A slab's keys are dense, and there are at most `streams_max` of them.
        self.client.request(&prepared.targets[sent.target].http2, tag as u32, out);
    }

    /// Appends more of the bodies of requests, once everything before has been sent.
    pub fn send_bodies(&mut self, out: &mut Chain) {
        self.client.send_bodies(out);
    }

    /// Reads all there is.
    ///
    /// # Errors
    /// The connection is of no further use.
    pub fn read(
        &mut self,
        inbox: &mut Inbox,
        out: &mut Chain,
        prepared: &mut Prepared,
        judge: &mut Judge<'_>,
    ) -> Result<(), ErrorKind> {
        loop {
            match self.client.read(inbox, out).map_err(kind_of)? {
                Http2Event::Wait => return Ok(()),
                Http2Event::Head { tag, status, .. } => {
                    if let Some(stream) = self.streams.get_mut(tag as usize) {
                        let reference = &prepared.targets[stream.sent.target].reference;
                        let body = BodyCheck::new(judge.expect, reference);
                        stream.response = Some(Response { status: status.code(), body });
                    }
                }
                Http2Event::Data { tag, bytes } => {
                    if let Some(Stream { sent, response: Some(response) }) = self.streams.get_mut(tag as usize) {
                        let reference = &prepared.targets[sent.target].reference;
                        response.body.on_data(&inbox.bytes()[..bytes], reference);
                    }
                    inbox.consume(bytes);
                }
                Http2Event::End { tag } => {
                    if let Some(Stream { sent, response: Some(response) }) = self.streams.try_remove(tag as usize) {
                        judge.on_response(sent, response, &mut prepared.targets[sent.target].reference);
                    }
                }
                Http2Event::Reset { tag, .. } => {
                    let kind = if self.has_begun(tag) { ErrorKind::ShortBody } else { ErrorKind::Reset };
                    self.fail(tag, kind, judge);
                }
                Http2Event::Refused { tag } => self.fail(tag, ErrorKind::Reset, judge),
                Http2Event::Malformed { tag, .. } => self.fail(tag, ErrorKind::Malformed, judge),
            }
        }
    }

    fn has_begun(&self, tag: u32) -> bool {
        self.streams.get(tag as usize).is_some_and(|stream| stream.response.is_some())
    }

    fn fail(&mut self, tag: u32, kind: ErrorKind, judge: &mut Judge<'_>) {
        if let Some(stream) = self.streams.try_remove(tag as usize) {
            judge.on_error(stream.sent, kind);
        }
    }

    /// The server has ended the connection.
    ///
    /// # Errors
    /// A response is missing, or a part of it.
    pub fn on_end(&mut self) -> Result<(), ErrorKind> {
        self.client.on_end().map_err(kind_of)
    }

    /// Whether no further request can be sent, and none is in progress.
    pub fn is_over(&self) -> bool {
        self.client.is_over()
    }

    /// Whether a response has begun that is not complete.
    pub fn is_in_response(&self) -> bool {
        self.streams.iter().any(|(_, stream)| stream.response.is_some())
    }

    /// The requests in progress.
    pub fn sent(&self) -> impl Iterator<Item = Sent> {
        self.streams.iter().map(|(_, stream)| stream.sent)
    }

    /// When the oldest request in progress was sent.
    pub fn oldest(&self) -> Option<Time> {
        self.sent().map(|sent| sent.at).min()
    }

    /// Gives up the requests that were sent before this.
    pub fn give_up(&mut self, before: Time, judge: &mut Judge<'_>, out: &mut Chain) {
        let late: Vec<_> =
            self.streams.iter().filter(|(_, stream)| stream.sent.at <= before).map(|(tag, _)| tag as u32).collect();
        for tag in late {
            self.client.reset(tag, out);
            self.fail(tag, ErrorKind::Timeout, judge);
        }
    }
}

/// The kind of a protocol error.
const fn kind_of(error: Http2Error) -> ErrorKind {
    match error {
        Http2Error::Connection(_) => ErrorKind::Malformed,
        Http2Error::GoAway(_) | Http2Error::Truncated => ErrorKind::Reset,
    }
}
