//! Answers as they arrive in a stream: where each ends, and whether it is the one that was expected.
//!
//! It reads HTTP/1.1 heads and bodies of a known length. A head is parsed only if it differs from the one before, which
//! happens when the server's date moves on: so reading costs little more than comparing. It knows no sockets.

use std::io;

/// What every answer of a server must be.
pub struct Expected {
    status: u16,
    body: Vec<u8>,
    /// The last head that was found good.
    head: Vec<u8>,
    /// No other head is good.
    is_verbatim: bool,
    etag: Option<String>,
}

/// Where in an answer a connection is.
pub enum Reader {
    /// In the head, of which these bytes came in earlier pieces.
    Head(Vec<u8>),
    /// In the body; so many of its bytes are still to come.
    Body(usize),
}

/// What a piece of the stream brought.
pub struct Read {
    /// Bytes of it that belong to the answer.
    pub bytes: usize,
    /// Whether they end it.
    pub is_end: bool,
}

/// A head that is longer is none.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Fields of a head that are looked at.
const FIELDS_MAX: usize = 64;

impl Expected {
    /// Whatever the head says besides this status and the length of this body.
    pub fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, body, head: Vec::new(), is_verbatim: false, etag: None }
    }

    /// This head, to the byte, which must be valid.
    pub fn verbatim(head: Vec<u8>, body: Vec<u8>) -> Self {
        Self { status: 200, body, head, is_verbatim: true, etag: None }
    }

    /// Bytes of an answer, by the last one's head.
    pub fn answer_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// What the last head calls the present state of the file.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Judges a head that is not the last one.
    fn learn(&mut self, head: &[u8]) -> io::Result<()> {
        if self.is_verbatim {
            return Err(io::Error::other("another head than the origin sent"));
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(head).map_err(|error| io::Error::other(format!("not an HTTP head: {error}")))?;
        let field = |name: &str| {
            let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(field.value).ok()
        };
        if parsed.code != Some(self.status) {
            let status = parsed.code.unwrap_or_default();
            return Err(io::Error::other(format!("answered with status {status} instead of {}", self.status)));
        }
        // A 304 has no body, and may tell the length of the one it does not have (RFC 9110, section 15.4.5).
        if self.status != 304 && field("content-length").and_then(|text| text.parse().ok()) != Some(self.body.len()) {
            return Err(io::Error::other(format!("the answer's length is not given as {}", self.body.len())));
        }
        self.etag = field("etag").map(str::to_owned);
        self.head.clear();
        self.head.extend_from_slice(head);
        Ok(())
    }
}

impl Reader {
    /// At the beginning of an answer.
    pub fn new() -> Self {
        Self::Head(Vec::new())
    }

    /// Bytes that may be skipped, rather than read: the rest of a body.
    pub fn body_left(&self) -> usize {
        match self {
            Self::Head(_) => 0,
            Self::Body(left) => *left,
        }
    }

    /// Takes what belongs to the present answer from the front of what arrived. It compares the body if that is wanted.
    pub fn read(&mut self, piece: &[u8], expected: &mut Expected, compare: bool) -> io::Result<Read> {
        let head_bytes = match self {
            Self::Body(_) => 0,
            Self::Head(earlier) => match head_end(earlier, piece, expected)? {
                Some(count) => {
                    *self = Self::Body(expected.body.len());
                    count
                }
                None => return Ok(Read { bytes: piece.len(), is_end: false }),
            },
        };
        let left = self.body_left();
        let body = &piece[head_bytes..];
        let body = &body[..body.len().min(left)];
        let at = expected.body.len() - left;
        if compare && body != &expected.body[at..at + body.len()] {
            return Err(io::Error::other("other bytes than were to be sent"));
        }
        Ok(Read { bytes: head_bytes + body.len(), is_end: self.skip(body.len()) })
    }

    /// Counts bytes of the body that were not looked at; at most [`Self::body_left`]. Says whether they end the answer.
    pub fn skip(&mut self, count: usize) -> bool {
        let left = self.body_left() - count;
        *self = if left == 0 { Self::new() } else { Self::Body(left) };
        left == 0
    }
}

/// How many bytes of the piece belong to the head, if it ends there; otherwise keeps them.
fn head_end(earlier: &mut Vec<u8>, piece: &[u8], expected: &mut Expected) -> io::Result<Option<usize>> {
    if earlier.is_empty() && !expected.head.is_empty() && piece.starts_with(&expected.head) {
        return Ok(Some(expected.head.len()));
    }
    let before = earlier.len();
    earlier.extend_from_slice(&piece[..piece.len().min(HEAD_BYTES_MAX)]);
    let Some(end) = earlier.windows(4).position(|four| four == b"\r\n\r\n") else {
        if earlier.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::other("a head without an end"));
        }
        return Ok(None);
    };
    let end = end + 4;
    if earlier[..end] != expected.head {
        expected.learn(&earlier[..end])?;
    }
    Ok(Some(end - before))
}
