//! The request as a client of HTTP/2 sends it, and the response as it gets it.

use super::report::Report;
use super::request::Request;
use crate::cli::failure::Failure;
use crate::config::ListenerConfig;
use crate::http::h2::frame::{FRAME_BYTES_MIN, PREFACE, push_headers, push_settings};
use crate::http::h2::head::HeadContext;
use crate::http::h2::hpack::Decoder;
use crate::http::h2::hpack::encoder::push_field;
use crate::http::h2::reader::Event;
use crate::http::h2::{BadHead, BlockReader, Frame, FrameReader, StoredHead, StreamId};
use crate::http::{HeadLimits, RequestHead};

/// The name of HTTP/2 in ALPN.
const ALPN: &[u8] = b"h2";

/// What the server sends on the request's stream.
#[derive(Debug)]
pub(super) enum Reply {
    /// The fields of a final response.
    Fields(Vec<(String, String)>),
    /// The stream or the connection ends with this error.
    Error(String),
}

/// Says how a client comes to speak HTTP/2 on this listener. If it cannot, that is a failure.
pub(super) fn offered(listener: &ListenerConfig, report: &mut Report) -> Result<(), Failure> {
    let address = listener.address.address();
    let how = match &listener.tls {
        Some(settings) if settings.alpn.iter().any(|protocol| protocol == ALPN) => "chosen by ALPN (h2)",
        Some(_) => {
            return Err(Failure::NotServed(format!("{address} does not offer h2 by ALPN: clients speak HTTP/1.1")));
        }
        None if listener.h2c => "for clients that begin with its preface",
        None => {
            return Err(Failure::NotServed(format!("{address} does not speak HTTP/2 without TLS: `h2c` is off")));
        }
    };
    report.add("", format!("HTTP/2, {how}"));
    Ok(())
}

/// The field block of the request.
fn block(request: &Request) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in request.http2_fields() {
        push_field(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

/// What a client sends on a new connection.
pub(super) fn bytes(request: &Request) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    push_settings(&mut bytes, &[]);
    push_headers(&mut bytes, StreamId::new(1), &block(request), true, FRAME_BYTES_MIN);
    bytes
}

/// The head of the request, within the limits for one.
pub(super) fn stored_head(request: &Request, limits: &HeadLimits) -> Result<StoredHead, Failure> {
    let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(limits));
    reader.push(&mut decoder, &block(request), true).map_err(|error| ended(&error.to_string()))?;
    Ok(StoredHead::new(reader.take(), HeadContext { end_stream: true, connect_protocol: false }))
}

/// The same, as the server sees it.
pub(super) fn head<'h>(stored: &'h StoredHead, limits: &HeadLimits) -> Result<RequestHead<'h>, Failure> {
    stored.head(limits).map_err(|bad| match bad {
        BadHead::Malformed(error) => {
            Failure::NotServed(format!("the stream is reset: PROTOCOL_ERROR: {}", error.reason))
        }
        BadHead::Rejected(error) => super::refused(error),
    })
}

/// Finds the reply in what the server has sent so far; `None`: it is not complete.
pub(super) fn reply(bytes: &[u8]) -> Option<Reply> {
    let mut reader = FrameReader::of_client();
    let (mut decoder, mut block) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
    let mut at = 0;
    loop {
        let step = reader.next(bytes.get(at..)?).ok()?;
        at += step.consumed;
        match step.event? {
            Event::Frame(
                Frame::Headers { fragment, end_headers, .. } | Frame::Continuation { fragment, end_headers, .. },
            ) => {
                block.push(&mut decoder, fragment, end_headers).ok()?;
                if end_headers {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let fields = block.fields().iter().map(|field| (text(field.name), text(field.value)));
                    return Some(Reply::Fields(fields.collect()));
                }
            }
            Event::Frame(Frame::ResetStream { code, .. } | Frame::GoAway { code, .. }) => {
                return Some(Reply::Error(code.to_string()));
            }
            Event::Frame(_) | Event::Data(_) | Event::StreamError(_) => {}
        }
    }
}

/// A stream that ends without a response.
pub(super) fn ended(code: &str) -> Failure {
    Failure::NotServed(format!("the stream ends without a response: {code}"))
}
