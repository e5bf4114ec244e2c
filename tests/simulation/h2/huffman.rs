//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). It is canonical: among codes of one length, those of
//! greater symbols are greater, so the lengths are all that has to be known.

use std::sync::OnceLock;

/// The length of each symbol's code in bits; that of the end of the string is the last.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Code and symbol, by length and then by code.
struct Table {
    codes: [(u32, u8); 257],
    symbols: Vec<(u8, u32, usize)>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
        order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
        let (mut code, mut length) = (0_u32, LENGTHS[order[0]]);
        let mut codes = [(0, 0); 257];
        let mut symbols = Vec::new();
        for symbol in order {
            code <<= LENGTHS[symbol] - length;
            length = LENGTHS[symbol];
            codes[symbol] = (code, length);
            symbols.push((length, code, symbol));
            code += 1;
        }
        Table { codes, symbols }
    })
}

pub fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let (code, length) = table().codes[usize::from(*byte)];
        bits = bits << length | u64::from(code);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | (0xff >> count));
    }
    out
}

/// Rejects padding that is longer than seven bits or not the beginning of the end (RFC 7541, 5.2).
pub fn decode(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (mut text, mut code, mut length) = (Vec::new(), 0_u32, 0_u8);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        let symbols = &table().symbols;
        if let Ok(at) = symbols.binary_search_by_key(&(length, code), |(length, code, _)| (*length, *code)) {
            text.push(u8::try_from(symbols[at].2).map_err(|_| "the end of the string in it")?);
            (code, length) = (0, 0);
        } else if length >= 30 {
            return Err("no code of any symbol".to_owned());
        }
    }
    if length < 8 && code == (1 << length) - 1 { Ok(text) } else { Err("wrong padding".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS.iter().map(|length| 1 << (30 - length)).sum();
        assert_eq!(sum, 1 << 30);
    }

    /// RFC 7541, C.4.1 and C.6.1.
    #[test]
    fn examples_are_those_of_the_standard() {
        assert_eq!(encode(b"www.example.com"), *b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
        assert_eq!(encode(b"302"), *b"\x64\x02");
        assert_eq!(encode(b"private"), *b"\xae\xc3\x77\x1a\x4b");
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Ok(all));
        assert!(decode(b"\xff\xff").is_err() && decode(b"\x00").is_err());
    }
}
