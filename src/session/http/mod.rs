//! HTTP/1.1 over one connection: requests in, answers out, in order.
//!
//! ```text
//!              a head              the store has it            a body to send
//!   ┌─► Head ─────────► (answer) ───────────────────► outbox ────────────────► Sending ──┐
//!   │    │ │               │ ▲ asks the store                                            │
//!   │    │ │               ▼ │ it has come                                               │
//!   │    │ │             Asking                                                          │
//!   │    │ └ refused, last request, too late ──► Ending ──► Lingering ──► over           │
//!   │    └ idle for too long, end of input ───────▲                                      │
//!   └────── Discarding (the request's body, unread) ◄────────────────────────────────────┘
//! ```
//!
//! What is in the outbox is sent whenever the writer is idle, so the answers to requests that came
//! together leave together. A head stays in the inbox until it is answered: while the store looks
//! something up nothing of it is copied, and afterwards it is simply read again.

mod answer;
mod site;
mod welcome;

use std::rc::Rc;
use std::time::Duration;

pub use site::{Site, Source};
pub use welcome::WELCOME_PAGES;

use self::answer::{Answer, Body, Exchange};

use super::{Context, Ending, Task};
use crate::buffer::{Buffer, Chain, Chunk, Inbox};
use crate::config::Limits;
use crate::driver::{Fault, Time};
use crate::file::listing;
use crate::file::multipart::Piece;
use crate::file::store::{Content, Inquiry};
use crate::http::chunked::{self, SizeLine};
use crate::http::request::{self, Parsed};
use crate::http::{BodyFraming, BodyReader, Expect, Refusal, Status};
use crate::table::Key;
use crate::tcp::{Connection, End, Manner};
use crate::telemetry::access;

/// How long a client may be silent before it ends its side, after it was told that there is no more.
const LINGER: Duration = Duration::from_secs(2);

/// How long it may go on sending then. A close with bytes unread is a reset, which may reach the client before it has
/// read the answer (RFC 9112, 9.6).
const LINGER_MAX: Duration = Duration::from_secs(30);

/// How old a connection must be for a stop to take it for one that will never ask.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Answers that wait to be sent: no further request is read when there are so many bytes of them.
const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// Bytes that wait to be read, beyond a head that is not complete: receiving pauses when they hold so much memory.
const INBOX_BYTES_MAX: usize = 64 << 10;

/// One connection that speaks HTTP.
#[derive(Debug)]
pub struct Http {
    session: Key,
    site: Rc<Site>,
    inbox: Inbox,
    outbox: Chain,
    state: State,
    requests: u32,
    is_draining: bool,
    clock: Clock,
    deadline: Option<Time>,
}

#[derive(Debug)]
enum State {
    /// Waiting for a head, or for the rest of one.
    Head,
    /// The head is there; the store looks something up for it.
    Asking { since: Time, has_come: bool },
    /// A body is being sent that is not in memory as a whole.
    Sending { body: Body, next_piece: usize, after: After },
    /// The body of a request is read and thrown away.
    Discarding(Unwanted),
    /// What is in the outbox is the last.
    Ending,
    /// The client was told so; what it still sends is thrown away.
    Lingering { until: Time, latest: Time },
}

/// What comes after an answer.
#[derive(Debug)]
enum After {
    NextHead,
    Discard(Unwanted),
    End,
}

/// The rest of a body that nobody wants.
#[derive(Debug)]
struct Unwanted {
    body: BodyReader,
    /// What may still come of it, framing included.
    bytes_left: u64,
}

/// Since when the connection is in its present phase, or made progress in it.
#[derive(Debug)]
struct Clock {
    phase: Phase,
    since: Time,
    sent_bytes: u64,
}

/// What a connection may be too slow in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Beginning its first request.
    First,
    /// Beginning another.
    Idle,
    /// Finishing a head.
    Head,
    /// Sending a body that nobody wants: all of it, however steadily it drips.
    Body,
    /// Taking an answer.
    Answer,
    /// Nothing: it waits for us.
    Ours,
}

/// Whether a state has to wait for something to happen.
enum Step {
    Again,
    Wait,
}

impl Http {
    pub(super) fn new(session: Key, site: Rc<Site>, now: Time) -> Self {
        Self {
            session,
            site,
            inbox: Inbox::default(),
            outbox: Chain::new(),
            state: State::Head,
            requests: 0,
            is_draining: false,
            clock: Clock { phase: Phase::First, since: now, sent_bytes: 0 },
            deadline: None,
        }
    }

    fn step(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        match &mut self.state {
            State::Head | State::Asking { has_come: true, .. } => self.read_head(client, cx),
            State::Asking { has_come: false, .. } => Step::Wait,
            State::Sending { .. } => self.send_body(client, cx),
            State::Discarding(_) => self.discard(client),
            State::Ending => self.end(client, cx),
            State::Lingering { until, latest } => {
                if !self.inbox.is_empty() {
                    self.inbox.clear();
                    *until = (cx.now + LINGER).min(*latest);
                }
                Step::Wait
            }
        }
    }

    /// Answers the request whose head is in the inbox, if a whole one is.
    fn read_head(&mut self, client: &Connection, cx: &mut Context<'_>) -> Step {
        if self.outbox.len() >= OUTBOX_BYTES_MAX {
            return Step::Wait;
        }
        if self.inbox.is_empty() {
            if client.reader.end().is_some() || (self.is_draining && self.requests > 0) {
                self.state = State::Ending;
                return Step::Again;
            }
            return Step::Wait;
        }
        let since = match self.state {
            State::Asking { since, .. } => since,
            _ => cx.now,
        };
        match request::parse(self.inbox.bytes(), &cx.limits.http.head) {
            Ok(Parsed::Partial) => {
                if self.inbox.gather() {
                    return Step::Again;
                }
                if client.reader.end().is_some() {
                    // Half a request is none.
                    self.state = State::Ending;
                    return Step::Again;
                }
                Step::Wait
            }
            Ok(Parsed::Complete { head, length }) => {
                let requests = self.requests.saturating_add(1);
                let is_last = cx.limits.http.requests_max == requests || self.is_draining;
                let body = Unwanted::after_head(head.framing, cx.limits.http.discard_bytes_max);
                // A client that waits for a go-ahead gets an answer instead, and may or may not send its body now.
                let body_is_short = body.as_ref().is_none_or(Unwanted::may_be_short);
                let keep_alive =
                    head.keep_alive && !is_last && body_is_short && (body.is_none() || head.expect == Expect::None);
                let mut exchange = Exchange {
                    site: &self.site,
                    head: &head,
                    keep_alive,
                    inquiry: Inquiry { waiter: self.session, now: cx.now, since },
                    unix_seconds: cx.unix_seconds,
                    date: cx.date,
                    store: cx.store,
                    boundaries: cx.boundaries,
                    ops: cx.ops,
                };
                let Some(answer) = exchange.answer() else {
                    self.state = State::Asking { since, has_come: false };
                    return Step::Wait;
                };
                tracing::debug!(method = head.method.as_str(), status = answer.status.code(), "request");
                if let Some(log) = &self.site.access {
                    log.record(&access::Entry {
                        peer: cx.peer,
                        head: &head,
                        status: answer.status.code(),
                        body_bytes: answer.body_bytes,
                        duration: cx.now.since(since),
                        unix_seconds: cx.unix_seconds,
                    });
                }
                self.requests = requests;
                self.inbox.consume(length);
                let after = match body {
                    _ if !answer.keep_alive => After::End,
                    Some(body) => After::Discard(body),
                    None => After::NextHead,
                };
                self.take_answer(answer, after);
                Step::Again
            }
            Err(refusal) => {
                self.refuse(refusal, cx);
                Step::Again
            }
        }
    }

    /// Answers what is not a request, or did not come in time; nothing after it is read.
    fn refuse(&mut self, refusal: Refusal, cx: &Context<'_>) {
        tracing::debug!(%refusal, "refused");
        let answer = answer::refusal_without_request(&self.site, cx.date, refusal);
        if let Some(log) = &self.site.access {
            log.record_refusal(cx.peer, refusal, answer.body_bytes, cx.unix_seconds);
        }
        self.take_answer(answer, After::End);
    }

    fn take_answer(&mut self, answer: Answer, after: After) {
        for chunk in answer.bytes.chunks() {
            self.outbox.push(chunk.clone());
        }
        match answer.body {
            Body::Sent => self.go_on(after),
            body => self.state = State::Sending { body, next_piece: 0, after },
        }
    }

    fn go_on(&mut self, after: After) {
        self.state = match after {
            After::NextHead => State::Head,
            After::Discard(body) => State::Discarding(body),
            After::End => State::Ending,
        };
    }

    /// Sends the next piece of a body.
    fn send_body(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        let State::Sending { body, next_piece, .. } = &mut self.state else { return Step::Again };
        if !client.writer.is_idle() {
            return Step::Wait;
        }
        let (resource, span) = match body {
            Body::Sent => return self.finish_body(),
            Body::Part(resource, span) if *next_piece == 0 => (resource, *span),
            Body::Part(..) => return self.finish_body(),
            Body::Parts(resource, plan) => match plan.piece(*next_piece) {
                Some(Piece::Text(text)) => {
                    self.outbox.push(Chunk::shared(text));
                    *next_piece += 1;
                    return Step::Again;
                }
                Some(Piece::File(span)) => (resource, span),
                None => return self.finish_body(),
            },
            Body::Listing { stream, is_chunked } => {
                let mut piece = Vec::new();
                let has_more = stream.write(listing::PIECE_BYTES, &mut piece);
                match (*is_chunked, has_more) {
                    (true, true) => push_chunk(&mut self.outbox, piece),
                    (true, false) => {
                        push_chunk(&mut self.outbox, piece);
                        self.outbox.push(chunked::LAST_CHUNK);
                    }
                    (false, _) => self.outbox.push(Chunk::shared(piece)),
                }
                if !has_more {
                    return self.finish_body();
                }
                client.writer.send(self.outbox.take(), cx.ops);
                return Step::Wait;
            }
        };
        *next_piece += 1;
        match &resource.content {
            Content::File(open) => {
                client.writer.send_file(self.outbox.take(), open.file(), span.offset, span.length, cx.ops);
                Step::Wait
            }
            Content::Memory(bytes) => {
                // Spans are within the content they were made for.
                let (start, end) = (span.offset as usize, (span.offset + span.length) as usize);
                if let Some(part) = bytes.get(start..end) {
                    self.outbox.push(Chunk::shared(part));
                }
                Step::Again
            }
            Content::Folder | Content::Special => Step::Again,
        }
    }

    fn finish_body(&mut self) -> Step {
        if let State::Sending { after, .. } = std::mem::replace(&mut self.state, State::Head) {
            self.go_on(after);
        }
        Step::Again
    }

    /// Throws the body of a request away as it comes.
    fn discard(&mut self, client: &Connection) -> Step {
        let State::Discarding(body) = &mut self.state else { return Step::Again };
        if self.inbox.is_empty() {
            if client.reader.end().is_some() {
                self.state = State::Ending;
                return Step::Again;
            }
            return Step::Wait;
        }
        let bytes = self.inbox.bytes();
        match body.swallow(bytes) {
            Ok((count, is_over)) => {
                self.inbox.consume(count);
                if is_over {
                    self.state = State::Head;
                }
            }
            Err(_) => self.state = State::Ending,
        }
        Step::Again
    }

    /// Tells the client that there is no more, after everything is sent.
    fn end(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        self.inbox.clear();
        if self.outbox.is_empty() && client.writer.is_idle() {
            client.writer.finish(cx.ops);
        }
        if client.writer.is_finished() {
            self.state = State::Lingering { until: cx.now + LINGER, latest: cx.now + LINGER_MAX };
        }
        Step::Wait
    }

    /// The phase that the connection is in now; its clock starts anew with each phase, and with progress.
    fn keep_time(&mut self, client: &Connection, now: Time) {
        let is_sending = !client.writer.is_at_rest();
        let phase = match &self.state {
            State::Head if is_sending => Phase::Answer,
            State::Head if !self.inbox.is_empty() => Phase::Head,
            State::Head if self.requests == 0 => Phase::First,
            State::Head => Phase::Idle,
            State::Asking { .. } => Phase::Ours,
            State::Sending { .. } | State::Ending => Phase::Answer,
            State::Discarding(_) => Phase::Body,
            State::Lingering { .. } => Phase::Ours,
        };
        let sent_bytes = client.writer.sent_bytes();
        // A head's time counts from the connection's start if it is the first, whether its bytes come or not.
        let is_same = phase == self.clock.phase || (self.clock.phase == Phase::First && phase == Phase::Head);
        if !is_same || sent_bytes != self.clock.sent_bytes {
            self.clock.since = now;
        }
        (self.clock.phase, self.clock.sent_bytes) = (phase, sent_bytes);
    }

    fn time_limit(&self, cx: &Context<'_>) -> Option<Time> {
        let limits = &cx.limits.http;
        let allowed = match self.clock.phase {
            // Browsers connect in advance; such a connection must not hold up a stop.
            Phase::First if self.is_draining => FIRST_REQUEST_GRACE,
            Phase::First | Phase::Head => limits.head_timeout,
            Phase::Idle => limits.keep_alive_timeout,
            Phase::Body => limits.body_timeout,
            Phase::Answer => limits.send_timeout,
            Phase::Ours => return None,
        };
        (!allowed.is_zero()).then(|| self.clock.since + allowed)
    }

    /// Acts on a phase that took too long.
    fn on_too_slow(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        match self.clock.phase {
            Phase::Head => {
                self.refuse(Refusal::new(Status::REQUEST_TIMEOUT, "the request took too long"), cx);
                None
            }
            Phase::First | Phase::Idle | Phase::Body | Phase::Answer | Phase::Ours => Some(Ending::Idle),
        }
    }
}

impl Task for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.inbox.push(buffer);
    }

    fn on_ready(&mut self) {
        if let State::Asking { has_come, .. } = &mut self.state {
            *has_come = true;
        }
    }

    fn drain(&mut self) {
        self.is_draining = true;
    }

    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Ending> {
        if let Some(fault) = client.writer.fault() {
            return Some(match fault {
                Fault::FileTruncated => Ending::FileLost(fault),
                Fault::Os(_) | Fault::Resolver(_) => Ending::ClientLost(fault),
            });
        }
        if let Some(End::Failed(fault)) = client.reader.end() {
            return Some(Ending::ClientLost(fault));
        }
        loop {
            while let Step::Again = self.step(client, cx) {}
            if client.writer.is_idle() && !self.outbox.is_empty() && !matches!(self.state, State::Sending { .. }) {
                client.writer.send(self.outbox.take(), cx.ops);
            }
            self.keep_time(client, cx.now);
            if self.time_limit(cx).is_none_or(|limit| cx.now < limit) {
                break;
            }
            if let Some(ending) = self.on_too_slow(cx) {
                return Some(ending);
            }
        }
        client.reader.want(self.inbox.waiting_memory() < INBOX_BYTES_MAX, cx.ops);
        self.deadline = self.time_limit(cx);
        match self.state {
            State::Lingering { until, .. } if client.reader.end().is_some() || until <= cx.now => Some(Ending::Done),
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Lingering { until, .. } => Some(until),
            _ => self.deadline,
        }
    }

    fn close(&mut self, _manner: Manner, client_is_closed: bool, _cx: &mut Context<'_>) -> bool {
        if client_is_closed {
            // The file that was being sent may be closed now, if nobody else holds it.
            self.state = State::Ending;
        }
        client_is_closed
    }

    fn memory(&self) -> usize {
        self.inbox.memory() + self.outbox.chunks().iter().map(Chunk::memory).sum::<usize>()
    }

    fn memory_max(&self, limits: &Limits) -> usize {
        // The last answer taken may be one of a small file, or a piece of a listing.
        inbox_memory_max(limits) + OUTBOX_BYTES_MAX + (limits.store.small_bytes_max as usize).max(listing::PIECE_BYTES)
    }
}

impl Unwanted {
    /// The body that follows a head, if one does.
    fn after_head(framing: BodyFraming, bytes_max: u64) -> Option<Self> {
        let body = BodyReader::from(framing);
        (!body.is_done()).then_some(Self { body, bytes_left: bytes_max })
    }

    /// Whether it may be short enough to be read; of chunks that is not known beforehand.
    fn may_be_short(&self) -> bool {
        self.body.data_left().is_none_or(|length| length <= self.bytes_left)
    }

    /// Takes what it can of `bytes`: how many, and whether the body has ended with them.
    fn swallow(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let piece = self.body.next(bytes)?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(piece.length() as u64)
            .ok_or(Refusal::new(Status::CONTENT_TOO_LARGE, "a body that nobody wants"))?;
        Ok((piece.length(), piece.is_end))
    }
}

/// What waits to be read, and beside it the largest head, gathered in a vector that grows by doubling.
const fn inbox_memory_max(limits: &Limits) -> usize {
    INBOX_BYTES_MAX + 2 * limits.http.head.head_bytes_max
}

/// Appends bytes as one chunk of the chunked coding.
fn push_chunk(chain: &mut Chain, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    chain.push(Chunk::shared(SizeLine::new(bytes.len() as u64).as_bytes()));
    chain.push(Chunk::shared(bytes));
    chain.push(chunked::CHUNK_END);
}
