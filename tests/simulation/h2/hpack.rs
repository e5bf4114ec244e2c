//! HPACK (RFC 7541), both ways: an encoder that writes the same fields in many ways, and a full decoder.

use std::collections::VecDeque;

use xps::internals::driver::sim::Rng;

use super::huffman;
use super::static_table::STATIC_TABLE;

pub type Field = (Vec<u8>, Vec<u8>);

/// Where every dynamic table begins, in bytes.
pub const TABLE_BYTES: usize = 4096;

/// The fields that were sent or received before, the newest first.
#[derive(Clone, Debug)]
struct Table {
    entries: VecDeque<Field>,
    bytes_max: usize,
}

impl Table {
    const fn new() -> Self {
        Self { entries: VecDeque::new(), bytes_max: TABLE_BYTES }
    }

    fn resize(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        while self.bytes() > self.bytes_max {
            self.entries.pop_back();
        }
    }

    fn insert(&mut self, field: Field) {
        self.entries.push_front(field);
        self.resize(self.bytes_max);
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
    }

    fn get(&self, index: usize) -> Result<Field, String> {
        let at = index.checked_sub(1).ok_or("index 0")?;
        if let Some((name, value)) = STATIC_TABLE.get(at) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.entries.get(at - STATIC_TABLE.len()).cloned().ok_or_else(|| format!("index {index} is of no field"))
    }

    /// The index of a field for which this holds.
    fn position(&self, is_it: impl Fn(&[u8], &[u8]) -> bool) -> Option<usize> {
        let fixed = STATIC_TABLE.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let dynamic = self.entries.iter().map(|(name, value)| (&name[..], &value[..]));
        fixed.chain(dynamic).position(|(name, value)| is_it(name, value)).map(|at| at + 1)
    }
}

/// Writes blocks in any way that the decoder has to understand.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: Table,
    /// What the decoder allows.
    limit: usize,
    /// The smallest size since the last block which has to be told (RFC 7541, 4.2).
    due: Option<usize>,
}

impl Encoder {
    pub const fn new() -> Self {
        Self { table: Table::new(), limit: TABLE_BYTES, due: None }
    }

    /// The other side has changed its SETTINGS_HEADER_TABLE_SIZE.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        if limit < self.table.bytes_max {
            self.due = Some(self.due.map_or(limit, |due| due.min(limit)));
            self.table.resize(limit);
        }
    }

    pub fn encode(&mut self, fields: &[Field], rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(due) = self.due.take() {
            push_number(&mut out, 0x20, 5, due);
        }
        if rng.below(8) == 0 {
            let size = rng.below(self.limit as u64 + 1) as usize;
            self.table.resize(size);
            push_number(&mut out, 0x20, 5, size);
        }
        fields.iter().for_each(|field| self.push_field(&mut out, field, rng));
        out
    }

    fn push_field(&mut self, out: &mut Vec<u8>, field: &Field, rng: &mut Rng) {
        let way = rng.below(4);
        let whole = self.table.position(|name, value| (name, value) == (&field.0, &field.1));
        if let (Some(index), 0..3) = (whole, way) {
            return push_number(out, 0x80, 7, index);
        }
        let (first, bits) = [(0x40, 6), (0, 4), (0x10, 4)][rng.below(3) as usize];
        match self.table.position(|name, _| name == field.0).filter(|_| way < 3) {
            Some(index) => push_number(out, first, bits, index),
            None => {
                push_number(out, first, bits, 0);
                push_text(out, &field.0, rng.coin());
            }
        }
        push_text(out, &field.1, rng.coin());
        if bits == 6 {
            self.table.insert(field.clone());
        }
    }
}

/// An integer in a prefix of so many bits (RFC 7541, 5.1).
fn push_number(out: &mut Vec<u8>, first: u8, bits: u8, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        out.push(rest as u8 & 127 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn push_text(out: &mut Vec<u8>, text: &[u8], is_huffman: bool) {
    let coded = if is_huffman { huffman::encode(text) } else { text.to_vec() };
    push_number(out, if is_huffman { 0x80 } else { 0 }, 7, coded.len());
    out.extend_from_slice(&coded);
}

#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    /// What we allow, as the other side has acknowledged it.
    limit: usize,
}

impl Decoder {
    pub const fn new() -> Self {
        Self { table: Table::new(), limit: TABLE_BYTES }
    }

    /// The other side has acknowledged this SETTINGS_HEADER_TABLE_SIZE.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>, String> {
        let (mut rest, mut fields) = (block, Vec::new());
        while let Some(first) = rest.first() {
            match first {
                0x80.. => {
                    let index = take_number(&mut rest, 7)?;
                    fields.push(self.get(index)?);
                }
                0x40.. => {
                    let field = self.take_literal(&mut rest, 6)?;
                    self.table.insert(field.clone());
                    fields.push(field);
                }
                0x20.. => {
                    let size = take_number(&mut rest, 5)?;
                    if size > self.limit || !fields.is_empty() {
                        return Err(format!("the table's size becomes {size}, after {} fields", fields.len()));
                    }
                    self.table.resize(size);
                }
                _ => fields.push(self.take_literal(&mut rest, 4)?),
            }
            if self.table.bytes_max > self.limit {
                return Err(format!("a table of {} bytes, where {} are allowed", self.table.bytes_max, self.limit));
            }
        }
        Ok(fields)
    }

    fn get(&self, index: usize) -> Result<Field, String> {
        self.table.get(index)
    }

    fn take_literal(&self, rest: &mut &[u8], bits: u8) -> Result<Field, String> {
        let name = match take_number(rest, bits)? {
            0 => take_text(rest)?,
            index => self.get(index)?.0,
        };
        Ok((name, take_text(rest)?))
    }
}

fn take_number(rest: &mut &[u8], bits: u8) -> Result<usize, String> {
    let mut next = || {
        let (first, after) = rest.split_first()?;
        *rest = after;
        Some(usize::from(*first))
    };
    let cut = || "a number that is cut".to_owned();
    let most = (1 << bits) - 1;
    let mut number = next().ok_or_else(cut)? & most;
    if number < most {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let byte = next().ok_or_else(cut)?;
        number += (byte & 127) << shift;
        if byte < 128 {
            return Ok(number);
        }
    }
    Err("a number beyond any that has a use".to_owned())
}

fn take_text(rest: &mut &[u8]) -> Result<Vec<u8>, String> {
    let is_huffman = rest.first().is_some_and(|first| first & 128 != 0);
    let length = take_number(rest, 7)?;
    let (text, after) = rest.split_at_checked(length).ok_or("a text that is cut")?;
    *rest = after;
    if is_huffman { huffman::decode(text) } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, value: &str) -> Field {
        (name.into(), value.into())
    }

    /// RFC 7541, C.4: three requests on one connection.
    #[test]
    fn examples_are_those_of_the_standard() {
        let mut decoder = Decoder::new();
        let blocks: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        let [first, second, third] = blocks.map(|block| decoder.decode(block).unwrap());
        let authority = field(":authority", "www.example.com");
        let head = [field(":method", "GET"), field(":scheme", "http"), field(":path", "/"), authority.clone()];
        assert_eq!(first, head);
        assert_eq!(second[4], field("cache-control", "no-cache"));
        assert_eq!(third[3..], [authority, field("custom-key", "custom-value")]);
        assert_eq!(decoder.table.bytes(), 164);
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let rng = &mut Rng::new(7);
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for round in 0..2000 {
            let fields: Vec<Field> = (0..rng.below(12))
                .map(|_| match rng.below(4) {
                    0 => field(":method", "GET"),
                    1 => field("accept", &"x".repeat(rng.below(300) as usize)),
                    2 => (b"x-bytes".to_vec(), rng.bytes(20)),
                    _ => field(&format!("x-{}", rng.below(5)), &"y".repeat(rng.below(3) as usize)),
                })
                .collect();
            if rng.below(20) == 0 {
                let limit = rng.below(6000) as usize;
                encoder.set_limit(limit);
                decoder.set_limit(limit);
            }
            let block = encoder.encode(&fields, rng);
            assert_eq!(decoder.decode(&block), Ok(fields), "round {round}");
            assert!(decoder.table.bytes() <= decoder.table.bytes_max);
        }
    }

    #[test]
    fn a_table_that_had_to_become_smaller_is_noticed() {
        let mut decoder = Decoder::new();
        decoder.set_limit(0);
        assert!(decoder.decode(b"\x82").is_err());
        let mut decoder = Decoder::new();
        decoder.set_limit(0);
        assert_eq!(decoder.decode(b"\x20\x82"), Ok(vec![field(":method", "GET")]));
        assert!(decoder.decode(b"\x82\x20").is_err());
        assert!(decoder.decode(b"\x21").is_err());
        assert!(decoder.decode(b"\xbe").is_err());
    }
}
