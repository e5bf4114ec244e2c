//! Decodes field blocks.
//!
//! Fields go into a [`FieldBlock`], which applies the limits. The dynamic table follows the peer's
//! even if fields are over a limit and are dropped, since later blocks depend on it. What the
//! decoding of one block may cost is bounded nevertheless: a few bytes can stand for an entry of
//! the table's whole size, so past a multiple of the limit the connection ends
//! ([`HpackError::TooLarge`]). What fields mean is not known here.

use super::dynamic_table::DynamicTable;
pub use super::dynamic_table::TABLE_BYTES_CEILING;
use super::primitive::{Cursor, ReadError, Text};
use super::static_table;
use crate::http::h2::error::{ConnectionError, ErrorCode};
use crate::http::h2::field_block::{FieldBlock, Overflow};
use crate::http::h2::settings::TABLE_BYTES;

/// Updates of the table's size that a block may begin with: the least and the last size since the
/// block before (RFC 7541, 4.2).
const SIZE_UPDATES_MAX: u8 = 2;

/// Decodes the field blocks of one connection, in order.
///
/// ```
/// use xps::internals::http::HeadLimits;
/// use xps::internals::http::h2::FieldBlock;
/// use xps::internals::http::h2::hpack::Decoder;
///
/// let (mut decoder, mut block) = (Decoder::new(), FieldBlock::new(&HeadLimits::default()));
/// let bytes = [0x82, 0x87, 0x84, 0x41, 0x01, b'h'];
/// assert_eq!(decoder.decode(&bytes, true, &mut block), Ok(bytes.len()));
/// let fields: Vec<_> = block.iter().map(|field| (field.name, field.value)).collect();
/// assert_eq!(fields[0], (&b":method"[..], &b"GET"[..]));
/// assert_eq!(fields[3], (&b":authority"[..], &b"h"[..]));
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    table: DynamicTable,
    /// Our SETTINGS_HEADER_TABLE_SIZE that the peer has acknowledged.
    size_max: u32,
    position: Position,
}

/// Where in a block the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Before any field. After our setting has reduced the table, the block must begin with an
    /// update of its size.
    Start { updates: u8, must_update: bool },
    /// After the first field.
    Fields,
}

/// Why a block cannot be decoded. The connection must end: the tables of both sides may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpackError {
    /// The block ends within a field.
    Truncated,
    /// An integer is too large.
    Integer,
    /// A string is malformed: its code or its padding.
    String,
    /// An index stands for nothing.
    Index,
    /// An update of the table's size is too large, misplaced, one too many, or missing.
    SizeUpdate,
    /// A string, or the whole list, is larger by far than its limit.
    TooLarge,
}

/// One field or update, as sent.
#[derive(Clone, Copy, Debug)]
enum Representation<'i> {
    Indexed(usize),
    Literal { name: Name<'i>, value: Text<'i>, storage: Storage },
    SizeUpdate(u32),
}

#[derive(Clone, Copy, Debug)]
enum Name<'i> {
    Indexed(usize),
    Text(Text<'i>),
}

/// What becomes of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// It goes into the table.
    Table,
    /// It does not.
    None,
    /// It must not, in any table on its way (RFC 7541, 7.1.3).
    Never,
}

impl HpackError {
    /// How the connection ends.
    pub fn connection_error(self) -> ConnectionError {
        let compression = |reason| ConnectionError::new(ErrorCode::COMPRESSION_ERROR, reason);
        match self {
            Self::Truncated => compression("a field block ends within a field"),
            Self::Integer => compression("a field block has an integer that is too large"),
            Self::String => compression("a field block has a malformed string"),
            Self::Index => compression("a field block has an index without an entry"),
            Self::SizeUpdate => compression("a field block has a wrong update of the table's size"),
            Self::TooLarge => ConnectionError::new(ErrorCode::ENHANCE_YOUR_CALM, "the fields are too large by far"),
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder whose table has the size that the peer may use before any settings.
    pub fn new() -> Self {
        let position = Position::Start { updates: 0, must_update: false };
        Self { table: DynamicTable::new(TABLE_BYTES), size_max: TABLE_BYTES, position }
    }

    /// The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE, at most [`TABLE_BYTES_CEILING`]. If
    /// it is below the size in use, the next block must begin with an update (RFC 9113, 4.3.1).
    pub fn on_settings_acknowledged(&mut self, size_max: u32) {
        debug_assert!(size_max <= TABLE_BYTES_CEILING);
        self.size_max = size_max.min(TABLE_BYTES_CEILING);
        if self.table.size_max() > self.size_max as usize
            && let Position::Start { must_update, .. } = &mut self.position
        {
            *must_update = true;
        }
    }

    /// Memory that is held.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    /// Decodes what is complete at the start of `input`, and returns its length. The rest must be at
    /// the start of the next call's input, before the next fragment. `is_last`: the block ends with
    /// `input`.
    ///
    /// The fields are added to `block`, which must be empty at the start of a block, and is sealed
    /// at its end.
    pub fn decode(&mut self, input: &[u8], is_last: bool, block: &mut FieldBlock) -> Result<usize, HpackError> {
        let mut cursor = Cursor { rest: input };
        while !cursor.rest.is_empty() {
            let start = cursor;
            match representation(&mut cursor) {
                Ok(representation) => self.apply(representation, block)?,
                Err(ReadError::Incomplete) if !is_last => {
                    cursor = start;
                    break;
                }
                Err(ReadError::Incomplete) => return Err(HpackError::Truncated),
                Err(ReadError::Integer) => return Err(HpackError::Integer),
                Err(ReadError::String) => return Err(HpackError::TooLarge),
            }
        }
        if is_last {
            if let Position::Start { must_update: true, .. } = self.position {
                return Err(HpackError::SizeUpdate);
            }
            self.position = Position::Start { updates: 0, must_update: false };
            block.seal();
        }
        Ok(input.len() - cursor.rest.len())
    }

    fn apply(&mut self, representation: Representation<'_>, block: &mut FieldBlock) -> Result<(), HpackError> {
        match (representation, self.position) {
            (Representation::SizeUpdate(size), Position::Start { updates, .. })
                if updates < SIZE_UPDATES_MAX && size <= self.size_max =>
            {
                self.table.set_size_max(size);
                self.position = Position::Start { updates: updates + 1, must_update: false };
                return Ok(());
            }
            (Representation::SizeUpdate(_), _)
            | (
                Representation::Indexed(_) | Representation::Literal { .. },
                Position::Start { must_update: true, .. },
            ) => {
                return Err(HpackError::SizeUpdate);
            }
            (Representation::Indexed(index), _) => {
                let (name, value) = self.entry(index)?;
                block.push(name, value)?;
            }
            (Representation::Literal { name, value, storage }, _) => self.literal(name, value, storage, block)?,
        }
        self.position = Position::Fields;
        Ok(())
    }

    fn literal(
        &mut self,
        name: Name<'_>,
        value: Text<'_>,
        storage: Storage,
        block: &mut FieldBlock,
    ) -> Result<(), HpackError> {
        let mut field = block.open();
        match name {
            Name::Indexed(index) => field.bytes().extend_from_slice(self.entry(index)?.0),
            Name::Text(text) => text.decode(field.bytes()).map_err(|_| HpackError::String)?,
        }
        field.end_name();
        value.decode(field.bytes()).map_err(|_| HpackError::String)?;
        if storage == Storage::Table {
            let (bytes, name_length) = field.parts();
            self.table.insert(bytes, name_length);
        }
        field.close(storage == Storage::Never)?;
        Ok(())
    }

    /// The entry of either table (RFC 7541, 2.3.3).
    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let entry = match index.checked_sub(static_table::LENGTH + 1) {
            Some(age) => self.table.entry(age),
            None => static_table::entry(index),
        };
        entry.ok_or(HpackError::Index)
    }
}

/// Reads one representation (RFC 7541, 6).
fn representation<'i>(cursor: &mut Cursor<'i>) -> Result<Representation<'i>, ReadError> {
    let first = *cursor.rest.first().ok_or(ReadError::Incomplete)?;
    let (prefix, storage) = match first {
        0x80.. => return Ok(Representation::Indexed(cursor.integer(7)? as usize)),
        0x40..=0x7f => (6, Storage::Table),
        0x20..=0x3f => return Ok(Representation::SizeUpdate(cursor.integer(5)?)),
        0x10..=0x1f => (4, Storage::Never),
        0x00..=0x0f => (4, Storage::None),
    };
    let name = match cursor.integer(prefix)? {
        0 => Name::Text(cursor.text()?),
        index => Name::Indexed(index as usize),
    };
    Ok(Representation::Literal { name, value: cursor.text()?, storage })
}

impl From<Overflow> for HpackError {
    fn from(_: Overflow) -> Self {
        Self::TooLarge
    }
}

#[cfg(test)]
mod tests;
