//! HTTP messages as the peers of a run read them: as little of the protocol as telling one from the next takes.
//!
//! Written apart from the code that is tested, so that the same mistake would have to be made twice.

/// A message's start line and fields.
#[derive(Debug)]
pub struct Head<'b> {
    pub start: &'b str,
    fields: &'b str,
    /// Bytes of the head, its empty line included.
    pub length: usize,
}

impl<'b> Head<'b> {
    /// The head at the start of `bytes`; `Ok(None)`: it is not there yet.
    pub fn read(bytes: &'b [u8]) -> Result<Option<Self>, String> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[..end + 2]).map_err(|_| "a head that is not text".to_owned())?;
        let (start, fields) = text.split_once("\r\n").ok_or("no start line")?;
        Ok(Some(Self { start, fields, length: end + 4 }))
    }

    /// The value of a field that occurs at most once.
    pub fn field(&self, name: &str) -> Option<&'b str> {
        let mut values = self.fields.lines().filter_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice in {:?}", self.fields);
        value
    }

    pub fn says_close(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.split(',').any(|token| token.trim() == "close"))
    }

    /// How the body beneath this head is delimited; `None` if nothing says so.
    pub fn framing(&self) -> Result<Option<Decoder>, String> {
        match (self.field("Content-Length"), self.field("Transfer-Encoding")) {
            (Some(_), Some(_)) => Err("two framings".to_owned()),
            (Some(length), None) => {
                let length = length.parse().map_err(|_| format!("a length of {length:?}"))?;
                Ok(Some(Decoder::of_length(length)))
            }
            (None, Some("chunked")) => Ok(Some(Decoder::Size)),
            (None, Some(coding)) => Err(format!("a coding of {coding:?}")),
            (None, None) => Ok(None),
        }
    }
}

/// Takes a body out of its framing, as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes.
    Plain(usize),
    /// A chunk's size is next.
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// A trailer, or the empty line at the end of the body.
    Trailers,
    UntilClose,
    Done,
}

impl Decoder {
    pub const fn of_length(length: usize) -> Self {
        if length == 0 { Self::Done } else { Self::Plain(length) }
    }

    /// Moves what there is of the body to `body`, and the lines after it to `trailers`. Returns how many bytes are dealt with.
    pub fn decode(&mut self, bytes: &[u8], body: &mut Vec<u8>, trailers: &mut Vec<String>) -> Result<usize, String> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            match *self {
                Self::Done => return Ok(taken),
                Self::UntilClose => {
                    body.extend_from_slice(rest);
                    return Ok(bytes.len());
                }
                Self::Plain(left) | Self::Chunk(left) => {
                    let count = left.min(rest.len());
                    body.extend_from_slice(&rest[..count]);
                    taken += count;
                    *self = match (*self, left - count) {
                        (Self::Plain(_), 0) => Self::Done,
                        (Self::Plain(_), left) => Self::Plain(left),
                        (_, 0) => Self::ChunkEnd,
                        (_, left) => Self::Chunk(left),
                    };
                    if count < left {
                        return Ok(taken);
                    }
                }
                Self::Size => {
                    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(taken) };
                    let digits = std::str::from_utf8(&rest[..end]).unwrap_or("?");
                    let size = usize::from_str_radix(digits, 16).map_err(|_| format!("a size of {digits:?}"))?;
                    taken += end + 2;
                    *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                }
                Self::ChunkEnd => {
                    match rest {
                        [b'\r', b'\n', ..] => taken += 2,
                        [] | [b'\r'] => return Ok(taken),
                        _ => return Err("no line end where there must be one".to_owned()),
                    }
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(taken) };
                    taken += end + 2;
                    match String::from_utf8_lossy(&rest[..end]) {
                        line if line.is_empty() => *self = Self::Done,
                        line => trailers.push(line.into_owned()),
                    }
                }
            }
        }
    }
}

/// The trailers of a chunked body that belongs to this exchange, as they are sent.
pub fn trailers_of(id: u32) -> &'static [&'static str] {
    match id % 4 {
        0 => &["X-First: 1", "Content-Length: 7", "X-Second: two words", "host: elsewhere"],
        1 => &["X-Only:"],
        _ => &[],
    }
}

/// Those of them that may arrive, as a proxy writes them.
pub fn passed_trailers_of(id: u32) -> Vec<String> {
    let passed = trailers_of(id).iter().filter(|line| line.starts_with("X-"));
    passed.map(|line| if line.ends_with(':') { format!("{line} ") } else { (*line).to_owned() }).collect()
}

/// A body in chunks of at most `most` bytes, and its trailers.
pub fn chunked(body: &[u8], most: usize, trailers: &[&str]) -> Vec<u8> {
    let mut framed = Vec::new();
    for chunk in body.chunks(most.max(1)) {
        framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"0\r\n");
    for line in trailers {
        framed.extend_from_slice(line.as_bytes());
        framed.extend_from_slice(b"\r\n");
    }
    framed.extend_from_slice(b"\r\n");
    framed
}
