//! The transfer of a request's head and body to an upstream.
//!
//! Only framing and limits are handled here, not connections and timeouts.

use std::ops::Range;

use crate::buffer::{Chain, Chunk};
use crate::driver::Time;
use crate::http::forward::HostRule;
use crate::http::{BodyFraming, BodyWriter, ErrorResponse, Status};
use crate::session::http::stream::RequestBody;
use crate::upstream::UpstreamLease;

/// The transfer of a request body.
#[derive(Debug)]
pub(super) struct Upload {
    /// The framing towards the upstream.
    writer: BodyWriter,
    bytes: u64,
    /// Part of the body was consumed, so the request cannot be retried.
    pub(super) has_begun: bool,
}

/// The response to a body larger than `max_body_size`.
pub(super) const TOO_LARGE: ErrorResponse = ErrorResponse::new(Status::CONTENT_TOO_LARGE, "request body is too large");

impl Upload {
    pub(super) fn new(framing: BodyFraming) -> Self {
        Self { writer: BodyWriter::from(framing), bytes: 0, has_begun: false }
    }

    /// Moves the part of the body that has arrived to the end of `chain`.
    pub(super) fn fill(
        &mut self,
        chain: &mut Chain,
        mut body: RequestBody<'_>,
        bytes_max: u64,
        now: Time,
    ) -> Result<(), ErrorResponse> {
        while let Some(data) = body.next(now)? {
            self.has_begun = true;
            self.bytes += data.len() as u64;
            if bytes_max != 0 && self.bytes > bytes_max {
                return Err(TOO_LARGE);
            }
            data.push_to(chain, self.writer);
            if body.is_done() {
                chain.push(self.writer.end());
            }
        }
        Ok(())
    }
}

/// A request head as sent to an upstream.
#[derive(Debug)]
pub(super) struct UpstreamHead {
    pub(super) bytes: Chunk,
    /// Where the value of `Host` is. With [`HostRule::Upstream`] it is that of one upstream of the
    /// group.
    pub(super) host: Range<usize>,
}

impl UpstreamHead {
    /// Appends the head. With [`HostRule::Upstream`] its `Host` becomes that of the chosen upstream.
    pub(super) fn push_to(&self, chain: &mut Chain, rule: &HostRule, lease: &UpstreamLease) {
        match (rule, lease.upstream()) {
            (HostRule::Upstream, Some(upstream)) if lease.group().len() > 1 => {
                chain.push(Chunk::shared(&self.bytes[..self.host.start]));
                chain.push(Chunk::shared(upstream.address().authority().into_bytes()));
                chain.push(Chunk::shared(&self.bytes[self.host.end..]));
            }
            _ => chain.push(self.bytes.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Inbox, Pool, PoolConfig, SizeClass};
    use crate::http::BodyReader;

    /// The chain of a chunked body that has arrived.
    fn uploaded(inbox: &mut Inbox, writer: BodyWriter) -> Chain {
        let mut reader = BodyReader::from(BodyFraming::Chunked);
        let mut latest = Time::ZERO;
        let body = RequestBody::new(&mut reader, inbox, &mut latest);
        let mut upload = Upload { writer, ..Upload::new(BodyFraming::Chunked) };
        let mut chain = Chain::new();
        upload.fill(&mut chain, body, 0, Time::ZERO).unwrap();
        chain
    }

    /// The chain of a body of `length` bytes in chunks of one byte, received in large buffers.
    fn one_byte_chunks(length: usize, writer: BodyWriter) -> Chain {
        let pool = Pool::new(PoolConfig::default());
        let mut inbox = Inbox::default();
        let bytes = b"1\r\nx\r\n".repeat(length);
        for piece in bytes.chunks(pool.size(SizeClass::Large)) {
            let fill = |memory: &mut [u8]| {
                memory[..piece.len()].copy_from_slice(piece);
                Ok::<_, std::convert::Infallible>(piece.len())
            };
            inbox.push(pool.filled(SizeClass::Large, fill).unwrap().unwrap());
        }
        uploaded(&mut inbox, writer)
    }

    #[test]
    fn a_body_in_one_byte_chunks_becomes_few_entries_and_holds_about_its_own_bytes() {
        const LENGTH: usize = 100_000;
        for writer in [BodyWriter::Chunked, BodyWriter::Plain] {
            let chain = one_byte_chunks(LENGTH, writer);
            let expected =
                if writer == BodyWriter::Chunked { b"1\r\nx\r\n".repeat(LENGTH) } else { vec![b'x'; LENGTH] };
            assert!(chain.to_vec() == expected, "{writer:?}");
            assert!(chain.chunks().len() <= 50, "{} entries, {writer:?}", chain.chunks().len());
            assert!(chain.memory() <= 3 * expected.len(), "{} bytes of memory, {writer:?}", chain.memory());
        }
    }

    #[test]
    fn large_chunks_leave_in_the_memory_they_were_received_in() {
        let pool = Pool::new(PoolConfig::default());
        let mut inbox = Inbox::default();
        let bytes = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat().repeat(3);
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(&bytes);
            Ok::<_, std::convert::Infallible>(bytes.len())
        };
        inbox.push(pool.filled(SizeClass::Small, fill).unwrap().unwrap());
        let chain = uploaded(&mut inbox, BodyWriter::Chunked);
        assert_eq!(chain.chunks().iter().filter(|chunk| matches!(chunk, Chunk::Pool(_))).count(), 3);
        assert!(chain.to_vec() == bytes);
    }
}
