//! Data of a body on their way to a peer, its end, and the framing that they get.

use crate::buffer::{Chain, Chunk, ReceivedData};
use crate::http::chunked::SizeLine;
use crate::http::{BodyWriter, Trailers};

/// Moves received data to the end of a chain, with the writer's framing.
pub(crate) fn push_data(chain: &mut Chain, writer: BodyWriter, data: ReceivedData<'_>) {
    if data.is_empty() {
        return;
    }
    let line = writer.before(data.len() as u64);
    data.push_to(chain, line.as_ref().map_or(&[], SizeLine::as_bytes), writer.after());
}

/// Appends data to a chain, with the writer's framing.
pub(crate) fn push_chunk(chain: &mut Chain, writer: BodyWriter, data: Chunk) {
    if data.is_empty() {
        return;
    }
    if let Some(line) = writer.before(data.len() as u64) {
        chain.append(line.as_bytes());
    }
    chain.push(data);
    chain.push(writer.after());
}

/// Appends the end of a complete body to a chain, with trailers if there are any.
pub(crate) fn push_end(chain: &mut Chain, writer: BodyWriter, trailers: Option<&Trailers>) {
    match trailers {
        Some(trailers) => chain.push(Chunk::shared(writer.end_with(trailers))),
        None => chain.push(writer.end()),
    }
}
