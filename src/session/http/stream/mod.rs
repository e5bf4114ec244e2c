//! The client's side of one exchange, without the connection that it is on.
//!
//! ```text
//!   request body     next_body: data, the end · is_body_done · has_left
//!   response         begin_head, send_head · send_data · send_end      while there is credit
//! ```
//!
//! What forwards a request speaks to a [`ClientStream`], and the server's own bodies to a
//! [`BodySink`], which takes files as well. Neither knows how bodies are framed towards the client,
//! what else is on the connection, and when the connection sends. Each version of HTTP has its own
//! streams ([`h1`]).

mod body_data;
pub(crate) mod h1;
pub(crate) mod h2;
#[cfg(feature = "internals")]
pub mod planted_bug;
mod response_encoder;

pub(crate) use self::response_encoder::{EncodedResponse, Http2Response, PreparedKey, ResponseEncoder, ResponseSink};
use crate::buffer::{Chunk, ReceivedData};
use crate::client::Room;
use crate::driver::{File, Ops, Time};
use crate::http::range::Span;
use crate::http::{ErrorResponse, ResponseHead, Trailers};

/// Limit of the outbox: while it holds this many bytes of responses, no further request is read.
pub(crate) const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// What comes next of a request body.
#[derive(Debug)]
pub(crate) enum BodyPart<'s> {
    /// Data, to be moved on. There may be none in it.
    Data(ReceivedData<'s>),
    /// The body is complete. It comes once, and only if there is a body. With its trailers, if it has
    /// any; their fields are not filtered.
    End(Option<Box<Trailers>>),
}

/// A stream, together with the parts of its connection that it uses for the moment.
pub(crate) trait ClientStream {
    /// Whether the client has left, or ended its side in the middle of its request.
    fn has_left(&mut self, now: Time) -> bool;

    /// Whether the end of the request body was handed out, or there is none.
    fn is_body_done(&self) -> bool;

    /// What has arrived of the request body, data of at most `credit` bytes. `None`: nothing more has
    /// arrived, there is no credit, or the body is complete. After an error the end of the body is
    /// unknown.
    fn next_body(&mut self, credit: usize, now: Time) -> Result<Option<BodyPart<'_>>, ErrorResponse>;

    /// Whether there is room for a head. Heads need no credit: the client has to take them in any
    /// case, and one at a time is bounded. There may be many interim responses, though.
    fn has_room(&self) -> bool;

    /// Number of bytes of the body that may be given now.
    fn credit(&self) -> usize;

    /// How much of a response may be given now.
    fn room(&self) -> Room {
        Room { takes_head: self.has_room(), data_bytes: self.credit() }
    }

    /// Whether some of what was given is not sent yet.
    fn has_unsent(&self) -> bool;

    /// The position that the next byte of the body has: the exchange's record subtracts such
    /// positions. Where it begins, and whether framing counts, is up to the version of HTTP.
    fn given_bytes(&self) -> u64;

    /// Whether the client takes nothing of a body until something has been received from it.
    fn awaits_window(&self) -> bool;

    /// Whether the client wants the trailers of a response without a length.
    fn takes_trailers(&self) -> bool;

    /// The sink for the head of the final response, or of 101. [`ClientStream::send_head`] sends it.
    fn begin_head(&self) -> ResponseEncoder;

    /// The sink for an interim response (1xx); `None` if the client understands none.
    /// [`ClientStream::send_interim`] sends it.
    fn begin_interim(&self) -> Option<ResponseEncoder>;

    /// Sends an interim response.
    fn send_interim(&mut self, encoder: ResponseEncoder);

    /// Sends the head of an upstream's response that was written to `encoder`. The body follows.
    fn send_head(&mut self, encoder: ResponseEncoder, head: &ResponseHead<'_>);

    /// Sends data of the body, at most [`ClientStream::credit`] bytes.
    fn send_data(&mut self, data: ReceivedData<'_>);

    /// Sends the end of a complete body, and its trailers if [`ClientStream::takes_trailers`]. Without
    /// it, the response is truncated.
    fn send_end(&mut self, trailers: Option<&Trailers>);
}

/// What the body of a response of the server's own is sent to. Its head was sent.
pub(crate) trait BodySink {
    /// Whether it takes the next piece, of any size.
    fn takes_piece(&self) -> bool;

    /// Sends data of the body.
    fn send_data(&mut self, data: Chunk);

    /// Sends part of a file. [`BodySink::takes_piece`] must be true, and the span must not be empty.
    /// The file has to stay open until it takes the next piece.
    fn send_file(&mut self, file: File, span: Span, ops: &mut Ops);

    /// Sends the end of the body.
    fn send_end(&mut self);
}
