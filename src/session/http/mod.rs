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
mod arrival;
mod choice;
mod clock;
mod cut;
mod delivery;
mod forward;
mod front;
mod hosts;
mod record;
mod site;
mod turn;
mod unwanted;
mod upload;
mod upstream_failure;
mod welcome;

use std::rc::Rc;
use std::time::Duration;

pub use front::{Door, Forwarding, Front, Handler, Host, Route};
pub use site::{Site, Source};
pub use welcome::WELCOME_PAGES;

use self::answer::{Answer, Body, Client};
use self::arrival::{Arrival, Judgement};
use self::clock::{Clock, Phase};
use self::cut::Cut;
use self::delivery::Delivery;
use self::forward::Forward;
use self::turn::Turn;
use self::unwanted::Unwanted;
use super::tunnel::Tunnel;
use super::{Context, Ending, Task};
use crate::buffer::{Buffer, Chain, Chunk, Inbox};
use crate::config::Limits;
use crate::driver::{Fault, Time};
use crate::file::listing;
use crate::http::chunked::{self, SizeLine};
use crate::http::request::{self, Parsed};
use crate::http::{BodyReader, Refusal, Status};
use crate::tcp::{Connection, Manner};
use crate::upstream::group::Verdict;
use crate::upstream::{Attempt, Release};

/// How long a client may be silent before it ends its side, after it was told that there is no more.
const LINGER: Duration = Duration::from_secs(2);

/// How long it may go on sending then. A close with bytes unread is a reset, which may reach the client before it has
/// read the answer (RFC 9112, 9.6).
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Answers that wait to be sent: no further request is read when there are so many bytes of them.
const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// Bytes that wait to be read, beyond a head that is not complete: receiving pauses when they hold so much memory.
const INBOX_BYTES_MAX: usize = 64 << 10;

/// One connection that speaks HTTP.
#[derive(Debug)]
pub struct Http {
    /// Where each request finds its front. Between requests none is held: it would keep an old configuration alive.
    door: Rc<Door>,
    inbox: Inbox,
    outbox: Chain,
    state: State,
    requests: u32,
    /// There are as many connections as there may be: whatever it asks for, it is told so.
    is_surplus: bool,
    /// The client has said that its present request is the last, and all of it is here: there is no need to linger.
    has_said_last: bool,
    draining_since: Option<Time>,
    clock: Clock,
}

#[derive(Debug)]
enum State {
    /// Waiting for a head, or for the rest of one.
    Head,
    /// The head is there; the store looks something up for it, as the front that it found has it.
    Asking { since: Time, has_come: bool, front: Rc<Front> },
    /// The request is with an upstream.
    Forwarding(Box<Forward>),
    /// Both sides speak another protocol.
    Upgraded(Box<(Attempt, Tunnel)>),
    /// A body is being sent that is not in memory as a whole.
    Sending(Box<Delivery>),
    /// The body of a request is read and thrown away.
    Discarding(Unwanted),
    /// What is in the outbox is the last.
    Ending,
    /// An answer broke off, and the client must see that it did.
    Cut(Box<Cut>),
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

impl After {
    fn new(keep_alive: bool, rest: Option<Unwanted>) -> Self {
        match rest {
            _ if !keep_alive => Self::End,
            Some(rest) => Self::Discard(rest),
            None => Self::NextHead,
        }
    }
}

/// Whether a state has to wait for something to happen.
enum Step {
    Again,
    Wait,
}

impl Http {
    pub(super) fn new(door: Rc<Door>, is_surplus: bool, now: Time) -> Self {
        Self {
            door,
            inbox: Inbox::default(),
            outbox: Chain::new(),
            state: State::Head,
            requests: 0,
            is_surplus,
            has_said_last: false,
            draining_since: None,
            clock: Clock::new(now),
        }
    }

    fn step(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        match &mut self.state {
            State::Head | State::Asking { has_come: true, .. } => self.read_head(client, cx),
            State::Asking { has_come: false, .. } => Step::Wait,
            State::Forwarding(_) => self.forward(client, cx),
            State::Upgraded(_) => Step::Wait,
            State::Sending(_) => self.send_body(client, cx),
            State::Discarding(_) => self.discard(client),
            State::Ending => self.end(client, cx),
            State::Cut(_) => self.end_cut(client, cx),
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
            if client.reader.end().is_some() {
                self.state = State::Ending;
                return Step::Again;
            }
            return Step::Wait;
        }
        let since = match self.state {
            State::Asking { since, .. } => since,
            _ => cx.now,
        };
        if !self.inbox.may_hold_head() {
            return self.on_partial_head(client);
        }
        match request::parse(self.inbox.bytes(), &cx.limits.http.head) {
            Ok(Parsed::Partial) => {
                if self.inbox.gather() {
                    return Step::Again;
                }
                self.on_partial_head(client)
            }
            Ok(Parsed::Complete { head, length }) => {
                let is_new = matches!(self.state, State::Head);
                let front = match &self.state {
                    State::Asking { front, .. } => Rc::clone(front),
                    _ => self.door.front(),
                };
                let requests = self.requests.saturating_add(1);
                let is_last =
                    cx.limits.http.requests_max == requests || self.draining_since.is_some() || self.is_surplus;
                self.has_said_last = !head.keep_alive && BodyReader::from(head.framing).is_done();
                let (keep_alive, is_surplus) = (head.keep_alive && !is_last, self.is_surplus);
                let arrival = Arrival { since, keep_alive, is_new, is_surplus };
                match arrival.judge(&front, &head, cx) {
                    Judgement::Wait => {
                        self.state = State::Asking { since, has_come: false, front };
                        return Step::Wait;
                    }
                    Judgement::Answer(answer, after) => {
                        self.inbox.consume(length);
                        self.take_answer(answer, after, client, cx);
                    }
                    Judgement::Forward(forward) => {
                        self.inbox.consume(length);
                        self.state = State::Forwarding(forward);
                    }
                }
                self.requests = requests;
                Step::Again
            }
            Err(refusal) => {
                self.refuse(refusal, client, cx);
                Step::Again
            }
        }
    }

    /// The rest of a head has to come first.
    fn on_partial_head(&mut self, client: &Connection) -> Step {
        if client.reader.end().is_some() {
            // Half a request is none.
            self.state = State::Ending;
            return Step::Again;
        }
        Step::Wait
    }

    /// Goes on with a request that is with an upstream.
    fn forward(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Step {
        let State::Forwarding(forward) = &mut self.state else { return Step::Again };
        match forward.step(client, &mut self.inbox, &mut self.outbox, cx) {
            Turn::Wait => return Step::Wait,
            Turn::Over { keep_alive, rest } => {
                let rest = Unwanted::new(rest, cx.limits.http.discard_bytes_max);
                self.go_on(After::new(keep_alive, rest));
            }
            Turn::Refused(refusal) => {
                tracing::debug!(%refusal, "not forwarded");
                let answer = forward.refuse(refusal, cx);
                let after = After::new(answer.keep_alive, None);
                self.take_answer(answer, after, client, cx);
            }
            Turn::Cut(ending) => {
                let State::Forwarding(forward) = std::mem::replace(&mut self.state, State::Ending) else {
                    return Step::Again;
                };
                self.state = State::Cut(Box::new(Cut::of(ending, forward)));
            }
            Turn::Upgraded => {
                let State::Forwarding(forward) = std::mem::replace(&mut self.state, State::Head) else {
                    return Step::Again;
                };
                let mut tunnel = Tunnel::new();
                for chunk in self.outbox.take().chunks() {
                    tunnel.push_to_client(chunk.clone());
                }
                self.state = State::Upgraded(Box::new((forward.into_attempt(), tunnel)));
            }
        }
        Step::Again
    }

    /// Moves the bytes of another protocol.
    fn tunnel(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Ending> {
        let State::Upgraded(upgraded) = &mut self.state else { return None };
        let (attempt, tunnel) = &mut **upgraded;
        while !self.inbox.is_empty() {
            let bytes = self.inbox.bytes().len();
            tunnel.push_to_upstream(self.inbox.take(bytes));
        }
        let terms = cx.terms();
        let (upstream, received) = attempt.connection(cx.links)?;
        tunnel.pump(client, upstream, received, terms, cx.ops)
    }

    /// Answers what is not a request, or did not come in time; nothing after it is read. Where there is no room, that is the
    /// answer to whatever came.
    fn refuse(&mut self, refusal: Refusal, client: &Connection, cx: &Context<'_>) {
        let refusal = if self.is_surplus { arrival::FULL } else { refusal };
        tracing::debug!(%refusal, "refused");
        let client_asked = Client { wants_body: !request::begins_as_head(self.inbox.bytes()), ..Client::UNKNOWN };
        let front = self.door.front();
        let answer = answer::refusal(&front.fallback, cx.date, refusal, &client_asked);
        if let Some(log) = front.access_log() {
            log.record_refusal(cx.peer, refusal, answer.body_bytes, cx.unix_seconds);
        }
        cx.counting.refused();
        self.take_answer(answer, After::End, client, cx);
    }

    fn take_answer(&mut self, mut answer: Answer, after: After, client: &Connection, cx: &Context<'_>) {
        cx.counting.answered(answer.status.code());
        if let (Some(record), Some(head)) = (&mut answer.record, answer.bytes.chunks().first()) {
            record.begin(client.writer.given_bytes() + self.outbox.len() as u64 + head.len() as u64);
        }
        for chunk in answer.bytes.chunks() {
            self.outbox.push(chunk.clone());
        }
        match answer.body {
            Body::Sent => self.go_on(after),
            body => self.state = State::Sending(Box::new(Delivery::new(body, after, answer.record))),
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
        let State::Sending(delivery) = &mut self.state else { return Step::Again };
        match delivery.step(&mut client.writer, &mut self.outbox, cx.ops) {
            delivery::Progress::Wait => return Step::Wait,
            delivery::Progress::Again => return Step::Again,
            delivery::Progress::Over => {
                delivery.record_end(client.writer.given_bytes() + self.outbox.len() as u64, cx.now)
            }
        }
        if let State::Sending(delivery) = std::mem::replace(&mut self.state, State::Head) {
            self.go_on(delivery.into_after());
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
        if self.is_leaving() {
            return Step::Wait;
        }
        self.inbox.clear();
        if self.outbox.is_empty() && client.writer.is_idle() {
            client.writer.finish(cx.ops);
        }
        if client.writer.is_finished() {
            self.state = State::Lingering { until: cx.now + LINGER, latest: cx.now + LINGER_MAX };
        }
        Step::Wait
    }

    /// Whether the connection may be closed as soon as everything is sent: nothing that arrives could make that a reset.
    fn is_leaving(&self) -> bool {
        matches!(self.state, State::Ending) && self.has_said_last && self.inbox.is_empty()
    }

    /// Bytes of memory that wait to be read.
    ///
    /// Requests behind one that is with an upstream leave the buffers they were received in: its answer must be received
    /// before they can be read, and if there were no buffer left for it, nothing would ever go on. So does a body that waits
    /// until another request has been answered.
    fn held_back(&mut self) -> usize {
        match &self.state {
            State::Forwarding(forward) if forward.is_uploaded() || forward.is_queued() => {
                self.inbox.settle();
                self.inbox.memory()
            }
            _ => self.inbox.waiting_memory(),
        }
    }

    /// What the client may be too slow in now.
    fn phase(&self, client: &Connection) -> Phase {
        let is_sending = !client.writer.is_at_rest();
        match &self.state {
            State::Head if is_sending => Phase::Answer,
            State::Head if !self.inbox.is_empty() => Phase::Head,
            State::Head if self.requests == 0 => Phase::First,
            State::Head => Phase::Idle,
            State::Forwarding(_) if is_sending => Phase::Answer,
            // What has come and not been passed on is for the upstream to take.
            State::Forwarding(forward) if forward.waits_for_client() && self.inbox.is_empty() => Phase::Upload,
            State::Forwarding(forward) if !forward.is_uploaded() => Phase::Relay,
            State::Asking { .. } | State::Forwarding(_) | State::Upgraded(_) => Phase::Ours,
            State::Sending(_) | State::Ending => Phase::Answer,
            State::Discarding(_) => Phase::Body,
            State::Cut(cut) if !cut.is_told() => Phase::Answer,
            State::Lingering { .. } | State::Cut(_) => Phase::Ours,
        }
    }

    /// Acts on a phase that took too long.
    fn on_too_slow(&mut self, client: &Connection, cx: &mut Context<'_>) -> Option<Ending> {
        match self.clock.phase() {
            Phase::Head => {
                self.refuse(Refusal::new(Status::REQUEST_TIMEOUT, "the request took too long"), client, cx);
                None
            }
            // It must not take what it has for all.
            Phase::Answer => Some(Ending::TooSlow),
            Phase::First | Phase::Idle | Phase::Body | Phase::Upload | Phase::Relay | Phase::Ours => Some(Ending::Idle),
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

    fn drain(&mut self, now: Time) {
        self.draining_since = Some(now);
    }

    fn pump(&mut self, client: &mut Connection, cx: &mut Context<'_>) -> Option<Ending> {
        match client.writer.fault() {
            Some(fault @ Fault::FileTruncated) => self.lose_file(fault, client, cx),
            Some(fault @ (Fault::Os(_) | Fault::RootLost(_) | Fault::Resolver(_))) => {
                return Some(Ending::ClientLost(fault));
            }
            None => {}
        }
        if let Some(fault) = client.reader.fault() {
            return Some(Ending::ClientLost(fault));
        }
        loop {
            while let Step::Again = self.step(client, cx) {}
            if client.writer.is_idle() && !self.outbox.is_empty() && !matches!(self.state, State::Sending(_)) {
                client.writer.send(self.outbox.take(), cx.ops);
            }
            self.clock.tick(self.phase(client), client, &cx.limits.http, cx.now);
            let deadline = self.clock.limit(&cx.limits.http, self.draining_since);
            if deadline.is_none_or(|deadline| cx.now < deadline) {
                break;
            }
            if let Some(ending) = self.on_too_slow(client, cx) {
                return Some(ending);
            }
        }
        if let State::Upgraded(_) = self.state {
            return self.tunnel(client, cx);
        }
        let is_leaving = self.is_leaving();
        if is_leaving {
            client.reader.stop(cx.ops);
        } else {
            client.reader.want(self.held_back() < INBOX_BYTES_MAX.min(cx.hold_max), cx.ops);
        }
        match self.state {
            State::Ending if is_leaving && client.writer.is_idle() => Some(Ending::Done),
            State::Lingering { until, .. } if client.reader.end().is_some() || until <= cx.now => Some(Ending::Done),
            State::Cut(ref cut) => cut.ending(client, cx.now),
            _ => None,
        }
    }

    fn deadline(&self, limits: &Limits) -> Option<Time> {
        let client = self.clock.limit(&limits.http, self.draining_since);
        match self.state {
            State::Lingering { until, .. } => Some(until),
            State::Cut(ref cut) => cut.deadline().or(client),
            State::Upgraded(ref upgraded) => upgraded.1.deadline(),
            State::Forwarding(ref forward) => Time::earliest(forward.deadline(), client),
            _ => client,
        }
    }

    fn is_queued(&self) -> bool {
        matches!(&self.state, State::Forwarding(forward) if forward.is_queued())
    }

    fn is_unfinished(&self) -> bool {
        match &self.state {
            State::Forwarding(forward) => forward.is_answering() || !self.outbox.is_empty(),
            State::Upgraded(upgraded) => upgraded.1.memory() > 0,
            State::Sending(_) | State::Cut(_) => true,
            State::Head | State::Asking { .. } | State::Discarding(_) | State::Ending | State::Lingering { .. } => {
                !self.outbox.is_empty()
            }
        }
    }

    fn take_unsent(&mut self) -> Chain {
        match &mut self.state {
            State::Upgraded(upgraded) => upgraded.1.take_unsent(),
            _ => self.outbox.take(),
        }
    }

    fn is_told(&self) -> bool {
        matches!(&self.state, State::Cut(cut) if cut.is_told())
    }

    fn close(&mut self, ending: Ending, client: &Connection, cx: &mut Context<'_>) -> bool {
        let (attempt, release) = match &mut self.state {
            State::Forwarding(forward) => {
                let is_orderly = ending.manner() == Manner::Orderly;
                let manner = if is_orderly { Manner::Orderly } else { Manner::Reset };
                (Some(forward.attempt_mut()), Release::Close(manner))
            }
            State::Upgraded(upgraded) => (Some(&mut upgraded.0), ending.release(cx.limits.http.send_timeout)),
            _ => (None, Release::Close(Manner::Orderly)),
        };
        if let Some(attempt) = attempt.filter(|attempt| !attempt.is_over()) {
            attempt.finish(release, Verdict::Neutral, cx.links, cx.now);
        }
        if client.is_closed() {
            self.record_end(client, cx);
            // The file that was being sent may be closed now, if nobody else holds it.
            self.state = State::Ending;
        }
        client.is_closed()
    }

    fn memory(&self) -> usize {
        let passing = match &self.state {
            State::Forwarding(forward) => forward.memory(),
            State::Upgraded(upgraded) => upgraded.1.memory(),
            _ => 0,
        };
        self.inbox.memory() + self.outbox.memory() + passing
    }

    fn memory_max(&self, limits: &Limits) -> usize {
        // The last answer taken may be one of a small file, or a piece of a listing.
        let answer = (limits.store.small_bytes_max as usize).max(listing::PIECE_BYTES);
        inbox_memory_max(limits) + OUTBOX_BYTES_MAX + answer.max(Forward::memory_max(limits))
    }
}

/// What waits to be read, and beside it the largest head or what waited behind a request that was forwarded, gathered.
const fn inbox_memory_max(limits: &Limits) -> usize {
    INBOX_BYTES_MAX + Inbox::gathered_memory_max(limits.http.head.head_bytes_max + INBOX_BYTES_MAX)
}

/// Appends bytes as one chunk of the chunked coding.
fn push_chunk(chain: &mut Chain, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    chain.append(SizeLine::new(bytes.len() as u64).as_bytes());
    chain.push(Chunk::shared(bytes));
    chain.push(chunked::CHUNK_END);
}
