//! Sends each line back reversed, with its newline at the end, until the client closes its side.
//!
//! Bytes are reversed, not characters, as in eXpServer's first stages. A last line without a
//! newline is reversed as it is. A line longer than `line_bytes_max` is reversed in pieces of
//! exactly that length, so a client that never sends a newline uses no more memory.

use super::echo::close_reason_of;
use super::{CloseReason, Context, Task};
use crate::buffer::{Buffer, Chain, Chunk};
use crate::session::Limits;
use crate::tcp::Pipe;
use crate::transport::{Transport, relay_back};

#[derive(Debug)]
pub(super) struct Reverse {
    lines: Lines,
    pipe: Pipe,
}

/// Splits a stream into lines and reverses them.
#[derive(Debug)]
struct Lines {
    /// The start of a line whose newline has not arrived; shorter than `line_bytes_max`.
    partial: Vec<u8>,
    line_bytes_max: usize,
}

impl Reverse {
    pub(super) fn new(limits: &Limits) -> Self {
        let lines = Lines { partial: Vec::new(), line_bytes_max: limits.line_bytes_max.max(1) };
        Self { lines, pipe: Pipe::new() }
    }
}

impl Task for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }

    fn on_received(&mut self, buffer: Buffer) {
        self.lines.feed(buffer, &mut |chunk| self.pipe.push(chunk));
    }

    fn pump(&mut self, client: &mut Transport, cx: &mut Context<'_>) -> Option<CloseReason> {
        if client.input_end().is_some() {
            self.lines.finish(&mut |chunk| self.pipe.push(chunk));
        }
        relay_back(client, &mut self.pipe, cx.hold_max, cx.ops);
        close_reason_of(client)
    }

    fn take_unsent(&mut self) -> Chain {
        self.pipe.take()
    }

    fn memory(&self) -> usize {
        self.lines.partial.capacity() + self.pipe.memory()
    }
}

impl Lines {
    /// Emits every line that these bytes complete, reversed. Whole lines are reversed in place;
    /// only lines that cross the buffer's edges are copied.
    fn feed(&mut self, mut buffer: Buffer, out: &mut impl FnMut(Chunk)) {
        if !self.partial.is_empty() {
            let wanted = self.line_bytes_max - self.partial.len();
            let Some(length) = next_line(&buffer, wanted) else {
                self.partial.extend_from_slice(&buffer);
                return;
            };
            self.partial.extend_from_slice(&buffer[..length]);
            buffer.advance(length);
            self.finish(out);
        }
        let mut whole = 0;
        while let Some(length) = next_line(&buffer[whole..], self.line_bytes_max) {
            whole += length;
        }
        self.partial.extend_from_slice(&buffer[whole..]);
        buffer.truncate(whole);
        match buffer.try_mut() {
            Some(bytes) => {
                self.reverse_lines(bytes);
                out(buffer.into());
            }
            // The buffer is shared, so it must not change.
            None => {
                let mut bytes = buffer.to_vec();
                self.reverse_lines(&mut bytes);
                out(Chunk::shared(bytes));
            }
        }
    }

    /// Emits the partial line, reversed.
    fn finish(&mut self, out: &mut impl FnMut(Chunk)) {
        if !self.partial.is_empty() {
            let mut line = std::mem::take(&mut self.partial);
            reverse_line(&mut line);
            out(Chunk::shared(line));
        }
    }

    fn reverse_lines(&self, mut bytes: &mut [u8]) {
        while let Some(length) = next_line(bytes, self.line_bytes_max) {
            let (line, rest) = bytes.split_at_mut(length);
            reverse_line(line);
            bytes = rest;
        }
    }
}

/// The length of the first line or, if it is longer than `length_max`, of its first piece; `None` if
/// neither is complete.
fn next_line(bytes: &[u8], length_max: usize) -> Option<usize> {
    let within = &bytes[..bytes.len().min(length_max)];
    match within.iter().position(|byte| *byte == b'\n') {
        Some(newline) => Some(newline + 1),
        None => (within.len() == length_max).then_some(length_max),
    }
}

fn reverse_line(line: &mut [u8]) {
    let length = line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len);
    line[..length].reverse();
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::buffer::{Pool, PoolConfig, SizeClass};

    fn received(pool: &Pool, bytes: &[u8]) -> Buffer {
        let fill = |memory: &mut [u8]| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, Infallible>(bytes.len())
        };
        pool.filled(SizeClass::Small, fill).unwrap().unwrap()
    }

    fn reversed(pieces: &[&[u8]], line_bytes_max: usize) -> Vec<u8> {
        let pool = Pool::new(PoolConfig::default());
        let mut lines = Lines { partial: Vec::new(), line_bytes_max };
        let mut sent = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            lines.feed(received(&pool, piece), &mut |chunk| sent.extend_from_slice(&chunk));
            assert!(lines.partial.len() < line_bytes_max);
        }
        lines.finish(&mut |chunk| sent.extend_from_slice(&chunk));
        sent
    }

    #[test]
    fn each_line_is_reversed_and_its_newline_stays() {
        assert_eq!(reversed(&[b"abc\n\nde\nf"], 100), b"cba\n\ned\nf");
    }

    #[test]
    fn a_line_in_several_pieces_is_one_line() {
        assert_eq!(reversed(&[b"a", b"bc", b"d\nxy", b"z\n"], 100), b"dcba\nzyx\n");
    }

    #[test]
    fn a_line_beyond_the_limit_is_reversed_in_pieces() {
        assert_eq!(reversed(&[b"abcdefgh\n"], 3), b"cbafedhg\n");
        assert_eq!(reversed(&[b"ab", b"cdefgh\n"], 3), b"cbafedhg\n");
        assert_eq!(reversed(&[b"abc\n"], 3), b"cba\n");
    }

    proptest! {
        /// The result does not depend on how the network splits the stream.
        #[test]
        fn cuts_do_not_matter(
            pieces in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..20), 0..20),
            line_bytes_max in 1..12_usize,
        ) {
            let whole = pieces.concat();
            let mut expected = Vec::new();
            for line in whole.split_inclusive(|byte| *byte == b'\n') {
                let mut line = line;
                while !line.is_empty() {
                    let (piece, rest) = line.split_at(line.len().min(line_bytes_max));
                    let mut piece = piece.to_vec();
                    reverse_line(&mut piece);
                    expected.extend(piece);
                    line = rest;
                }
            }
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(reversed(&pieces, line_bytes_max), expected);
        }
    }
}
