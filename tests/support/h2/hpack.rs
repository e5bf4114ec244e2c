//! HPACK (RFC 7541) for tests: an encoder that writes literals only, and a complete decoder. Shares no code with
//! the server, and is written for plainness instead of speed.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::VecDeque;

use super::static_table::STATIC_TABLE;

/// A name and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// A block of literals without indexing and without Huffman coding (6.2.2). Names are written as they are.
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        push_literal(&mut block, 0, name.as_ref(), value.as_ref());
    }
    block
}

/// A literal with a new name. `form`: 0x00 without indexing, 0x10 never indexed, 0x40 with incremental indexing.
pub fn push_literal(block: &mut Vec<u8>, form: u8, name: &[u8], value: &[u8]) {
    block.push(form);
    for text in [name, value] {
        push_number(block, 0, 7, text.len());
        block.extend_from_slice(text);
    }
}

/// An indexed field (6.1).
pub fn push_indexed(block: &mut Vec<u8>, index: usize) {
    push_number(block, 0x80, 7, index);
}

/// A dynamic table size update (6.3).
pub fn push_size_update(block: &mut Vec<u8>, bytes: usize) {
    push_number(block, 0x20, 5, bytes);
}

/// An integer with a prefix of so many bits (5.1).
pub fn push_number(block: &mut Vec<u8>, form: u8, prefix_bits: u32, number: usize) {
    let prefix_max = (1 << prefix_bits) - 1;
    if number < prefix_max {
        return block.push(form | to_byte(number));
    }
    block.push(form | to_byte(prefix_max));
    let mut rest = number - prefix_max;
    while rest >= 128 {
        block.push(to_byte(rest % 128) | 0x80);
        rest /= 128;
    }
    block.push(to_byte(rest));
}

fn to_byte(number: usize) -> u8 {
    u8::try_from(number).expect("a part of less than a byte")
}

/// A decoder with the dynamic table of one direction of a connection.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// The newest one first.
    table: VecDeque<Field>,
    /// Of the table, by its own count (4.1).
    bytes_max: usize,
    /// What `SETTINGS_HEADER_TABLE_SIZE` allows.
    setting: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_TABLE_BYTES)
    }
}

impl Decoder {
    /// `setting`: the table's largest size, as it was announced.
    pub fn new(setting: usize) -> Self {
        Self { table: VecDeque::new(), bytes_max: setting.min(DEFAULT_TABLE_BYTES), setting }
    }

    /// The fields of a block.
    ///
    /// # Errors
    /// What is wrong; the connection cannot go on (4.3 of RFC 9113).
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, &'static str> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let Some(first) = rest.first() {
            match first {
                0x80.. => fields.push(self.at(take_number(&mut rest, 7)?)?),
                0x40.. => {
                    let field = self.take_literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    fields.push(field);
                }
                0x20.. if !fields.is_empty() => return Err("a size update behind a field"),
                0x20.. => {
                    self.bytes_max = take_number(&mut rest, 5)?;
                    if self.bytes_max > self.setting {
                        return Err("a table larger than allowed");
                    }
                    self.evict();
                }
                _ => fields.push(self.take_literal(&mut rest, 4)?),
            }
        }
        Ok(fields)
    }

    /// What the table holds, as RFC 7541 counts it (4.1).
    pub fn table_bytes(&self) -> usize {
        self.table.iter().map(|(name, value)| name.len() + value.len() + ENTRY_OVERHEAD_BYTES).sum()
    }

    fn take_literal(&self, rest: &mut &[u8], prefix_bits: u32) -> Result<Field, &'static str> {
        let name = match take_number(rest, prefix_bits)? {
            0 => take_text(rest)?,
            index => self.at(index)?.0,
        };
        Ok((name, take_text(rest)?))
    }

    fn at(&self, index: usize) -> Result<Field, &'static str> {
        let index = index.checked_sub(1).ok_or("index 0")?;
        match STATIC_TABLE.get(index) {
            Some((name, value)) => Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec())),
            None => self.table.get(index - STATIC_TABLE.len()).cloned().ok_or("an index beyond the tables"),
        }
    }

    fn insert(&mut self, field: Field) {
        self.table.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.table_bytes() > self.bytes_max {
            self.table.pop_back();
        }
    }
}

fn take_number(rest: &mut &[u8], prefix_bits: u32) -> Result<usize, &'static str> {
    let prefix_max = (1 << prefix_bits) - 1;
    let mut number = usize::from(take_byte(rest)?) & prefix_max;
    if number < prefix_max {
        return Ok(number);
    }
    for shift in (0..NUMBER_BITS_MAX).step_by(7) {
        let byte = usize::from(take_byte(rest)?);
        number += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number of too many bytes")
}

fn take_text(rest: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let is_huffman = rest.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = take_number(rest, 7)?;
    let (text, behind) = rest.split_at_checked(length).ok_or("a string beyond the block")?;
    *rest = behind;
    if is_huffman { decode_huffman(text) } else { Ok(text.to_vec()) }
}

fn take_byte(rest: &mut &[u8]) -> Result<u8, &'static str> {
    let (byte, behind) = rest.split_first().ok_or("the block ends early")?;
    *rest = behind;
    Ok(*byte)
}

/// Bit by bit. The code is a canonical one: of one length, codes are in the order of their symbols, and the lengths determine it.
fn decode_huffman(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoded = Vec::new();
    let (mut code, mut first, mut length) = (0_usize, 0, 0);
    let mut is_ones = true;
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        is_ones &= bit == 1;
        (code, first, length) = (code << 1 | usize::from(bit), first << 1, length + 1);
        let mut symbols = (0..CODE_BITS.len()).filter(|symbol| CODE_BITS[*symbol] == length);
        let count = symbols.clone().count();
        if code - first < count {
            let symbol = symbols.nth(code - first).expect("there are more");
            decoded.push(u8::try_from(symbol).map_err(|_| "the symbol of the end")?);
            (code, first, length, is_ones) = (0, 0, 0, true);
        } else {
            first += count;
        }
    }
    if length < 8 && is_ones { Ok(decoded) } else { Err("padding that is not the beginning of the end's code") }
}

const DEFAULT_TABLE_BYTES: usize = 4096;
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Four bytes behind the prefix: more than a block can hold.
const NUMBER_BITS_MAX: u32 = 28;

/// The lengths of the codes of all bytes, and of the end (Appendix B).
#[rustfmt::skip]
const CODE_BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28,  6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10, 13,  6,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,
     7,  7,  7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
