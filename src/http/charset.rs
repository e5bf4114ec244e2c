//! The `charset` parameter of text types: the configured one, or one detected from the file's
//! content.

use std::fmt;

/// The charset parameter of text types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8 for files that are UTF-8 and not plain ASCII; none for the others.
    #[default]
    Auto,
    /// No charset.
    Off,
    /// This charset, a token, for all text.
    Named(String),
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Length of the start of a file that [`Charset::Auto`] examines. Bytes.
pub const SAMPLE_BYTES: usize = 64 << 10;

/// Length of the start of a file that [`is_utf8`] needs, since a character may begin in the sample
/// and end after it. Bytes.
pub const READ_BYTES: usize = SAMPLE_BYTES + 3;

/// Whether a file with this start is UTF-8 and not plain ASCII, judged by its first
/// [`SAMPLE_BYTES`]. ASCII needs no charset: it is the same in every charset that browsers guess.
///
/// Bytes after the first [`READ_BYTES`] are not examined.
pub fn is_utf8(bytes: &[u8]) -> bool {
    let bytes = &bytes[..bytes.len().min(READ_BYTES)];
    let valid_bytes = match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(error) => error.valid_up_to(),
    };
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    valid_bytes >= sample.len() && !sample.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beyond_ascii_that_is_utf_8_is_told_from_everything_else() {
        for utf8 in ["Grüße", "é", "\u{feff}text", "日本語", "🙂"] {
            assert!(is_utf8(utf8.as_bytes()), "{utf8}");
        }
        let others: [&[u8]; 8] = [
            b"",
            b"plain\n",
            b"a\0b",
            b"Gr\xfc\xdfe",
            b"\xff\xfea\0",
            // Cut in the middle of a character, overlong, a surrogate.
            b"Gr\xc3",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
        ];
        for other in others {
            assert!(!is_utf8(other), "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_character_may_lie_across_the_end_of_what_is_looked_at() {
        for character in ["é", "€", "🙂"] {
            for before in SAMPLE_BYTES - 4..SAMPLE_BYTES {
                let text = [&b"a".repeat(before)[..], character.as_bytes(), &b"a".repeat(100)].concat();
                assert!(is_utf8(&text), "{character} at {before}");
                assert!(is_utf8(&text[..text.len().min(READ_BYTES)]), "{character} at {before}");
                let mut broken = text.clone();
                broken[before + character.len() - 1] = b'a';
                assert!(!is_utf8(&broken), "{character} broken at {before}");
            }
        }
        // A character after the sample is not seen, whether valid or not.
        assert!(!is_utf8(&[&b"a".repeat(SAMPLE_BYTES)[..], "é".as_bytes()].concat()));
        let bad_behind = ["é".as_bytes(), &b"a".repeat(SAMPLE_BYTES - 2), b"\xff\xff\xff\xff"].concat();
        assert!(is_utf8(&bad_behind));
    }
}
