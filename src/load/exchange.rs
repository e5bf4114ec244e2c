//! What the protocols of a load connection have in common: requests in progress, and what becomes of
//! them.

use std::sync::Arc;

use super::body::{BodyCheck, Reference};
use super::plan::{Expect, HttpTarget};
use super::tally::{ErrorKind, Tally, Times};
use crate::buffer::Chunk;
use crate::client::{Http2Request, Request};
use crate::driver::Time;
use crate::http::{BodyFraming, Method};

/// A request that was sent and has no complete response.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Which of the origin's requests.
    pub target: usize,
    /// When it should have been sent.
    pub intended: Time,
    /// When it was.
    pub at: Time,
}

/// A response, while it arrives.
#[derive(Debug)]
pub struct Response {
    /// Its status; 0 without HTTP.
    pub status: u16,
    /// Its body.
    pub body: BodyCheck,
}

/// What is asked of an origin, as one thread has prepared it.
#[derive(Debug)]
pub struct Prepared {
    /// The requests with their bodies; empty without HTTP.
    pub targets: Vec<PreparedTarget>,
    /// Chooses between them.
    turns: Turns,
}

/// One request, encoded.
#[derive(Debug)]
pub struct PreparedTarget {
    /// Its head for HTTP/1.1.
    pub http1: Request,
    /// It for HTTP/2, with its body.
    pub http2: Http2Request,
    /// Its body, for HTTP/1.1.
    pub body: Option<Chunk>,
    /// The body of its first response.
    pub reference: Reference,
}

impl Prepared {
    /// Encodes these requests. `closes`: each is the last on its connection.
    pub fn new(targets: &[HttpTarget], closes: bool) -> Self {
        let turns = Turns::new(targets.iter().map(|target| target.weight));
        Self { targets: targets.iter().map(|target| PreparedTarget::new(target, closes)).collect(), turns }
    }

    /// Which request is next.
    pub fn next(&mut self) -> usize {
        self.turns.next()
    }
}

impl PreparedTarget {
    fn new(target: &HttpTarget, closes: bool) -> Self {
        let method = Method::from_token(target.method.as_bytes()).unwrap_or(Method::Get);
        let mut builder = Request::builder(method, &target.path, &target.authority);
        let mut http2 = Http2Request::builder(method, target.scheme, &target.authority, &target.path);
        for (name, value) in &target.fields {
            builder = builder.field(name, value);
            http2 = http2.field(name, value);
        }
        if let Some(body) = &target.body {
            builder = builder.body(BodyFraming::Length(body.len() as u64));
            http2 = http2.body(Chunk::shared(Arc::clone(body)));
        }
        if closes {
            builder = builder.close();
        }
        let body = target.body.as_ref().filter(|body| !body.is_empty()).map(|body| Chunk::shared(Arc::clone(body)));
        Self { http1: builder.end(), http2: http2.end(), body, reference: Reference::default() }
    }
}

/// What a connection needs to count what becomes of its requests.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The present time.
    pub now: Time,
    /// Responses to requests that were to be sent before this are not counted.
    pub counts_from: Time,
    /// What a correct response is.
    pub expect: &'a Expect,
    /// Where it is counted; `None`: nowhere.
    pub tally: Option<&'a mut Tally>,
}

impl Judge<'_> {
    /// A response is complete.
    pub fn on_response(&mut self, sent: Sent, response: Response, reference: &mut Reference) {
        let Response { status, body } = response;
        let wrong = body.end(self.expect, reference);
        let error = if status == 0 || self.expect.takes(status) { wrong } else { Some(ErrorKind::Status) };
        let times = Times { intended: sent.intended, sent: sent.at, done: self.now };
        if let Some(tally) = self.tally_of(sent) {
            tally.on_response(status, times, error);
        }
    }

    /// A request without HTTP has been answered as it should.
    pub fn on_success(&mut self, sent: Sent) {
        let times = Times { intended: sent.intended, sent: sent.at, done: self.now };
        if let Some(tally) = self.tally_of(sent) {
            tally.on_response(0, times, None);
        }
    }

    /// A request has failed.
    pub fn on_error(&mut self, sent: Sent, kind: ErrorKind) {
        let now = self.now;
        if let Some(tally) = self.tally_of(sent) {
            tally.on_error(kind, now);
        }
    }

    fn tally_of(&mut self, sent: Sent) -> Option<&mut Tally> {
        self.tally.as_deref_mut().filter(|_| sent.intended >= self.counts_from)
    }
}

/// Takes turns by weights, evenly spread (smooth weighted round robin).
#[derive(Debug)]
pub struct Turns {
    /// The weight of each, and its credit.
    entries: Vec<(i64, i64)>,
    sum: i64,
}

impl Turns {
    /// Turns of these weights; at least one of them.
    pub fn new(weights: impl Iterator<Item = u32>) -> Self {
        let entries: Vec<_> = weights.map(|weight| (i64::from(weight), 0)).collect();
        let sum = entries.iter().map(|(weight, _)| weight).sum();
        Self { entries, sum }
    }

    /// Whose turn it is.
    pub fn next(&mut self) -> usize {
        if self.entries.len() < 2 {
            return 0;
        }
        let mut best = 0;
        for index in 0..self.entries.len() {
            let (weight, credit) = &mut self.entries[index];
            *credit += *weight;
            if self.entries[index].1 > self.entries[best].1 {
                best = index;
            }
        }
        self.entries[best].1 -= self.sum;
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights_and_are_spread() {
        let mut turns = Turns::new([5, 1, 1].into_iter());
        let taken: Vec<_> = (0..14).map(|_| turns.next()).collect();
        assert_eq!(taken, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
        let mut alone = Turns::new([3].into_iter());
        assert_eq!((alone.next(), alone.next()), (0, 0));
    }
}
