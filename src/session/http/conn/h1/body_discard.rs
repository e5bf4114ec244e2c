//! Discards the rest of a request body, up to a limit, to find the next request behind it.

use crate::http::{BodyReader, ErrorResponse, Status};

/// The rest of a body to be discarded.
#[derive(Debug)]
pub(super) struct BodyDiscard {
    body: BodyReader,
    /// Bytes that may still be read, including framing.
    left: u64,
}

impl BodyDiscard {
    /// The rest of a body; `None` if the body is complete. At most `bytes_max` bytes are read.
    pub(super) fn new(mut body: BodyReader, bytes_max: u64) -> Option<Self> {
        body.drop_trailers();
        (!body.is_done()).then_some(Self { body, left: bytes_max })
    }

    /// Whether the rest may be within the limit.
    pub(super) fn is_short(&self) -> bool {
        self.body.data_left().is_none_or(|bytes| bytes <= self.left)
    }

    /// Consumes part of `bytes`: returns how many, and whether the body is complete.
    pub(super) fn discard(&mut self, bytes: &[u8]) -> Result<(usize, bool), ErrorResponse> {
        let piece = self.body.next(bytes)?;
        self.left = self
            .left
            .checked_sub(piece.length() as u64)
            .ok_or(ErrorResponse::new(Status::CONTENT_TOO_LARGE, "request body exceeds the discard limit"))?;
        Ok((piece.length(), piece.is_end))
    }
}
