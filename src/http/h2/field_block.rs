//! One decoded list of fields: a contiguous block of bytes, and where in it names and values are.
//!
//! The positions have 16 bits, as the index of [`Fields`] wants them. The limits are applied while
//! fields are added: past one, fields are dropped and the list is [`Excess`]. The pieces of a cookie
//! are joined (RFC 9113, 8.2.3), so they are one field for all who read the block and for the limit
//! of their number; browsers split them. Which fields may be there is checked in [`super::head`].
//!
//! [`Fields`]: crate::http::Fields

use crate::http::fields::{Field, Line};
use crate::http::head::{FIELDS_CEILING, HEAD_BYTES_CEILING, HeadLimits};

/// What a field counts besides its bytes (RFC 9113, 10.5.1).
const FIELD_OVERHEAD: usize = 32;

/// How many times its limit a list may become before decoding it costs more than it is worth: up to
/// there the client gets a 431, past it the connection ends.
const OVERFLOW_FACTOR: usize = 4;

/// Pseudo-header fields that are kept, which no limit of the configuration counts. A request has at
/// most five; the others are errors.
const PSEUDO_MAX: usize = 8;

/// The block begins with this name: `:authority` becomes a field with it, where there is none.
const HOST: &[u8] = b"host";

/// One list of fields: it owns their bytes and positions, and what is read in them borrows from it,
/// as often as it is wanted. It can be used again, with its memory.
#[derive(Clone, Debug)]
pub struct FieldBlock {
    bytes: Vec<u8>,
    lines: Vec<BlockLine>,
    /// The pieces of the cookie, joined, until the block is sealed.
    cookie: Vec<u8>,
    /// The line of the cookie, until then.
    cookie_line: Option<usize>,
    /// Whether a piece of the cookie begins or ends with white space, which the joined one hides.
    has_loose_piece: bool,
    /// Number of pseudo-header fields among the lines.
    pseudo: usize,
    /// Size as RFC 9113, 10.5.1, counts it.
    list_bytes: usize,
    list_bytes_max: usize,
    fields_max: usize,
    excess: Option<Excess>,
}

#[derive(Clone, Copy, Debug)]
struct BlockLine {
    line: Line,
    never_indexed: bool,
}

/// The limit that a list exceeds, for a 431.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// The size of the list.
    Size,
    /// The number of fields.
    Count,
}

/// A list is larger by far than its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// A field that is being added. If it is dropped unclosed, the block must not be used.
#[derive(Debug)]
pub(super) struct OpenField<'s> {
    block: &'s mut FieldBlock,
    start: usize,
    name_end: usize,
}

impl FieldBlock {
    /// An empty block. `head_bytes_max` limits the size of the list, with 32 bytes for each field as
    /// in SETTINGS_MAX_HEADER_LIST_SIZE; `fields_max` the number of fields.
    pub fn new(limits: &HeadLimits) -> Self {
        Self {
            bytes: Vec::new(),
            lines: Vec::new(),
            cookie: Vec::new(),
            cookie_line: None,
            has_loose_piece: false,
            pseudo: 0,
            list_bytes: 0,
            list_bytes_max: limits.head_bytes_max.min(HEAD_BYTES_CEILING),
            fields_max: limits.fields_max.min(FIELDS_CEILING),
            excess: None,
        }
    }

    /// Removes all fields. Keeps the memory, unless a list was larger than it may be.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(self.list_bytes_max);
        self.lines.clear();
        self.cookie.clear();
        self.has_loose_piece = false;
        (self.cookie_line, self.pseudo, self.list_bytes, self.excess) = (None, 0, 0, None);
    }

    /// Moves all out, without memory in excess, and leaves a block without memory.
    pub(super) fn take(&mut self) -> Self {
        let empty = Self {
            bytes: Vec::new(),
            lines: Vec::new(),
            cookie: Vec::new(),
            cookie_line: None,
            has_loose_piece: false,
            pseudo: 0,
            list_bytes: 0,
            excess: None,
            ..*self
        };
        let mut taken = std::mem::replace(self, empty);
        taken.bytes.shrink_to_fit();
        taken.lines.shrink_to_fit();
        taken.cookie = Vec::new();
        taken
    }

    /// The size of a list that is given up.
    pub(super) const fn given_up_at(&self) -> usize {
        self.list_bytes_max * OVERFLOW_FACTOR
    }

    /// The limit that was exceeded, if one was.
    pub const fn excess(&self) -> Option<Excess> {
        self.excess
    }

    /// Whether a piece of the cookie began or ended with white space, as no value may.
    pub const fn has_loose_piece(&self) -> bool {
        self.has_loose_piece
    }

    /// All fields in order, pseudo-header fields included.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.lines().map(|line| Field { name: line.name(&self.bytes), value: line.value(&self.bytes) })
    }

    /// The fields that the peer wants in no table (RFC 7541, 7.1.3).
    pub fn never_indexed(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.iter().zip(&self.lines).filter(|(_, line)| line.never_indexed).map(|(field, _)| field)
    }

    /// Memory that is held.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.cookie.capacity() + self.lines.capacity() * size_of::<BlockLine>()
    }

    /// The bytes that lines are in.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = Line> + Clone {
        self.lines.iter().map(|line| line.line)
    }

    /// The line that makes the value of `:authority` the one of `host`.
    pub(super) fn host_line(authority: Line) -> Line {
        Line { name_at: 0, name_length: HOST.len() as u16, ..authority }
    }

    /// Adds a field of a table. It is not copied if it would be dropped.
    pub(super) fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Overflow> {
        if self.excess.is_some() || self.list_bytes + name.len() + value.len() + FIELD_OVERHEAD > self.list_bytes_max {
            return self.count_size(name.len() + value.len());
        }
        let mut field = self.open();
        field.bytes().extend_from_slice(name);
        field.end_name();
        field.bytes().extend_from_slice(value);
        field.close(false)
    }

    /// Begins a field whose bytes are appended.
    pub(super) fn open(&mut self) -> OpenField<'_> {
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(HOST);
        }
        let start = self.bytes.len();
        OpenField { block: self, start, name_end: start }
    }

    /// Ends the list: the cookie takes its place.
    pub(super) fn seal(&mut self) {
        let Some(line) = self.cookie_line.take().and_then(|number| self.lines.get_mut(number)) else { return };
        let Some((value_at, value_length)) = place(self.bytes.len(), self.cookie.len()) else { return };
        line.line = Line { value_at, value_length, ..line.line };
        self.bytes.append(&mut self.cookie);
    }

    fn count_size(&mut self, bytes: usize) -> Result<(), Overflow> {
        self.list_bytes += bytes + FIELD_OVERHEAD;
        if self.list_bytes > self.given_up_at() {
            return Err(Overflow);
        }
        if self.list_bytes > self.list_bytes_max {
            self.excess.get_or_insert(Excess::Size);
        }
        Ok(())
    }

    /// Adds the field at the end of the bytes, if there may be one more. Returns whether its bytes
    /// stay there.
    fn keep(&mut self, start: usize, name_end: usize, never_indexed: bool) -> bool {
        let (name, value) = (&self.bytes[start..name_end], &self.bytes[name_end..]);
        let (is_pseudo, is_cookie) = (name.first() == Some(&b':'), name == b"cookie");
        if is_cookie && let Some(line) = self.cookie_line.and_then(|number| self.lines.get_mut(number)) {
            if !self.cookie.is_empty() && !value.is_empty() {
                self.cookie.extend_from_slice(b"; ");
            }
            self.cookie.extend_from_slice(value);
            self.has_loose_piece |= is_loose(value);
            line.never_indexed |= never_indexed;
            return false;
        }
        let has_room =
            if is_pseudo { self.pseudo < PSEUDO_MAX } else { self.lines.len() - self.pseudo < self.fields_max };
        if !has_room {
            self.excess = Some(Excess::Count);
            return false;
        }
        let (Some((name_at, name_length)), Some((value_at, value_length))) =
            (place(start, name.len()), place(name_end, value.len()))
        else {
            self.excess = Some(Excess::Size);
            return false;
        };
        if is_cookie {
            self.cookie.extend_from_slice(value);
            self.has_loose_piece = is_loose(value);
            self.cookie_line = Some(self.lines.len());
            self.bytes.truncate(name_end);
        }
        let line = Line { name_at, name_length, value_at, value_length };
        self.lines.push(BlockLine { line, never_indexed });
        self.pseudo += usize::from(is_pseudo);
        true
    }
}

/// Position and length in 16 bits. Both fit, since each field counts 32 bytes more than it has.
fn place(at: usize, length: usize) -> Option<(u16, u16)> {
    Some((u16::try_from(at).ok()?, u16::try_from(length).ok()?))
}

fn is_loose(value: &[u8]) -> bool {
    matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

impl OpenField<'_> {
    /// Where to append the name and then the value.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.block.bytes
    }

    /// The name is complete.
    pub(super) fn end_name(&mut self) {
        self.name_end = self.block.bytes.len();
    }

    /// Name and value in one, and the length of the name.
    pub(super) fn parts(&self) -> (&[u8], usize) {
        (&self.block.bytes[self.start..], self.name_end - self.start)
    }

    /// The value is complete: adds the field, or drops it if a limit is exceeded.
    pub(super) fn close(self, never_indexed: bool) -> Result<(), Overflow> {
        let Self { block, start, name_end } = self;
        let is_counted = block.count_size(block.bytes.len() - start);
        if block.excess.is_some() || !block.keep(start, name_end, never_indexed) {
            block.bytes.truncate(start);
        }
        is_counted
    }
}

#[cfg(test)]
mod tests;
