//! The transfer of a request's body to an upstream.
//!
//! Only limits are handled here, not framing, connections and timeouts.

use crate::driver::Time;
use crate::http::{ErrorResponse, Status};
use crate::session::http::stream::{BodyPart, ClientStream};
use crate::upstream::UpstreamStream;

/// The transfer of a request body.
#[derive(Debug, Default)]
pub(super) struct Upload {
    bytes: u64,
    /// Part of the body was consumed, so the request cannot be retried.
    pub(super) has_begun: bool,
}

/// The response to a body larger than `max_body_size`.
pub(super) const TOO_LARGE: ErrorResponse = ErrorResponse::new(Status::CONTENT_TOO_LARGE, "request body is too large");

impl Upload {
    /// Gives the upstream the part of the body that has arrived, as far as there is credit.
    pub(super) fn step(
        &mut self,
        client: &mut impl ClientStream,
        upstream: &mut UpstreamStream<'_>,
        bytes_max: u64,
        now: Time,
    ) -> Result<(), ErrorResponse> {
        while let Some(part) = client.next_body(upstream.credit(), now)? {
            self.has_begun = true;
            match part {
                BodyPart::Data(data) => {
                    self.bytes += data.len() as u64;
                    if bytes_max != 0 && self.bytes > bytes_max {
                        return Err(TOO_LARGE);
                    }
                    upstream.send_received(data);
                }
                BodyPart::End => upstream.send_end(),
            }
        }
        Ok(())
    }
}
