//! Steps the streams, and puts their bodies into frames in turns.
//!
//! The most urgent streams have their turns first; equally urgent ones one after another, a frame each
//! (RFC 9218). Those that say that they are not incremental take one turn together, the oldest first.

use super::reads::PIECES_MAX;
use super::stream::{Stage, Stream, StreamEnd};
use super::{Conn, SEND_BYTES_MAX};
use crate::driver::Time;
use crate::http::h2::{ErrorCode, StreamId, frame};
use crate::session::http::conn::request::Request;
use crate::session::http::handler::{Answer, ForwardStep};
use crate::session::http::response_body::{Progress, ResponseBody};
use crate::session::http::stream::h2::{DATA_BYTES_MAX, Flow, Http2BodySink, Http2Stream, Source};
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::session::{CloseReason, Context};
use crate::telemetry::access_log::CacheState;
use crate::transport::Transport;
use crate::waiter::{self, Waiter};

/// With less than this, the connection's window is as good as closed.
pub(super) const STARVING_BYTES: u32 = 1024;

/// What follows a step: `Some` if the stream ends.
type Stepped = Option<(StreamEnd, CloseReason)>;

impl Conn {
    /// Sets how much may be put into frames until the next send.
    pub(super) fn begin_turn(&mut self, client: &Transport) {
        let room = if client.can_send() { SEND_BYTES_MAX } else { 0 };
        self.flow.budget = room.saturating_sub(self.flow.outbox.len());
    }

    /// Steps each stream that has news, or whose time has come.
    pub(super) fn step_streams(&mut self, cx: &mut Context<'_>) {
        if self.earliest.is_some_and(|earliest| earliest <= cx.now) {
            self.look_at_all(cx);
        }
        let is_held_up = cx.is_scarce && self.flow.has_unsent();
        if !is_held_up && !self.paused.is_empty() {
            for id in std::mem::take(&mut self.paused) {
                if let Some(index) = self.find(id) {
                    self.wake(index);
                }
            }
        }
        if self.ready.is_empty() {
            return;
        }
        // Those that become ready meanwhile have their turns in the next pump.
        let mut ready = std::mem::take(&mut self.ready);
        for id in ready.drain(..) {
            if let Some(index) = self.find(id) {
                #[cfg(feature = "internals")]
                if planted_bug::strikes(Http2Bug::Forgotten) {
                    self.streams[index].has_news = false;
                    continue;
                }
                self.step_at(index, cx);
            }
        }
        if self.ready.is_empty() {
            self.ready = ready;
        }
    }

    /// Looks at the streams that only the window of the connection holds up: their time runs.
    pub(super) fn note_blocked(&mut self, cx: &mut Context<'_>) {
        if (self.has_turns || self.has_files) && self.flow.send_window.credit() == 0 {
            self.look_at_all(cx);
        }
    }

    /// Steps the stream at this position, which may end it.
    fn step_at(&mut self, index: usize, cx: &mut Context<'_>) {
        let Self { streams, flow, .. } = self;
        let Some(stream) = streams.get_mut(index) else { return };
        flow.quantum = DATA_BYTES_MAX;
        // All streams together hold what one connection of HTTP/1.1 may.
        let hold_max = cx.hold_max;
        cx.hold_max = (hold_max / self.forwarding.max(1)).max(1);
        let was_forwarding = stream.wants_body();
        let stepped = step(stream, flow, cx);
        cx.hold_max = hold_max;
        let is_forwarding = stream.wants_body();
        self.forwarding -= usize::from(was_forwarding && !is_forwarding);
        if let Stage::Tunnel(_) = stream.stage {
            self.held_heads -= std::mem::take(&mut stream.head_bytes);
        }
        if let Some((end, close_reason)) = stepped {
            return self.end_stream(index, end, close_reason, cx);
        }
        self.has_turns |= stream.wants_turn();
        if stream.is_paused {
            self.paused.push(stream.id);
        }
        if stream.has_news {
            self.ready.push(stream.id);
        }
        self.has_files |= matches!(stream.output.source, Source::File(_));
        if is_forwarding {
            grant_window(stream, flow);
        }
        stream.keep_time(flow, cx);
        let deadline = stream.deadline(cx.limits);
        #[cfg(feature = "internals")]
        let deadline = deadline.filter(|_| !planted_bug::strikes(Http2Bug::LostDeadline));
        self.earliest = Time::earliest(self.earliest, deadline);
    }

    /// Puts bodies into frames until the budget or the connection's window is spent.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) {
        while self.has_turns && self.flow.budget > 0 && self.flow.send_window.credit() > 0 {
            let Some(index) = self.next_turn() else {
                self.has_turns = self.streams.iter().any(|stream| stream.wants_turn());
                return;
            };
            let Some(stream) = self.streams.get_mut(index) else { return };
            self.turn = stream.id;
            self.flow.quantum = DATA_BYTES_MAX;
            let has_sent = stream.output.send_frame(stream.id, &mut self.flow);
            if stream.output.is_over() || !has_sent || stream.output.ready_bytes() == 0 {
                self.step_at(index, cx);
            } else {
                stream.keep_time(&self.flow, cx);
                self.earliest = Time::earliest(self.earliest, stream.deadline(cx.limits));
            }
        }
        #[cfg(feature = "internals")]
        if self.has_turns && planted_bug::strikes(Http2Bug::LostTurn) {
            self.has_turns = false;
        }
    }

    /// Lets responses that wait for a window wait outside of receive buffers: the update of the window may
    /// need one. [`Conn::step_at`] does that for a stream that it steps; others may have spent the
    /// connection's window since.
    pub(super) fn set_aside(&mut self, cx: &mut Context<'_>) {
        if self.flow.send_window.credit() > 0 {
            return;
        }
        let hold_max = (cx.hold_max / self.forwarding.max(1)).max(1);
        for stream in self.streams.iter_mut().filter(|stream| stream.is_held) {
            if let Stage::Forwarding(forward) = &mut stream.stage
                && let Some(mut upstream) = forward.lease_mut().stream(cx.upstream_pool)
            {
                upstream.set_aside(hold_max, cx.ops);
            }
        }
    }

    /// The position of the stream whose turn it is.
    fn next_turn(&self) -> Option<usize> {
        let mut best: Option<(u8, bool, usize)> = None;
        // Whether an older stream of this urgency goes first.
        let mut has_older = [false; 8];
        for (index, stream) in self.streams.iter().enumerate() {
            if !stream.wants_turn() || stream.output.window_credit(&self.flow) == 0 {
                continue;
            }
            let urgency = stream.priority.urgency.min(7);
            if stream.priority.incremental == Some(false)
                && std::mem::replace(&mut has_older[usize::from(urgency)], true)
            {
                continue;
            }
            let candidate = (urgency, stream.id <= self.turn, index);
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
        best.map(|(_, _, index)| index)
    }

    /// Lets the client send as much as was consumed.
    pub(super) fn grant_windows(&mut self) {
        if !self.life.reads() {
            return;
        }
        if self.requests > 0
            && let Some(increment) = self.flow.receive_window.update()
        {
            self.flow.outbox.append(&frame::window_update(StreamId::CONNECTION, increment));
        }
        if self.forwarding > 0 && self.flow.receive_window.available() < STARVING_BYTES {
            self.lend_window();
        }
    }

    /// Lets the client send more than the connection's window, if a body that an upstream waits for, or what a
    /// tunnel takes, could not come otherwise: bodies that wait for others, or for the same upstream, have used it up. Those
    /// of each stream are bounded nevertheless.
    fn lend_window(&mut self) {
        if self.streams.iter().any(|stream| stream.is_starving()) {
            #[cfg(feature = "internals")]
            if planted_bug::strikes(Http2Bug::NotLent) {
                return;
            }
            let increment = self.flow.receive_window.lend(self.stream_window);
            if increment > 0 {
                self.flow.outbox.append(&frame::window_update(StreamId::CONNECTION, increment));
            }
        }
    }

    /// Begins to read what files send next: first for the stream whose turn is next. Few of them hold a
    /// piece at a time.
    pub(super) fn begin_reads(&mut self, cx: &mut Context<'_>) {
        if !self.has_files || !self.reads.has_free() {
            return;
        }
        self.has_files = false;
        let has_piece = |stream: &Stream| matches!(&stream.output.source, Source::File(file) if file.has_piece());
        let mut pieces = self.streams.iter().filter(|stream| has_piece(stream)).count();
        let next = self.streams.partition_point(|stream| stream.id <= self.turn);
        let (before, after) = self.streams.split_at_mut(next);
        for stream in after.iter_mut().chain(before) {
            if !matches!(stream.output.source, Source::File(_)) {
                continue;
            }
            self.has_files = true;
            let has_one = has_piece(stream);
            let may_begin = has_one || pieces < PIECES_MAX;
            if may_begin && self.reads.begin(stream, cx.session, cx.ops) {
                pieces += usize::from(!has_one);
            }
        }
    }
}

/// Lets the client send as much of a body as was consumed.
fn grant_window(stream: &mut Stream, flow: &mut Flow) {
    // What is not taken now must not hold receive buffers.
    stream.input.body.settle();
    if !stream.input.has_ended
        && let Some(increment) = stream.input.window.update()
    {
        #[cfg(feature = "internals")]
        if planted_bug::strikes(Http2Bug::LostWindowUpdate) {
            return;
        }
        flow.outbox.append(&frame::window_update(stream.id, increment));
    }
}

/// Makes as much progress as possible.
fn step(stream: &mut Stream, flow: &mut Flow, cx: &mut Context<'_>) -> Stepped {
    stream.has_news = false;
    if let Stage::LookingUp(_) = stream.stage {
        look_again(stream, flow, cx);
    }
    let Stream { id, input, output, stage, .. } = &mut *stream;
    let id = *id;
    match stage {
        Stage::LookingUp(_) => return None,
        Stage::Responding { body, .. } => {
            if let Source::File(file) = &output.source
                && let Some(fault) = file.fault()
            {
                tracing::warn!(stream = id.get(), %fault, "a file was lost while it was being sent");
                return Some((StreamEnd::CutOff(Some(ErrorCode::INTERNAL_ERROR)), CloseReason::FileLost(fault)));
            }
            loop {
                match body.step(&mut Http2BodySink(output), cx.ops) {
                    Progress::Wait => break,
                    Progress::Again => {}
                    Progress::Over => {
                        output.end(id, flow);
                        break;
                    }
                }
            }
        }
        Stage::Forwarding(forward) => {
            let step = forward.step(&mut Http2Stream { id, input, output, flow }, cx);
            match step {
                ForwardStep::Wait => {}
                ForwardStep::Over => debug_assert!(output.is_over(), "a response that is over has an end"),
                ForwardStep::Error(error) => {
                    tracing::debug!(%error, stream = id.get(), "forwarding failed");
                    let mut encoder = output.encoder();
                    let response = forward.error_response(error, &mut encoder, cx);
                    let response = encoder.finish_http2(response);
                    let status = response.status;
                    let rest = output.begin(id, response, flow);
                    debug_assert!(rest.is_none(), "an error page is in memory");
                    if let Some(mut record) = stream.take_record() {
                        record.set_status(status);
                        record.begin_body(0, cx.now);
                        stream.stage = Stage::Responding { record, body: ResponseBody::empty() };
                    }
                }
                #[cfg(feature = "internals")]
                ForwardStep::Truncated(_) if planted_bug::strikes(Http2Bug::TruncationIsEnd) => output.end(id, flow),
                ForwardStep::Truncated(close_reason) => {
                    return Some((StreamEnd::CutOff(Some(ErrorCode::INTERNAL_ERROR)), close_reason));
                }
                ForwardStep::Upgraded => {
                    stream.open_tunnel(cx.now);
                    return step_tunnel(stream, flow, cx);
                }
            }
            stream.is_paused = matches!(stream.stage, Stage::Forwarding(_)) && cx.is_scarce && flow.has_unsent();
            stream.is_held = matches!(stream.stage, Stage::Forwarding(_))
                && stream.output.is_responding()
                && !stream.output.is_over()
                && stream.output.credit(flow) == 0;
            // A head waits for room in the outbox.
            stream.has_news = !stream.output.is_responding() && !flow.has_room();
        }
        Stage::Tunnel(_) => return step_tunnel(stream, flow, cx),
        Stage::Over => {}
    }
    stream.output.is_over().then_some((StreamEnd::Complete, CloseReason::Done))
}

/// Relays the bytes of a tunnel.
fn step_tunnel(stream: &mut Stream, flow: &mut Flow, cx: &mut Context<'_>) -> Stepped {
    let Stream { id, input, output, stage: Stage::Tunnel(tunnel), .. } = &mut *stream else { return None };
    let close_reason = tunnel.pump(*id, input, output, flow, cx)?;
    tracing::debug!(stream = id.get(), close_reason = close_reason.code(), "a tunnel ends");
    // A reset is passed on as this (RFC 8441, 5).
    let end = if output.is_over() { StreamEnd::Complete } else { StreamEnd::CutOff(Some(ErrorCode::CANCEL)) };
    Some((end, close_reason))
}

/// Builds the response again after a look-up.
fn look_again(stream: &mut Stream, flow: &mut Flow, cx: &mut Context<'_>) {
    let Stage::LookingUp(look_up) = &stream.stage else { return };
    let Ok(head) = look_up.head.head(&look_up.head_limits) else {
        debug_assert!(false, "the head of {look_up:?} has changed");
        return;
    };
    let waiter = Waiter { session: cx.session, stream: waiter::StreamId(stream.id.get()) };
    let request = Request { head: &head, since: look_up.record.since(), waiter };
    let mut encoder = stream.output.encoder();
    let response = match request.respond(&look_up.route, &mut encoder, cx) {
        Answer::Response(response) => encoder.finish_http2(response),
        // It waits for the next result.
        Answer::LookUp => return,
        Answer::Forward(_) => {
            debug_assert!(false, "a request to be forwarded was looked up");
            return;
        }
    };
    if let Some(mut record) = stream.take_record() {
        record.note_cache(CacheState::Miss);
        record.set_status(response.status);
        record.begin_body(0, cx.now);
        let rest = stream.output.begin(stream.id, response, flow);
        stream.stage = Stage::Responding { record, body: rest.map_or_else(ResponseBody::empty, ResponseBody::new) };
    }
}
