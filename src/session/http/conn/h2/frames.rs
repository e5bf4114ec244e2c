//! What each frame does.

use super::Conn;
use super::guards::Counted;
use super::stream::{Stage, StreamEnd};
use crate::buffer::Inbox;
use crate::http::Trailers;
use crate::http::h2::frame::{self, SETTINGS_ACK};
use crate::http::h2::head::{BadHead, parse_trailers};
use crate::http::h2::reader::DataPiece;
use crate::http::h2::settings::{INITIAL_WINDOW_BYTES, Peer};
use crate::http::h2::window::FlowError;
use crate::http::h2::{ConnectionError, ErrorCode, Frame, Priority, StreamId};
#[cfg(feature = "internals")]
use crate::session::http::stream::planted_bug::{self, Http2Bug};
use crate::session::{CloseReason, Context};
use crate::telemetry::metrics::Http2Limit;

/// A stream's identifier is not of a request that was begun.
const IDLE: ConnectionError = ConnectionError::protocol("a frame is for a stream that was not begun");

impl Conn {
    /// Handles a frame that is not DATA, of this many bytes.
    pub(super) fn on_frame(
        &mut self,
        frame: Frame<'_>,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        if let Frame::Headers { fragment, .. } | Frame::Continuation { fragment, .. } = frame {
            self.payload_bytes += fragment.len() as u64;
            self.count_overhead(bytes - fragment.len(), cx)?;
        } else {
            self.count_overhead(bytes, cx)?;
        }
        match frame {
            Frame::Headers { stream, fragment, end_stream, end_headers } => {
                if !stream.is_of_client() {
                    return Err(ConnectionError::protocol("a client's stream has an even identifier"));
                }
                self.open_block = Some((stream, end_stream));
                self.on_fragment(fragment, end_headers, cx)
            }
            Frame::Continuation { fragment, end_headers, .. } => self.on_fragment(fragment, end_headers, cx),
            Frame::ResetStream { stream, code } => self.on_reset(stream, code, cx),
            Frame::Settings { entries } => {
                self.count(Counted::Settings, cx)?;
                let delta = self.settings.apply(Peer::Client, entries)?;
                for index in 0..self.streams.len() {
                    self.streams[index].output.window.shift(delta).map_err(|FlowError| OVERFLOW)?;
                    self.wake(index);
                }
                self.flow.outbox.append(&SETTINGS_ACK);
                Ok(())
            }
            Frame::Ping { ack: false, payload } => {
                self.count(Counted::Ping, cx)?;
                self.flow.outbox.append(&frame::ping(true, payload));
                Ok(())
            }
            Frame::Ping { ack: true, payload } => {
                self.on_ping_ack(payload);
                Ok(())
            }
            Frame::GoAway { code, .. } => {
                tracing::debug!(%code, "the client leaves");
                self.is_client_leaving = true;
                Ok(())
            }
            Frame::WindowUpdate { stream: StreamId::CONNECTION, increment } => {
                self.flow.send_window.grow(increment).map_err(|FlowError| OVERFLOW)
            }
            Frame::WindowUpdate { stream, increment } => self.on_window_update(stream, increment, cx),
            Frame::PriorityUpdate { stream, value } => {
                if let Some(index) = self.find(stream)
                    && let Some(priority) = Priority::parse(value)
                {
                    self.streams[index].priority = priority;
                }
                Ok(())
            }
            Frame::PushPromise { .. } => Err(ConnectionError::protocol("a client cannot push")),
            Frame::SettingsAck => {
                self.on_settings_ack();
                Ok(())
            }
            // DATA comes in pieces instead. What is unknown is skipped.
            Frame::Priority { .. } | Frame::Unknown { .. } | Frame::Data { .. } => Ok(()),
        }
    }

    /// The client has seen our settings: it has changed the windows of its streams to the announced size
    /// (RFC 9113, 6.9.2). All that have come so far began with the usual one.
    fn on_settings_ack(&mut self) {
        let reduced = INITIAL_WINDOW_BYTES.saturating_sub(self.stream_window);
        if !std::mem::replace(&mut self.has_acknowledged, true) && reduced > 0 {
            for index in 0..self.streams.len() {
                self.streams[index].input.window.reduce(reduced);
                if self.streams[index].wants_body() {
                    self.wake(index);
                }
            }
        }
    }

    /// Adds to the open field block. It is decoded whatever becomes of its request: later blocks depend
    /// on it.
    fn on_fragment(&mut self, fragment: &[u8], end_headers: bool, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if let Err(error) = self.block.push(&mut self.decoder, fragment, end_headers) {
            if self.block.is_full() {
                cx.counters.count_http2_limit(Http2Limit::ContinuationsMax);
            }
            return Err(error);
        }
        if !end_headers {
            return Ok(());
        }
        let Some((id, end_stream)) = self.open_block.take() else { return Ok(()) };
        let result = match self.find(id) {
            Some(index) => self.on_trailers(index, end_stream, cx),
            None if id > self.last_stream => self.on_request(id, end_stream, cx),
            None if self.find_dropped(id).is_some() => {
                self.forget_dropped(id, end_stream);
                // Trailers, behind which nothing more comes, may have been on their way.
                if end_stream { Ok(()) } else { self.count(Counted::Glitch, cx) }
            }
            None => Err(ConnectionError::new(ErrorCode::STREAM_CLOSED, "a request is on a stream that has ended")),
        };
        self.block.clear();
        result
    }

    /// A second field block of a stream: the trailers of its body.
    fn on_trailers(&mut self, index: usize, end_stream: bool, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        let stream = &mut *self.streams[index];
        let id = stream.id;
        if stream.input.has_ended {
            return self.on_stream_error(id, ErrorCode::STREAM_CLOSED, cx);
        }
        if let Stage::Tunnel(_) = stream.stage {
            // Only DATA (RFC 9113, 8.5).
            return self.on_stream_error(id, ErrorCode::PROTOCOL_ERROR, cx);
        }
        let fields = match parse_trailers(self.block.fields()) {
            Ok(fields) if end_stream && stream.input.declared.end().is_ok() => Some(fields),
            // Trailers that are too large are dropped.
            Err(BadHead::Rejected(_)) if end_stream && stream.input.declared.end().is_ok() => None,
            Ok(_) | Err(_) => return self.on_stream_error(id, ErrorCode::PROTOCOL_ERROR, cx),
        };
        if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
            let mut trailers = Trailers::new();
            fields.iter().for_each(|field| trailers.push(field.name, field.value));
            stream.input.trailers = Some(Box::new(trailers));
        }
        stream.input.has_ended = true;
        self.wake(index);
        Ok(())
    }

    /// The client gives a stream up.
    fn on_reset(&mut self, id: StreamId, code: ErrorCode, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if id > self.last_stream || !id.is_of_client() {
            return Err(IDLE);
        }
        tracing::debug!(stream = id.get(), %code, "the client resets a stream");
        self.count(Counted::Reset, cx)?;
        let Some(index) = self.find(id) else {
            self.forget_dropped(id, true);
            return Ok(());
        };
        let is_early = !self.streams[index].output.is_responding();
        self.end_stream(index, StreamEnd::CutOff(None), CloseReason::ClientLeft, cx);
        if is_early { self.count(Counted::EarlyReset, cx) } else { Ok(()) }
    }

    fn on_window_update(&mut self, id: StreamId, increment: u32, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if id > self.last_stream || !id.is_of_client() {
            return Err(IDLE);
        }
        // One for a stream that has ended may have been on its way.
        let Some(index) = self.find(id) else { return Ok(()) };
        let stream = &mut self.streams[index];
        match stream.output.window.grow(increment) {
            Ok(()) => {
                self.wake(index);
                Ok(())
            }
            Err(FlowError) => self.on_stream_error(id, ErrorCode::FLOW_CONTROL_ERROR, cx),
        }
    }

    /// Takes a piece of a DATA frame out of the inbox, of this many bytes.
    pub(super) fn on_data(
        &mut self,
        piece: &DataPiece,
        bytes: usize,
        inbox: &mut Inbox,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        let DataPiece { stream: id, ref data, flow_bytes, frame_bytes, end_stream } = *piece;
        let length = data.len();
        inbox.consume(data.start);
        self.payload_bytes += length as u64;
        self.count_overhead(bytes - length, cx)?;
        if frame_bytes == Some(0) && !end_stream {
            self.count(Counted::EmptyData, cx)?;
        }
        if self.flow.receive_window.receive(flow_bytes).is_err() {
            cx.counters.count_http2_limit(Http2Limit::ConnectionWindow);
            return Err(EXCESS);
        }
        if id > self.last_stream || !id.is_of_client() {
            return Err(IDLE);
        }
        let accepted = self.accept_data(id, length, flow_bytes, end_stream, cx);
        match accepted {
            Ok(Some(index)) => inbox.move_to(&mut self.streams[index].input.body, length),
            Ok(None) | Err(_) => inbox.consume(length),
        }
        // Padding.
        inbox.consume(bytes - data.start - length);
        match accepted {
            Ok(_) => Ok(()),
            Err(code) => self.on_stream_error(id, code, cx),
        }
    }

    /// Counts data of a stream, with its padding. Returns the position of the stream if it wants the data;
    /// otherwise they are consumed. An error is one of the stream.
    fn accept_data(
        &mut self,
        id: StreamId,
        length: usize,
        flow_bytes: u32,
        end_stream: bool,
        cx: &Context<'_>,
    ) -> Result<Option<usize>, ErrorCode> {
        let Some(index) = self.find(id) else {
            self.flow.receive_window.consume(flow_bytes);
            let Some(dropped) = self.find_dropped(id) else { return Err(ErrorCode::STREAM_CLOSED) };
            let Some(left) = dropped.window.checked_sub(flow_bytes) else {
                cx.counters.count_http2_limit(Http2Limit::StreamWindow);
                return Err(ErrorCode::FLOW_CONTROL_ERROR);
            };
            dropped.window = left;
            self.forget_dropped(id, end_stream);
            return Ok(None);
        };
        let stream = &mut *self.streams[index];
        if stream.input.has_ended {
            self.flow.receive_window.consume(flow_bytes);
            return Err(ErrorCode::STREAM_CLOSED);
        }
        if stream.input.window.receive(flow_bytes).is_err() {
            self.flow.receive_window.consume(flow_bytes);
            cx.counters.count_http2_limit(Http2Limit::StreamWindow);
            return Err(ErrorCode::FLOW_CONTROL_ERROR);
        }
        // From here on both windows count it: they are balanced when the stream ends.
        stream.input.declared.receive(length as u64).map_err(|_| ErrorCode::PROTOCOL_ERROR)?;
        if end_stream {
            stream.input.declared.end().map_err(|_| ErrorCode::PROTOCOL_ERROR)?;
        }
        // Only an upstream wants a body. The client is not asked for more.
        let wants_it = stream.wants_body();
        let consumed = if wants_it { flow_bytes - length as u32 } else { flow_bytes };
        stream.input.window.consume(consumed);
        self.flow.receive_window.consume(consumed);
        stream.input.received_bytes += length as u64;
        stream.input.has_ended = end_stream;
        self.wake(index);
        Ok(wants_it.then_some(index))
    }

    /// Resets a stream for an error of the client.
    pub(super) fn on_stream_error(
        &mut self,
        id: StreamId,
        code: ErrorCode,
        cx: &mut Context<'_>,
    ) -> Result<(), ConnectionError> {
        if id > self.last_stream {
            return Err(IDLE);
        }
        tracing::debug!(stream = id.get(), %code, "HTTP/2 stream error");
        #[cfg(feature = "internals")]
        let code = if planted_bug::strikes(Http2Bug::WrongCode) { ErrorCode::REFUSED_STREAM } else { code };
        match self.find(id) {
            Some(index) => self.end_stream(index, StreamEnd::CutOff(Some(code)), CloseReason::ClientLeft, cx),
            #[cfg(feature = "internals")]
            None if planted_bug::strikes(Http2Bug::SilentError) => {}
            None => {
                self.push_reset(id, code);
                if self.find_dropped(id).is_none() {
                    self.note_dropped(id, self.new_window());
                }
                self.count(Counted::Glitch, cx)?;
            }
        }
        self.count(Counted::ResetEmitted, cx)
    }

    /// The client has ended a stream that was left: nothing more can come on it.
    fn forget_dropped(&mut self, id: StreamId, end_stream: bool) {
        if end_stream {
            self.dropped.retain(|dropped| dropped.id != id);
            self.answered.retain(|(answered, _)| *answered != id);
        }
    }
}

const OVERFLOW: ConnectionError =
    ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, "a window is larger than 2^31 - 1 bytes");

const EXCESS: ConnectionError =
    ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, "more data than the window of the connection allows");
