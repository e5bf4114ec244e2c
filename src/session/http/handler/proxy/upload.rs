//! The transfer of a request's body to an upstream.
//!
//! Only limits are handled here, not framing, connections and timeouts.

use super::ProxyRoute;
use crate::driver::Time;
use crate::http::forward::ConnectionNames;
use crate::http::{BodyFraming, ErrorResponse, RequestHead, Status};
use crate::session::http::stream::{BodyPart, ClientStream};
use crate::upstream::UpstreamStream;

/// The transfer of a request body.
#[derive(Debug)]
pub(super) struct Upload {
    bytes: u64,
    /// Trailers with these names are for this hop only.
    named: ConnectionNames,
    /// Part of the body was consumed, so the request cannot be retried.
    pub(super) has_begun: bool,
}

/// The response to a body larger than `max_body_size`.
pub(super) const TOO_LARGE: ErrorResponse = ErrorResponse::new(Status::CONTENT_TOO_LARGE, "request body is too large");

impl Upload {
    /// The transfer of the body beneath this head.
    pub(super) fn new(head: &RequestHead<'_>) -> Self {
        let may_have_trailers = head.framing == BodyFraming::Chunked;
        let named = if may_have_trailers { ConnectionNames::of(&head.fields) } else { ConnectionNames::default() };
        Self { bytes: 0, named, has_begun: false }
    }

    /// Bytes of the body so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the upstream the part of the body that has arrived, as far as there is credit.
    pub(super) fn step(
        &mut self,
        client: &mut impl ClientStream,
        upstream: &mut UpstreamStream<'_>,
        route: &ProxyRoute,
        now: Time,
    ) -> Result<(), ErrorResponse> {
        while let Some(part) = client.next_body(upstream.credit(), now)? {
            self.has_begun = true;
            match part {
                BodyPart::Data(data) => {
                    self.bytes += data.len() as u64;
                    if route.body_bytes_max != 0 && self.bytes > route.body_bytes_max {
                        return Err(TOO_LARGE);
                    }
                    upstream.send_received(data);
                }
                BodyPart::End(trailers) => {
                    let trailers = trailers.and_then(|trailers| route.request.pass_trailers(trailers, &self.named));
                    upstream.send_end(trailers.as_deref());
                }
            }
        }
        Ok(())
    }
}
