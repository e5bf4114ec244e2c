//! Integers and strings (RFC 7541, 5), with limits.

use super::huffman;

/// Octets of an integer after the first: values up to 2^28 and a little. Larger ones are for none
/// of what is read here.
const INTEGER_OCTETS_MAX: usize = 4;

/// Largest string as sent: no list of fields holds a longer one.
pub(super) const STRING_BYTES_MAX: usize = 1 << 16;

/// Why an integer or a string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It goes on after the last byte.
    Incomplete,
    /// The integer is too large, or has too many octets.
    Integer,
    /// The string is too long.
    String,
}

/// Reads from the start of some bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'i> {
    pub(super) rest: &'i [u8],
}

/// A string as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'i> {
    pub(super) bytes: &'i [u8],
    pub(super) is_huffman: bool,
}

impl<'i> Cursor<'i> {
    fn byte(&mut self) -> Result<u8, ReadError> {
        let (first, rest) = self.rest.split_first().ok_or(ReadError::Incomplete)?;
        self.rest = rest;
        Ok(*first)
    }

    /// An integer whose first bits are the last `prefix` bits of the next octet.
    pub(super) fn integer(&mut self, prefix: u32) -> Result<u32, ReadError> {
        let mask = u8::MAX >> (8 - prefix);
        let first = self.byte()? & mask;
        let mut value = u32::from(first);
        if first < mask {
            return Ok(value);
        }
        for place in 0..INTEGER_OCTETS_MAX {
            let octet = self.byte()?;
            // At most 28 bits and 255 more.
            value += u32::from(octet & 0x7f) << (7 * place);
            if octet < 0x80 {
                return Ok(value);
            }
        }
        Err(ReadError::Integer)
    }

    pub(super) fn text(&mut self) -> Result<Text<'i>, ReadError> {
        let is_huffman = self.rest.first().ok_or(ReadError::Incomplete)? & 0x80 != 0;
        let length = self.integer(7)? as usize;
        if length > STRING_BYTES_MAX {
            return Err(ReadError::String);
        }
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ReadError::Incomplete)?;
        self.rest = rest;
        Ok(Text { bytes, is_huffman })
    }
}

impl Text<'_> {
    /// Appends the decoded string.
    pub(super) fn decode(self, out: &mut Vec<u8>) -> Result<(), huffman::BadString> {
        if self.is_huffman {
            return huffman::decode(self.bytes, out);
        }
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

/// Appends an integer. `pattern`: the bits before the last `prefix` bits of the first octet.
pub(super) fn push_integer(out: &mut Vec<u8>, pattern: u8, prefix: u32, value: usize) {
    let mask = u8::MAX >> (8 - prefix);
    debug_assert_eq!(pattern & mask, 0);
    if value < usize::from(mask) {
        // Below 255.
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask);
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        out.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    out.push(rest as u8);
}

/// Appends a string as it is.
pub(super) fn push_plain(out: &mut Vec<u8>, text: &[u8]) {
    push_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Appends a string in the shorter of its two forms.
#[cfg(test)]
pub(super) fn push_text(out: &mut Vec<u8>, text: impl ExactSizeIterator<Item = u8> + Clone) {
    let (plain, short) = (text.len(), huffman::encoded_length(text.clone()));
    if short < plain {
        push_integer(out, 0x80, 7, short);
        huffman::encode(text, out);
    } else {
        push_integer(out, 0, 7, plain);
        out.extend(text);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn integer(prefix: u32, bytes: &[u8]) -> Result<(u32, usize), ReadError> {
        let mut cursor = Cursor { rest: bytes };
        cursor.integer(prefix).map(|value| (value, bytes.len() - cursor.rest.len()))
    }

    /// RFC 7541, C.1.
    #[test]
    fn examples_of_the_rfc() {
        assert_eq!(integer(5, &[0b1110_1010, 9]), Ok((10, 1)));
        assert_eq!(integer(5, &[0b0001_1111, 0b1001_1010, 0b0000_1010]), Ok((1337, 3)));
        assert_eq!(integer(8, &[0b0010_1010]), Ok((42, 1)));
        let mut out = Vec::new();
        push_integer(&mut out, 0b1110_0000, 5, 10);
        push_integer(&mut out, 0, 5, 1337);
        push_integer(&mut out, 0, 8, 42);
        assert_eq!(out, [0b1110_1010, 0b0001_1111, 0b1001_1010, 0b0000_1010, 0b0010_1010]);
    }

    #[test]
    fn integers_are_bounded_in_value_and_length() {
        assert_eq!(integer(7, &[0x7f, 0x80, 0x00]), Ok((127, 3)), "zeros in excess");
        assert_eq!(integer(7, &[0x7f, 0xff, 0xff, 0xff, 0x7f]), Ok(((1 << 28) + 126, 5)));
        assert_eq!(integer(7, &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x00]), Err(ReadError::Integer));
        assert_eq!(integer(7, &[0x7f, 0xff, 0xff, 0xff, 0xff]), Err(ReadError::Integer), "without waiting for more");
        for length in 0..4 {
            assert_eq!(integer(7, &[0x7f, 0xff, 0xff, 0xff][..length]), Err(ReadError::Incomplete));
        }
    }

    #[test]
    fn strings_are_bounded_before_they_arrive() {
        let mut out = Vec::new();
        push_integer(&mut out, 0, 7, STRING_BYTES_MAX + 1);
        assert_eq!(Cursor { rest: &out }.text(), Err(ReadError::String));
        out.clear();
        push_integer(&mut out, 0, 7, STRING_BYTES_MAX);
        assert_eq!(Cursor { rest: &out }.text(), Err(ReadError::Incomplete));
        out.resize(out.len() + STRING_BYTES_MAX, b'x');
        assert_eq!(Cursor { rest: &out }.text().map(|text| text.bytes.len()), Ok(STRING_BYTES_MAX));
    }

    #[test]
    fn strings_are_sent_in_the_shorter_form() {
        let pushed = |text: &[u8]| {
            let mut out = Vec::new();
            push_text(&mut out, text.iter().copied());
            out
        };
        assert_eq!(pushed(b"302"), [0x82, 0x64, 0x02]);
        assert_eq!(pushed(b"<"), [0x01, b'<'], "the code is longer");
        assert_eq!(pushed(b"X"), [0x01, b'X'], "the code is as long");
        assert_eq!(pushed(b""), [0x00]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(value in 0u32..1 << 28, prefix in 4u32..=7, text in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            push_integer(&mut out, 0, prefix, value as usize);
            push_text(&mut out, text.iter().copied());
            let mut cursor = Cursor { rest: &out };
            prop_assert_eq!(cursor.integer(prefix), Ok(value));
            let mut decoded = Vec::new();
            cursor.text().unwrap().decode(&mut decoded).unwrap();
            prop_assert_eq!((decoded, cursor.rest), (text, &b""[..]));
        }
    }
}
