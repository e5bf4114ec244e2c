//! Bodies of forwarded messages: finds the data in the bytes that arrive, and gives the framing to
//! write around the data that leaves.
//!
//! One reader serves requests and responses. It points at the data in its input and holds none of
//! it, only trailers. The framing of the sent body need not be that of the received one. This module does not know
//! heads, limits on a body's size, or where the data goes.

use super::chunked::{CHUNK_END, ChunkLimits, Decoder, LAST_CHUNK, SizeLine, Step};
use super::framing::BodyFraming;
use super::h1::head_encoder::push_line;
use super::response_head::ResponseFraming;
use super::status::ErrorResponse;
use super::trailers::Trailers;

/// Finds a body's data in the bytes that follow a head.
///
/// ```
/// use xps::internals::http::{ResponseFraming, BodyReader};
///
/// let bytes = b"3\r\nxps\r\n0\r\n\r\nwhat follows";
/// let mut body = BodyReader::from(ResponseFraming::Chunked);
/// let (mut data, mut at) = (Vec::new(), 0);
/// while !body.is_done() {
///     let piece = body.next(&bytes[at..])?;
///     data.extend_from_slice(&bytes[at..][piece.range()]);
///     at += piece.length();
/// }
/// assert_eq!((&data[..], &bytes[at..]), (&b"xps"[..], &b"what follows"[..]));
/// # Ok::<(), xps::internals::http::ErrorResponse>(())
/// ```
#[derive(Clone, Debug)]
pub enum BodyReader {
    /// Number of bytes still to come; 0 if the body is complete or there is none.
    Length(u64),
    /// The chunked coding.
    Chunked(Box<Decoder>),
    /// All bytes until the sender closes.
    UntilClose,
}

/// What [`BodyReader::next`] found at the start of its input: first bytes that are not data, then
/// bytes of data. Both are consumed; the rest of the input is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of framing.
    pub skip: usize,
    /// Bytes of data after the framing; may be 0.
    pub data: usize,
    /// Whether the body ends with these bytes.
    pub is_end: bool,
}

impl BodyReader {
    /// Reader of an empty body.
    pub const EMPTY: Self = Self::Length(0);

    /// Reads the bytes after those consumed so far. Call it again with the rest while there is one
    /// and [`BodyReader::is_done`] is false. After that nothing more is consumed.
    ///
    /// After an error the end of the body is unknown, and so is the start of the next head. The
    /// error's status is for the client. A bad body of an upstream, whatever the error, is a
    /// [`super::BadResponse`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, ErrorResponse> {
        match self {
            Self::Length(left) => {
                let data = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= data as u64;
                Ok(Piece { skip: 0, data, is_end: *left == 0 })
            }
            Self::Chunked(decoder) => Ok(match decoder.decode(bytes)? {
                Step::Data { skip, length } => Piece { skip, data: length, is_end: false },
                Step::More => Piece { skip: bytes.len(), data: 0, is_end: false },
                Step::End { consumed } => Piece { skip: consumed, data: 0, is_end: true },
            }),
            Self::UntilClose => Ok(Piece { skip: 0, data: bytes.len(), is_end: false }),
        }
    }

    /// Whether the body has ended. False for a body that ends when the sender closes.
    pub const fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Whether the body is complete if the sender closes now. If not, it is truncated (RFC 9112,
    /// 8).
    pub const fn is_complete_at_close(&self) -> bool {
        matches!(self, Self::UntilClose) || self.is_done()
    }

    /// Number of bytes of data still to come, if known.
    pub const fn data_left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// The trailers of a body that has ended, once; `None` if there are none.
    pub fn take_trailers(&mut self) -> Option<Box<Trailers>> {
        match self {
            Self::Chunked(decoder) => decoder.take_trailers(),
            Self::Length(_) | Self::UntilClose => None,
        }
    }

    /// Gathers no trailers from now on.
    pub fn drop_trailers(&mut self) {
        match self {
            Self::Chunked(decoder) => decoder.drop_trailers(),
            Self::Length(_) | Self::UntilClose => {}
        }
    }

    /// Bytes of memory that trailers occupy so far.
    pub const fn memory(&self) -> usize {
        match self {
            Self::Chunked(decoder) => decoder.memory(),
            Self::Length(_) | Self::UntilClose => 0,
        }
    }

    /// The upper bound of [`BodyReader::memory`], and of the bytes of written trailers. Gathered bytes
    /// may occupy twice as much memory.
    pub const TRAILERS_MEMORY_MAX: usize = 2 * ChunkLimits::DEFAULT.trailer_bytes_max as usize;
}

impl From<BodyFraming> for BodyReader {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None => Self::EMPTY,
            BodyFraming::Length(length) => Self::Length(length),
            BodyFraming::Chunked => Self::Chunked(Box::default()),
        }
    }
}

impl From<ResponseFraming> for BodyReader {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None => Self::EMPTY,
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::Chunked => Self::Chunked(Box::new(Decoder::of_response())),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }
}

impl Piece {
    /// Number of bytes consumed.
    pub const fn length(&self) -> usize {
        self.skip + self.data
    }

    /// Range of the data in the input.
    pub const fn range(&self) -> std::ops::Range<usize> {
        self.skip..self.length()
    }
}

/// The framing to write around a body's data.
///
/// ```
/// use xps::internals::http::BodyWriter;
///
/// let writer = BodyWriter::Chunked;
/// let mut out = Vec::new();
/// for data in ["completion", "ring"] {
///     out.extend_from_slice(writer.before(data.len() as u64).as_ref().map_or(b"", |line| line.as_bytes()));
///     out.extend_from_slice(data.as_bytes());
///     out.extend_from_slice(writer.after());
/// }
/// out.extend_from_slice(writer.end());
/// assert_eq!(out, b"a\r\ncompletion\r\n4\r\nring\r\n0\r\n\r\n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyWriter {
    /// None: the head has a `Content-Length`, or closing ends the body.
    Plain,
    /// The chunked coding.
    Chunked,
}

impl BodyWriter {
    /// The bytes before `data_bytes` of data, which must not be 0.
    pub fn before(self, data_bytes: u64) -> Option<SizeLine> {
        match self {
            Self::Plain => None,
            Self::Chunked => Some(SizeLine::new(data_bytes)),
        }
    }

    /// The bytes after that data.
    pub const fn after(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Chunked => CHUNK_END,
        }
    }

    /// The bytes after the last data of a complete body. Must not be sent if the body was
    /// truncated.
    pub const fn end(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Chunked => LAST_CHUNK,
        }
    }

    /// The same with trailers; only the chunked coding has a place for them. They must have been
    /// filtered, see [`super::forward::RequestRules::pass_trailers`].
    #[must_use]
    pub fn end_with(self, trailers: &Trailers) -> Vec<u8> {
        match self {
            Self::Plain => Vec::new(),
            Self::Chunked => {
                let mut out = Vec::with_capacity(LAST_CHUNK.len() + trailers.line_bytes());
                out.extend_from_slice(b"0\r\n");
                for field in trailers.iter() {
                    push_line(&mut out, field.name, field.value);
                }
                out.extend_from_slice(b"\r\n");
                out
            }
        }
    }
}

impl From<BodyFraming> for BodyWriter {
    fn from(framing: BodyFraming) -> Self {
        match framing {
            BodyFraming::None | BodyFraming::Length(_) => Self::Plain,
            BodyFraming::Chunked => Self::Chunked,
        }
    }
}

impl From<ResponseFraming> for BodyWriter {
    fn from(framing: ResponseFraming) -> Self {
        match framing {
            ResponseFraming::None | ResponseFraming::Length(_) | ResponseFraming::UntilClose => Self::Plain,
            ResponseFraming::Chunked => Self::Chunked,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The data found, and the end of the body if it was found, when `bytes` arrive in pieces of at
    /// most `size`.
    fn read(mut body: BodyReader, bytes: &[u8], size: usize) -> Result<(Vec<u8>, Option<usize>), ErrorResponse> {
        let (mut data, mut at) = (Vec::new(), 0);
        while !body.is_done() && at < bytes.len() {
            let input = &bytes[at..bytes.len().min(at + size)];
            let piece = body.next(input)?;
            assert!(piece.length() > 0, "it goes on");
            assert_eq!(piece.is_end, body.is_done());
            data.extend_from_slice(&input[piece.range()]);
            at += piece.length();
        }
        Ok((data, body.is_done().then_some(at)))
    }

    fn written(writer: BodyWriter, pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            let line = writer.before(piece.len() as u64);
            out.extend_from_slice(line.as_ref().map_or(b"", SizeLine::as_bytes));
            out.extend_from_slice(piece);
            out.extend_from_slice(writer.after());
        }
        out.extend_from_slice(writer.end());
        out
    }

    #[test]
    fn row_69_what_follows_a_body_is_not_of_it() {
        for size in [1, 2, 3, 100] {
            assert_eq!(read(BodyReader::Length(3), b"abcHTTP", size), Ok((b"abc".to_vec(), Some(3))));
            let chunks = BodyReader::from(BodyFraming::Chunked);
            assert_eq!(read(chunks, b"3\r\nabc\r\n0\r\n\r\nHTTP", size), Ok((b"abc".to_vec(), Some(13))));
            assert_eq!(read(BodyReader::UntilClose, b"abcHTTP", size), Ok((b"abcHTTP".to_vec(), None)));
            assert_eq!(read(BodyReader::EMPTY, b"HTTP", size), Ok((vec![], Some(0))));
        }
    }

    #[test]
    fn a_body_that_is_over_consumes_nothing() {
        let mut chunks = BodyReader::from(ResponseFraming::Chunked);
        assert_eq!(chunks.next(LAST_CHUNK), Ok(Piece { skip: 5, data: 0, is_end: true }));
        for mut body in [BodyReader::EMPTY, chunks] {
            assert_eq!(body.next(b"HTTP"), Ok(Piece { skip: 0, data: 0, is_end: true }));
        }
    }

    #[test]
    fn row_63_a_close_cuts_short_what_is_not_complete() {
        let chunks = |bytes| {
            let mut body = BodyReader::from(ResponseFraming::Chunked);
            body.next(bytes).unwrap();
            body.is_complete_at_close()
        };
        assert!(chunks(b"0\r\n\r\n") && !chunks(b"0\r\n\r") && !chunks(b"") && !chunks(b"3\r\nabc"));
        assert!(BodyReader::EMPTY.is_complete_at_close() && !BodyReader::Length(1).is_complete_at_close());
        assert!(BodyReader::UntilClose.is_complete_at_close());
    }

    #[test]
    fn framings_have_their_reader() {
        let left = |body: BodyReader| (body.data_left(), body.is_done());
        assert_eq!(left(BodyFraming::None.into()), (Some(0), true));
        assert_eq!(left(BodyFraming::Length(7).into()), (Some(7), false));
        assert_eq!(left(BodyFraming::Chunked.into()), (None, false));
        assert_eq!(left(ResponseFraming::None.into()), (Some(0), true));
        assert_eq!(left(ResponseFraming::Length(u64::MAX).into()), (Some(u64::MAX), false));
        assert_eq!(left(ResponseFraming::UntilClose.into()), (None, false));
    }

    #[test]
    fn row_18_trailers_follow_chunks_and_nothing_else() {
        let mut trailers = Trailers::new();
        trailers.push(b"X-T", b"1");
        assert_eq!(BodyWriter::Chunked.end_with(&trailers), b"0\r\nX-T: 1\r\n\r\n");
        assert_eq!(BodyWriter::Plain.end_with(&trailers), b"");
        let mut body = BodyReader::from(ResponseFraming::Chunked);
        body.next(&BodyWriter::Chunked.end_with(&trailers)).unwrap();
        assert!(body.memory() > 0 && body.memory() <= BodyReader::TRAILERS_MEMORY_MAX);
        assert_eq!(body.take_trailers().as_deref(), Some(&trailers));
        assert_eq!((body.take_trailers(), body.memory(), body.is_done()), (None, 0, true));
        assert_eq!(BodyReader::from(BodyFraming::None).take_trailers(), None);
    }

    #[test]
    fn row_63_a_malformed_chunk_is_refused() {
        assert!(read(BodyFraming::Chunked.into(), b"3\r\nabcd", 3).is_err());
        assert!(read(ResponseFraming::Chunked.into(), b"x", 3).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn row_61_62_what_is_written_is_read_again_however_it_arrives(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            size in 1usize..50,
        ) {
            let data = pieces.concat();
            let framings = [BodyFraming::Length(data.len() as u64), BodyFraming::Chunked];
            for framing in framings {
                let mut bytes = written(framing.into(), &pieces);
                let end = bytes.len();
                bytes.extend_from_slice(b"HTTP");
                prop_assert_eq!(read(framing.into(), &bytes, size), Ok((data.clone(), Some(end))));
            }
        }
    }
}
