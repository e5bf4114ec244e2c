//! Trailers: the fields after a body (RFC 9110, 6.5).
//!
//! They are read once and in order, so there is no index. They are kept apart from the head and never
//! change what it says. Which of them are forwarded is decided in [`super::forward`]; how they are
//! framed is not known here.

use super::fields::Field;
use super::token::{is_token, trim};

/// The trailers of one message, with valid names and values.
#[derive(Clone, Default)]
pub struct Trailers {
    /// Lines of name, colon and value, each with CRLF and without any other CR or LF.
    lines: Vec<u8>,
}

impl Trailers {
    /// Without fields.
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Received lines that a decoder has checked.
    pub(super) const fn received(lines: Vec<u8>) -> Self {
        Self { lines }
    }

    /// Appends a field. One whose name is not a token, or whose value could break the line, is left
    /// out.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let is_valid = is_token(name) && !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | b'\0'));
        debug_assert!(is_valid, "{:?} is not a field", name.escape_ascii());
        if is_valid {
            for part in [name, b":", value, b"\r\n"] {
                self.lines.extend_from_slice(part);
            }
        }
    }

    /// The fields in order; values without surrounding white space.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.lines.split_inclusive(|byte| *byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some(Field { name: &line[..colon], value: trim(line[colon + 1..].strip_suffix(b"\r\n")?) })
        })
    }

    /// Keeps the fields with these names only.
    pub fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        if self.iter().all(|field| is_kept(field.name)) {
            return;
        }
        let mut kept = Self::new();
        for field in self.iter().filter(|field| is_kept(field.name)) {
            kept.push(field.name, field.value);
        }
        *self = kept;
    }

    /// Whether there are no fields.
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes that the lines take up when they are written, unless values begin without white space:
    /// that of each adds one.
    pub fn line_bytes(&self) -> usize {
        self.lines.len() + self.lines.iter().filter(|byte| **byte == b'\n').count()
    }
}

impl PartialEq for Trailers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Trailers {}

impl std::fmt::Debug for Trailers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(trailers: &Trailers) -> Vec<(&[u8], &[u8])> {
        trailers.iter().map(|field| (field.name, field.value)).collect()
    }

    #[test]
    fn fields_keep_their_order_and_lose_the_blanks_around_them() {
        let trailers = Trailers::received(b"A: 1\r\nb:\r\nA:\t x:y \r\n".to_vec());
        assert_eq!(of(&trailers), [(&b"A"[..], &b"1"[..]), (b"b", b""), (b"A", b"x:y")]);
        assert!(!trailers.is_empty() && Trailers::new().is_empty());
        let mut same = Trailers::new();
        trailers.iter().for_each(|field| same.push(field.name, field.value));
        assert_eq!(of(&same), of(&trailers));
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let mut trailers = Trailers::received(b"A: 1\r\nB: 2\r\nA: 3\r\n".to_vec());
        trailers.retain(|name| name == b"A");
        assert_eq!(of(&trailers), [(&b"A"[..], &b"1"[..]), (b"A", b"3")]);
        trailers.retain(|_| false);
        assert!(trailers.is_empty());
    }
}
