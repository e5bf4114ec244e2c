//! The chunked coding (RFC 9112, 7.1): a decoder that finds the data in its input, and size lines.
//!
//! ```text
//!          digits                CRLF                     all of it          CRLF
//!   Size ─────────► Extension ─────────► Data(n) ─────────────────► DataEnd ──────► Size
//!                                  │ n = 0
//!                                  ▼        CRLF on its own
//!                               Trailers ────────────────────────► Done
//! ```
//!
//! The decoder gets bytes as they arrive, split anywhere, and holds none of them but trailers. It is
//! strict with requests. In a response, blanks may follow a chunk size. Extensions are checked and
//! dropped; trailers are checked and gathered. Nothing after the head can change what the head says.
//! The decoder does not know what the data is, nor which trailers may be forwarded.

use super::status::{ErrorResponse, Status};
use super::token::{hex_value, is_token_byte};
use super::trailers::Trailers;

/// The end of a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Limits on everything but the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Bytes of one size line besides the size: leading zeros, white space and extensions.
    pub size_line_bytes_max: u32,
    /// The same for all size lines of a body, beyond one byte for each byte of data: tiny chunks
    /// with long extensions are an attack.
    pub overhead_bytes_max: u32,
    /// Bytes of all trailers of a body.
    pub trailer_bytes_max: u32,
    /// Number of trailer lines.
    pub trailer_fields_max: u32,
}

impl ChunkLimits {
    /// Size lines of 4 KiB, 16 KiB beyond the data, and the limits of a head for trailers.
    pub const DEFAULT: Self = Self {
        size_line_bytes_max: 4 * 1024,
        overhead_bytes_max: 16 * 1024,
        trailer_bytes_max: 32 * 1024,
        trailer_fields_max: 100,
    };
}

impl Default for ChunkLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What [`Decoder::decode`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `skip` bytes that are not data, then `length` bytes of data, at least one. Both are
    /// consumed.
    Data {
        /// Bytes before the data.
        skip: usize,
        /// Bytes of data.
        length: usize,
    },
    /// All of the input is consumed, and more is needed.
    More,
    /// The body is complete. It ended after `consumed` bytes; the rest does not belong to it.
    End {
        /// Bytes without data.
        consumed: usize,
    },
}

/// Finds the data in a chunked body.
///
/// ```
/// use xps::internals::http::chunked::{Decoder, Step};
///
/// let body = b"3\r\nxps\r\n0\r\n\r\nwhat follows";
/// let mut decoder = Decoder::default();
/// assert_eq!(decoder.decode(body)?, Step::Data { skip: 3, length: 3 });
/// assert_eq!(decoder.decode(&body[6..])?, Step::End { consumed: 7 });
/// # Ok::<(), xps::internals::http::ErrorResponse>(())
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    limits: ChunkLimits,
    /// Bytes read of the current size line, or of the trailers.
    line_bytes: u32,
    /// Bytes of overhead in all size lines so far, less the bytes of data.
    overhead_bytes: u64,
    trailer_fields: u32,
    /// The trailer lines so far, as they arrived. Without any, it owns no memory.
    trailers: Vec<u8>,
    /// Trailers are checked and not gathered.
    drops_trailers: bool,
    /// Blanks may follow a chunk size. Many servers send this form. It can be used for an attack
    /// only in a request (RFC 9112, 7.1.1).
    permits_blanks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size. `any`: there was a digit already.
    Size {
        value: u64,
        any: bool,
    },
    /// In white space after the size.
    SizeBlank(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

const START: State = State::Size { value: 0, any: false };

impl Default for Decoder {
    fn default() -> Self {
        Self::new(ChunkLimits::default())
    }
}

impl Decoder {
    /// A decoder for a request's body.
    pub const fn new(limits: ChunkLimits) -> Self {
        Self {
            state: START,
            limits,
            line_bytes: 0,
            overhead_bytes: 0,
            trailer_fields: 0,
            trailers: Vec::new(),
            drops_trailers: false,
            permits_blanks: false,
        }
    }

    /// A decoder for a response's body.
    pub fn of_response() -> Self {
        Self { permits_blanks: true, ..Self::default() }
    }

    /// Gathers no trailers from now on.
    pub fn drop_trailers(&mut self) {
        self.trailers = Vec::new();
        self.drops_trailers = true;
    }

    /// The trailers of a body that has ended, once; `None` if there are none.
    pub fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        debug_assert!(self.is_done(), "there may be more trailers");
        if self.trailers.is_empty() {
            return None;
        }
        Some(Box::new(Trailers::received(std::mem::take(&mut self.trailers))))
    }

    /// Bytes of memory that trailers occupy so far.
    pub const fn memory(&self) -> usize {
        self.trailers.capacity()
    }

    /// Whether the body has ended. After that nothing is consumed.
    pub const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Reads the bytes after those consumed so far. Call it until it returns [`Step::More`] or
    /// [`Step::End`].
    ///
    /// After an error the end of the message is unknown, and so is the start of the next one.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, ErrorResponse> {
        for (at, &byte) in input.iter().enumerate() {
            if let State::Data(left) = self.state {
                return Ok(self.data(left, at, input.len() - at));
            }
            if self.is_done() {
                return Ok(Step::End { consumed: at });
            }
            self.state = self.next(byte)?;
        }
        Ok(if self.is_done() { Step::End { consumed: input.len() } } else { Step::More })
    }

    fn data(&mut self, left: u64, skip: usize, available: usize) -> Step {
        let length = usize::try_from(left).map_or(available, |left| left.min(available));
        let left = left - length as u64;
        self.state = if left == 0 { State::DataCr } else { State::Data(left) };
        self.overhead_bytes = self.overhead_bytes.saturating_sub(length as u64);
        Step::Data { skip, length }
    }

    /// The state after `byte`, which is not data.
    fn next(&mut self, byte: u8) -> Result<State, ErrorResponse> {
        match (self.state, byte) {
            (State::Size { value, any }, _) => self.size(value, any, byte),
            (State::SizeBlank(value), b' ' | b'\t') => self.overhead(State::SizeBlank(value)),
            (State::SizeBlank(value), b';') => self.overhead(State::Extension(value)),
            (State::SizeBlank(value), b'\r') if self.permits_blanks => Ok(State::SizeLf(value)),
            (State::Extension(value), b'\r') => Ok(State::SizeLf(value)),
            (State::Extension(value), b'\t' | 0x20..=0x7e | 0x80..) => self.overhead(State::Extension(value)),
            (State::SizeLf(value), b'\n') => {
                self.line_bytes = 0;
                Ok(if value == 0 { State::TrailerStart } else { State::Data(value) })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(START),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart, _) if is_token_byte(byte) => {
                self.trailer_fields += 1;
                self.trailer(byte, State::TrailerName)
            }
            (State::TrailerName, b':') => self.trailer(byte, State::TrailerValue),
            (State::TrailerName, _) if is_token_byte(byte) => self.trailer(byte, State::TrailerName),
            (State::TrailerValue, b'\r') => self.trailer(byte, State::TrailerLf),
            (State::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => self.trailer(byte, State::TrailerValue),
            (State::TrailerLf, b'\n') => self.trailer(byte, State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::SizeBlank(_), _) => Err(ErrorResponse::bad_request("a chunk's size is not hexadecimal")),
            (State::Extension(_), _) => Err(ErrorResponse::bad_request("a chunk's extension has a control character")),
            (State::DataCr | State::DataLf, _) => Err(ErrorResponse::bad_request("a chunk is longer than its size")),
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                Err(ErrorResponse::bad_request("a trailer is malformed"))
            }
            (State::SizeLf(_) | State::TrailerLf | State::EndLf, _) => {
                Err(ErrorResponse::bad_request("a line of a chunked body does not end in CRLF"))
            }
            // `decode` handles these states itself.
            (State::Data(_) | State::Done, _) => Ok(self.state),
        }
    }

    fn size(&mut self, value: u64, any: bool, byte: u8) -> Result<State, ErrorResponse> {
        match (hex_value(byte), byte) {
            (Some(digit), _) => {
                if value >> 60 != 0 {
                    return Err(ErrorResponse::bad_request("a chunk's size does not fit in 64 bits"));
                }
                let value = value << 4 | u64::from(digit);
                let state = State::Size { value, any: true };
                // Only leading zeros can be repeated without end.
                if any && value == 0 { self.overhead(state) } else { Ok(state) }
            }
            (None, b'\r') if any => Ok(State::SizeLf(value)),
            (None, b';') if any => self.overhead(State::Extension(value)),
            (None, b' ' | b'\t') if any => self.overhead(State::SizeBlank(value)),
            (None, _) => Err(ErrorResponse::bad_request("a chunk's size is not hexadecimal")),
        }
    }

    fn overhead(&mut self, next: State) -> Result<State, ErrorResponse> {
        self.line_bytes += 1;
        self.overhead_bytes += 1;
        let is_too_much = self.line_bytes > self.limits.size_line_bytes_max
            || self.overhead_bytes > u64::from(self.limits.overhead_bytes_max);
        if is_too_much { Err(ErrorResponse::bad_request("the chunks' extensions are too long")) } else { Ok(next) }
    }

    /// Gathers a byte of a trailer line. `next`: the state after it.
    fn trailer(&mut self, byte: u8, next: State) -> Result<State, ErrorResponse> {
        self.line_bytes += 1;
        let is_too_much =
            self.line_bytes > self.limits.trailer_bytes_max || self.trailer_fields > self.limits.trailer_fields_max;
        if is_too_much {
            return Err(ErrorResponse::new(Status::REQUEST_HEADER_FIELDS_TOO_LARGE, "the trailers are too large"));
        }
        if !self.drops_trailers {
            self.trailers.push(byte);
        }
        Ok(next)
    }
}

/// The line before a chunk's data: its size.
#[derive(Clone, Copy, Debug)]
pub struct SizeLine {
    /// At most 16 digits and CRLF, aligned to the end of the array.
    bytes: [u8; 18],
    start: usize,
}

impl SizeLine {
    /// The line for `length` bytes of data. Must not be 0, which would end the body.
    pub fn new(length: u64) -> Self {
        debug_assert!(length > 0, "a chunk without data ends the body");
        let mut bytes = [0; 18];
        bytes[16..].copy_from_slice(CHUNK_END);
        let mut start = 16;
        let mut left = length;
        while left > 0 {
            start -= 1;
            bytes[start] = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
        }
        Self { bytes, start }
    }

    /// The line with its CRLF.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data and the length in bytes of a whole body; `None` if it is not complete.
    fn body(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, u16> {
        let (mut decoder, mut data, mut at) = (Decoder::default(), Vec::new(), 0);
        loop {
            match decoder.decode(&bytes[at..]).map_err(|error| error.status.code())? {
                Step::Data { skip, length } => {
                    assert!(length > 0);
                    data.extend_from_slice(&bytes[at + skip..][..length]);
                    at += skip + length;
                }
                Step::More => return Ok(None),
                Step::End { consumed } => return Ok(Some((data, at + consumed))),
            }
        }
    }

    #[test]
    fn data_is_found_between_the_lines() {
        assert_eq!(body(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET"), Ok(Some((b"abc0123456789".to_vec(), 28))));
        assert_eq!(body(LAST_CHUNK), Ok(Some((vec![], 5))));
        assert_eq!(body(b"00\r\n\r\n"), Ok(Some((vec![], 6))));
        assert_eq!(body(b"3\r\nab"), Ok(None));
    }

    #[test]
    fn a_finished_decoder_consumes_nothing() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(LAST_CHUNK), Ok(Step::End { consumed: 5 }));
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(b"GET"), Ok(Step::End { consumed: 0 }));
        assert_eq!(decoder.decode(b""), Ok(Step::End { consumed: 0 }));
    }

    #[test]
    fn row_15_sizes_that_are_not_plain_hexadecimal_are_refused() {
        for bad in
            ["\r\n", "x\r\n", "+3\r\n", "-3\r\n", "0x3\r\n", " 3\r\n", "3 3\r\n", "3 \r\n", "3\n", "3\r3", ";\r\n"]
        {
            assert_eq!(body(bad.as_bytes()), Err(400), "{bad:?}");
        }
        assert_eq!(body(b"10000000000000000\r\n"), Err(400));
        assert_eq!(body(b"FFFFFFFFFFFFFFFFF"), Err(400));
        assert_eq!(body(b"FFFFFFFFFFFFFFFF\r\nabc"), Ok(None));
        assert_eq!(body(b"0000000000000000003\r\nabc\r\n0\r\n\r\n"), Ok(Some((b"abc".to_vec(), 31))));
    }

    #[test]
    fn row_15_in_an_answer_blanks_may_follow_a_size() {
        let body = b"3 \r\nabc\r\n2\t \t\r\nde\r\n0  \r\n\r\n";
        let (mut decoder, mut data, mut at) = (Decoder::of_response(), Vec::new(), 0);
        while !decoder.is_done() {
            match decoder.decode(&body[at..]).unwrap() {
                Step::Data { skip, length } => {
                    data.extend_from_slice(&body[at + skip..][..length]);
                    at += skip + length;
                }
                Step::More => panic!("it is complete"),
                Step::End { consumed } => at += consumed,
            }
        }
        assert_eq!((&data[..], at), (&b"abcde"[..], body.len()));
        for bad in [" 3\r\n", "3 3\r\n", "3 \n", "3 \r3", " \r\n", "3\n", "3 x\r\n"] {
            assert!(Decoder::of_response().decode(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Decoder::of_response().decode(&[b"3".as_slice(), &[b' '; 5000]].concat()).is_err(), "they are bounded");
    }

    #[test]
    fn row_16_extensions_are_skipped_within_limits() {
        assert_eq!(body(b"3;a=b;c=\"d\" \r\nabc\r\n0 ; x\r\n\r\n"), Ok(Some((b"abc".to_vec(), 28))));
        for bad in ["3;a\nabc", "3;a\0", "3;a\rb", "3;\x7f"] {
            assert_eq!(body(bad.as_bytes()), Err(400), "{bad:?}");
        }
        let long = [b"3;".as_slice(), &[b'a'; 5000]].concat();
        assert_eq!(body(&long), Err(400));
        assert_eq!(body(&[b'0'; 5000]), Err(400));
        let line = [b"1;".as_slice(), &[b'a'; 100], b"\r\nx\r\n"].concat();
        assert_eq!(body(&line.repeat(100)), Ok(None));
        assert_eq!(body(&line.repeat(200)), Err(400), "tiny chunks with long extensions");
        let signed = [b"10000;".as_slice(), &[b's'; 80], b"\r\n", &[b'x'; 0x10000], b"\r\n"].concat();
        assert_eq!(body(&signed.repeat(300)), Ok(None), "extensions in proportion to the data");
    }

    #[test]
    fn row_17_data_must_end_where_its_size_says() {
        for bad in ["3\r\nabcd\r\n", "3\r\nabc\n", "3\r\nabc0\r\n\r\n", "3\r\nabc\rx"] {
            assert_eq!(body(bad.as_bytes()), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn row_18_trailers_are_gathered_however_they_arrive() {
        let bytes = b"1\r\nx\r\n0\r\nX-A:  1 \r\nb:\r\nX-A: 2\r\n\r\n";
        let mut lines = Trailers::new();
        for (name, value) in [("X-A", "1"), ("b", ""), ("X-A", "2")] {
            lines.push(name.as_bytes(), value.as_bytes());
        }
        for size in [1, 2, 7, bytes.len()] {
            let (mut kept, mut dropped) = (Decoder::default(), Decoder::default());
            dropped.drop_trailers();
            for decoder in [&mut kept, &mut dropped] {
                for mut piece in bytes.chunks(size) {
                    while let Step::Data { skip, length } = decoder.decode(piece).unwrap() {
                        assert_eq!(decoder.memory(), 0, "nothing is held without trailers");
                        piece = &piece[skip + length..];
                    }
                }
            }
            assert_eq!(kept.take_trailers().as_deref(), Some(&lines), "in pieces of {size}");
            assert_eq!((kept.take_trailers(), kept.memory()), (None, 0));
            assert_eq!((dropped.take_trailers(), dropped.memory()), (None, 0));
        }
    }

    #[test]
    fn row_18_trailers_are_checked_and_bounded() {
        let bytes = b"0\r\nContent-Length: 9\r\nX:\r\n\r\nrest";
        assert_eq!(body(bytes), Ok(Some((vec![], bytes.len() - 4))));
        for bad in ["0\r\n: x\r\n\r\n", "0\r\nx : y\r\n\r\n", "0\r\n x: y\r\n\r\n", "0\r\nx: y\n\r\n", "0\r\nx\r\n\r\n"]
        {
            assert_eq!(body(bad.as_bytes()), Err(400), "{bad:?}");
        }
        for bad in ["0\r\nx: \0\r\n", "0\r\n\rx", "0\r\n\n", "0\r\nx: y\r\n z\r\n\r\n"] {
            assert_eq!(body(bad.as_bytes()), Err(400), "{bad:?}");
        }
        assert_eq!(body(&[b"0\r\nx: ".as_slice(), &[b'y'; 40_000]].concat()), Err(431));
        assert_eq!(body(&[b"0\r\n".as_slice(), &b"x: y\r\n".repeat(101)].concat()), Err(431));
    }

    #[test]
    fn size_lines_are_hexadecimal() {
        assert_eq!(SizeLine::new(1).as_bytes(), b"1\r\n");
        assert_eq!(SizeLine::new(0x1a2f).as_bytes(), b"1a2f\r\n");
        assert_eq!(SizeLine::new(u64::MAX).as_bytes(), b"ffffffffffffffff\r\n");
    }
}
