//! One field block as it arrives: the fragments of HEADERS and of the CONTINUATIONs after it.
//!
//! Each fragment is decoded at once, so at most one field that is cut between two fragments is held
//! as sent. A block is decoded to its end whatever becomes of its stream, since the decoder's table
//! is that of the connection: for a refused stream, call [`BlockReader::push`] all the same and
//! ignore the fields.
//!
//! | bound | beyond it |
//! |---|---|
//! | size of the list, and number of fields ([`HeadLimits`]) | [`FieldBlock::excess`]: a 431 |
//! | four times the size | ENHANCE_YOUR_CALM |
//! | a cut field, as sent: four times the size | ENHANCE_YOUR_CALM |
//! | [`CONTINUATIONS_MAX`] | ENHANCE_YOUR_CALM |

use super::error::{ConnectionError, ErrorCode};
use super::field_block::FieldBlock;
use super::hpack::Decoder;
use crate::http::head::HeadLimits;

/// CONTINUATION frames of a block, unless another maximum is set. Clients need two for the largest list that is accepted; without a
/// bound, empty ones would go on for ever.
pub const CONTINUATIONS_MAX: u32 = 20;

/// Decodes one field block after another, and keeps the memory between them.
///
/// ```
/// use xps::internals::http::HeadLimits;
/// use xps::internals::http::h2::hpack::Decoder;
/// use xps::internals::http::h2::{BlockReader, FieldBlock};
///
/// let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
/// reader.push(&mut decoder, &[0x82, 0x87, 0x84, 0x41, 0x02], false)?;
/// reader.push(&mut decoder, b"h:", true)?;
/// let fields: FieldBlock = reader.take();
/// assert_eq!(fields.iter().last().map(|field| field.value), Some(&b"h:"[..]));
/// # Ok::<(), xps::internals::http::h2::ConnectionError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockReader {
    fields: FieldBlock,
    /// The beginning of a field whose end is in the next fragment.
    cut: Vec<u8>,
    /// Fragments so far: that of HEADERS and those of CONTINUATIONs.
    fragments: u32,
    continuations_max: u32,
}

impl BlockReader {
    /// A reader without memory. `limits` are those of each list of fields.
    pub fn new(limits: &HeadLimits) -> Self {
        Self { fields: FieldBlock::new(limits), cut: Vec::new(), fragments: 0, continuations_max: CONTINUATIONS_MAX }
    }

    /// The same with another maximum of CONTINUATION frames of a block.
    #[must_use]
    pub fn with_continuations_max(self, continuations_max: u32) -> Self {
        Self { continuations_max, ..self }
    }

    /// Adds the fragment of a HEADERS or CONTINUATION frame; `is_last`: it has END_HEADERS, and the
    /// fields are complete. Before the next block, they are removed by [`BlockReader::take`] or
    /// [`BlockReader::clear`]. After an error the connection ends.
    pub fn push(&mut self, decoder: &mut Decoder, fragment: &[u8], is_last: bool) -> Result<(), ConnectionError> {
        if self.is_full() {
            return Err(TOO_MANY_FRAGMENTS);
        }
        self.fragments += 1;
        let decoded = if self.cut.is_empty() {
            let length = decoder.decode(fragment, is_last, &mut self.fields);
            length.map(|length| self.cut.extend_from_slice(fragment.get(length..).unwrap_or_default()))
        } else {
            self.cut.extend_from_slice(fragment);
            let length = decoder.decode(&self.cut, is_last, &mut self.fields);
            length.map(|length| drop(self.cut.drain(..length)))
        };
        decoded.map_err(|error| error.connection_error())?;
        if self.cut.len() > self.fields.given_up_at() {
            return Err(TOO_LARGE);
        }
        if is_last {
            self.cut = Vec::new();
        }
        Ok(())
    }

    /// Whether the block has all the CONTINUATION frames that it may have. If it is not complete, another
    /// fragment is an error.
    pub const fn is_full(&self) -> bool {
        self.fragments > self.continuations_max
    }

    /// The fields: all, if the last fragment was added.
    pub const fn fields(&self) -> &FieldBlock {
        &self.fields
    }

    /// The fields of a complete block, to be kept: see [`super::head::StoredHead`].
    #[must_use]
    pub fn take(&mut self) -> FieldBlock {
        self.fragments = 0;
        self.fields.take()
    }

    /// Removes the fields, and keeps their memory for the next block.
    pub fn clear(&mut self) {
        self.fragments = 0;
        self.fields.clear();
    }

    /// Memory that is held.
    pub fn memory(&self) -> usize {
        self.fields.memory() + self.cut.capacity()
    }
}

const TOO_MANY_FRAGMENTS: ConnectionError =
    ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, "a field block has too many CONTINUATION frames");

const TOO_LARGE: ConnectionError = ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, "a field is too large by far");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2::field_block::Excess;
    use crate::http::h2::hpack::encoder::push_field;

    fn text(block: &FieldBlock) -> String {
        block.iter().map(|field| format!("{field:?}|")).collect()
    }

    #[test]
    fn a_block_may_be_cut_anywhere() {
        let mut block = vec![0x82, 0x40, 1, b'a', 1, b'b'];
        push_field(&mut block, b"cookie", b"x");
        block.extend_from_slice(&[0xbe, 0x10, 1, b'c', 1, b'd']);
        push_field(&mut block, b"cookie", b"y");
        for first in 0..=block.len() {
            for second in first..=block.len() {
                let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
                reader.push(&mut decoder, &block[..first], false).unwrap();
                reader.push(&mut decoder, &block[first..second], false).unwrap();
                reader.push(&mut decoder, &block[second..], true).unwrap();
                assert_eq!(text(reader.fields()), ":method: GET|a: b|cookie: x; y|a: b|c: d|");
                let never = reader.fields().never_indexed().map(|field| field.name.to_vec());
                assert_eq!(never.collect::<Vec<_>>(), [&b"cookie"[..], b"c"]);
                assert_eq!(reader.cut.capacity(), 0);
                reader.clear();
                reader.push(&mut decoder, &[0xbe], true).unwrap();
                assert_eq!(text(&reader.take()), "a: b|");
                assert_eq!(text(reader.fields()), "");
            }
        }
    }

    #[test]
    fn the_number_of_fragments_is_bounded() {
        let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&HeadLimits::default()));
        for _ in 0..2 {
            for _ in 0..CONTINUATIONS_MAX {
                reader.push(&mut decoder, b"", false).unwrap();
            }
            reader.push(&mut decoder, b"\x82", true).unwrap();
            reader.clear();
        }
        for _ in 0..=CONTINUATIONS_MAX {
            reader.push(&mut decoder, b"", false).unwrap();
        }
        let error = reader.push(&mut decoder, b"\x82", true).unwrap_err();
        assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
    }

    #[test]
    fn a_list_beyond_its_limit_is_decoded_until_it_is_far_beyond() {
        let limits = HeadLimits { head_bytes_max: 100, ..HeadLimits::default() };
        let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&limits));
        let large = [&b"\x40\x01a\x46"[..], &[b'x'; 70], b"\x40\x01b\x01y"].concat();
        for piece in large.chunks(10) {
            reader.push(&mut decoder, piece, false).unwrap();
        }
        reader.push(&mut decoder, b"", true).unwrap();
        assert_eq!(reader.take().excess(), Some(Excess::Size));
        reader.push(&mut decoder, b"\xbe", true).unwrap();
        assert_eq!((text(reader.fields()).as_str(), reader.fields().excess()), ("b: y|", None), "the table is right");
        reader.clear();
        let error = reader.push(&mut decoder, &[0xbf; 5], true).unwrap_err();
        assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
    }

    #[test]
    fn a_cut_field_is_bounded() {
        let limits = HeadLimits { head_bytes_max: 100, ..HeadLimits::default() };
        let (mut decoder, mut reader) = (Decoder::new(), BlockReader::new(&limits));
        // A value of 2000 bytes is announced.
        reader.push(&mut decoder, b"\x00\x01a\x7f\xd1\x0e", false).unwrap();
        reader.push(&mut decoder, &[b'x'; 300], false).unwrap();
        let error = reader.push(&mut decoder, &[b'x'; 100], false).unwrap_err();
        assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
    }
}
