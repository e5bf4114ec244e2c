//! The rest of a request's body that nobody wants: read to its end within a bound, so that the next request is found.

use crate::http::{BodyReader, ErrorResponse, Status};

/// What is left of a body.
#[derive(Debug)]
pub(super) struct BodyDiscard {
    body: BodyReader,
    /// Bytes that may still be read, framing included.
    left: u64,
}

impl BodyDiscard {
    /// The rest of a body, unless nothing is left of it; up to `bytes_max` of it are read.
    pub(super) fn new(body: BodyReader, bytes_max: u64) -> Option<Self> {
        (!body.is_done()).then_some(Self { body, left: bytes_max })
    }

    /// Whether it may be short enough to be read.
    pub(super) fn is_short(&self) -> bool {
        self.body.data_left().is_none_or(|bytes| bytes <= self.left)
    }

    /// Takes what it can of `bytes`: how many, and whether the body has ended with them.
    pub(super) fn discard(&mut self, bytes: &[u8]) -> Result<(usize, bool), ErrorResponse> {
        let piece = self.body.next(bytes)?;
        self.left = self
            .left
            .checked_sub(piece.length() as u64)
            .ok_or(ErrorResponse::new(Status::CONTENT_TOO_LARGE, "a body that nobody wants"))?;
        Ok((piece.length(), piece.is_end))
    }
}
