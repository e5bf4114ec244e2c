//! The Huffman code of strings (RFC 7541, 5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols, and
//! begin where those of the next shorter length end. So the lengths are all that is written here;
//! the codes follow from them when this is compiled. Decoding looks at eight bits at a time, which
//! are the whole code of most letters and digits; longer codes are found by comparing with the
//! last code of each length. Both tables together are smaller than 1.5 KiB and stay in the cache.

/// A string is not encoded by this code, or its padding is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadString;

/// Number of symbols: all octets, and the end of a string, which is never sent.
const SYMBOLS: usize = 257;

/// The symbol for the end of a string. Padding is the beginning of its code, all ones.
const END: u16 = 256;

/// Length of the longest code in bits.
const LENGTH_MAX: usize = 30;

/// Bits of each symbol's code (RFC 7541, appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first code after them, at the top of 32 bits. Codes are compared as such.
    end: u64,
    /// The first of them, likewise.
    start: u32,
    /// Where their symbols begin in [`SORTED`].
    at: u16,
}

/// The symbols in the order of their codes, the groups by length, and each symbol's code.
const CODE: (([u16; SYMBOLS], [Group; LENGTH_MAX + 1]), [u32; SYMBOLS]) = {
    let mut sorted = [0; SYMBOLS];
    let mut groups = [Group { end: 0, start: 0, at: 0 }; LENGTH_MAX + 1];
    let mut codes = [0; SYMBOLS];
    let (mut next, mut at, mut length) = (0u64, 0, 1);
    while length <= LENGTH_MAX {
        let shift = 32 - length;
        groups[length].start = next as u32;
        groups[length].at = at as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = (next >> shift) as u32;
                sorted[at] = symbol as u16;
                next += 1 << shift;
                at += 1;
            }
            symbol += 1;
        }
        groups[length].end = next;
        length += 1;
    }
    assert!(next == 1 << 32, "every sequence of bits begins with a code");
    assert!(at == SYMBOLS);
    assert!(codes[END as usize] == u32::MAX >> 2, "padding is the beginning of the end");
    ((sorted, groups), codes)
};

static SORTED: [u16; SYMBOLS] = CODE.0.0;
static GROUPS: [Group; LENGTH_MAX + 1] = CODE.0.1;
static CODES: [u32; SYMBOLS] = CODE.1;

/// For eight bits that begin with a code of at most that length: its symbol and its length. Length 0:
/// the code is longer.
static SHORT: [(u8, u8); 256] = {
    let mut table = [(0, 0); 256];
    let mut symbol = 0;
    while symbol < 256 {
        let length = LENGTHS[symbol];
        if length <= 8 {
            let first = (CODE.1[symbol] as usize) << (8 - length);
            let mut offset = 0;
            while offset < 1 << (8 - length) {
                table[first + offset] = (symbol as u8, length);
                offset += 1;
            }
        }
        symbol += 1;
    }
    table
};

/// Appends the decoded string to `out`: at most 8 bytes for 5 encoded ones.
pub fn decode(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), BadString> {
    out.reserve(encoded.len() * 8 / 5);
    let mut input = encoded;
    // Unread bits at the top, zeros after them.
    let (mut bits, mut count) = (0u64, 0u32);
    loop {
        if count < 32 {
            if let Some((chunk, rest)) = input.split_first_chunk() {
                bits |= u64::from(u32::from_be_bytes(*chunk)) << (32 - count);
                (count, input) = (count + 32, rest);
            } else {
                for &byte in std::mem::take(&mut input) {
                    bits |= u64::from(byte) << (56 - count);
                    count += 8;
                }
            }
        }
        // Ones after the end, as padding is.
        let window = bits | (u64::MAX >> count);
        let (symbol, length) = match SHORT[(window >> 56) as usize] {
            (_, 0) => long((window >> 32) as u32),
            (symbol, length) => (u16::from(symbol), u32::from(length)),
        };
        if length > count {
            // At most seven bits are left, and they are ones (RFC 7541, 5.2).
            return if count < 8 && window == u64::MAX { Ok(()) } else { Err(BadString) };
        }
        // 256 is the end, which must not be sent.
        out.push(u8::try_from(symbol).map_err(|_| BadString)?);
        bits <<= length;
        count -= length;
    }
}

/// The symbol whose code, longer than eight bits, begins `window`, and the length of the code.
fn long(window: u32) -> (u16, u32) {
    for (length, group) in (9..).zip(&GROUPS[9..]) {
        if u64::from(window) < group.end {
            let place = usize::from(group.at) + ((window - group.start) >> (32 - length)) as usize;
            return (SORTED.get(place).copied().unwrap_or(END), length);
        }
    }
    // The last group ends at 2^32.
    (END, LENGTH_MAX as u32)
}

/// Length of the encoded string in bytes. What is sent here is not encoded, see [`super::encoder`].
#[cfg(any(test, feature = "internals"))]
pub fn encoded_length(text: impl Iterator<Item = u8>) -> usize {
    text.map(|byte| usize::from(LENGTHS[usize::from(byte)])).sum::<usize>().div_ceil(8)
}

/// Appends the encoded string to `out`.
#[cfg(any(test, feature = "internals"))]
pub fn encode(text: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    // Unwritten bits at the bottom, fewer than 32.
    let (mut bits, mut count) = (0u64, 0u32);
    for byte in text {
        let length = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << length | u64::from(CODES[usize::from(byte)]);
        count += length;
        if count >= 32 {
            count -= 32;
            // Cut to the 32 bits that are written; those above were written before.
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    // Padded with ones to whole bytes.
    let padding = count.next_multiple_of(8) - count;
    bits = bits << padding | ((1 << padding) - 1);
    count += padding;
    while count > 0 {
        count -= 8;
        out.push((bits >> count) as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text.iter().copied(), &mut out);
        assert_eq!(out.len(), encoded_length(text.iter().copied()));
        out
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, BadString> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    /// Bit by bit, by the codes alone.
    fn decoded_slowly(bytes: &[u8]) -> Result<Vec<u8>, BadString> {
        let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u8);
        for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
            code = code << 1 | u32::from(bit);
            length += 1;
            if let Some(symbol) = (0..SYMBOLS).find(|&symbol| LENGTHS[symbol] == length && CODES[symbol] == code) {
                out.push(u8::try_from(symbol).map_err(|_| BadString)?);
                (code, length) = (0, 0);
            }
        }
        if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err(BadString) }
    }

    /// Codes of appendix B at the ends of each length, and some of the irregular middle.
    #[test]
    fn codes_are_those_of_the_rfc() {
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (1, 0x7f_ffd8, 23),
            (2, 0xfff_ffe2, 28),
            (9, 0xff_ffea, 24),
            (10, 0x3fff_fffc, 30),
            (13, 0x3fff_fffd, 30),
            (22, 0x3fff_fffe, 30),
            (32, 0x14, 6),
            (33, 0x3f8, 10),
            (35, 0xffa, 12),
            (38, 0xf8, 8),
            (39, 0x7fa, 11),
            (48, 0x0, 5),
            (58, 0x5c, 7),
            (60, 0x7ffc, 15),
            (61, 0x20, 6),
            (63, 0x3fc, 10),
            (64, 0x1ffa, 13),
            (90, 0xfd, 8),
            (92, 0x7_fff0, 19),
            (94, 0x3ffc, 14),
            (95, 0x22, 6),
            (116, 0x9, 5),
            (117, 0x2d, 6),
            (122, 0x7b, 7),
            (123, 0x7ffe, 15),
            (124, 0x7fc, 11),
            (126, 0x1ffd, 13),
            (127, 0xfff_fffc, 28),
            (128, 0xf_ffe6, 20),
            (129, 0x3f_ffd2, 22),
            (135, 0x7f_ffd9, 23),
            (142, 0xff_ffeb, 24),
            (153, 0x1f_ffdc, 21),
            (192, 0x3ff_ffe0, 26),
            (195, 0x7_fff1, 19),
            (199, 0x1ff_ffec, 25),
            (203, 0x7ff_ffde, 27),
            (208, 0x7_fff2, 19),
            (220, 0xfff_fffd, 28),
            (226, 0xf_ffed, 20),
            (230, 0x1f_ffe8, 21),
            (233, 0x3f_ffeb, 22),
            (235, 0x1ff_ffef, 25),
            (237, 0xff_fff5, 24),
            (239, 0x7f_fff4, 23),
            (249, 0xfff_fffe, 28),
            (254, 0x7ff_fff0, 27),
            (255, 0x3ff_ffee, 26),
            (256, 0x3fff_ffff, 30),
        ] {
            assert_eq!((CODES[symbol], LENGTHS[symbol]), (code, length), "{symbol}");
        }
    }

    /// RFC 7541, C.4 and C.6.
    #[test]
    fn examples_of_the_rfc() {
        for (text, bytes) in [
            ("www.example.com", &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..]),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            ("custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
        ] {
            assert_eq!(encoded(text.as_bytes()), bytes, "{text}");
            assert_eq!(decoded(bytes), Ok(text.as_bytes().to_vec()), "{text}");
        }
    }

    #[test]
    fn padding_is_fewer_than_eight_ones() {
        assert_eq!(decoded(&[]), Ok(vec![]));
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0000]), Err(BadString), "zeros");
        assert_eq!(decoded(&[0b0000_0110]), Err(BadString), "not all ones");
        assert_eq!(decoded(&[0b0000_0111, 0xff]), Err(BadString), "eleven bits");
        assert_eq!(decoded(&[0xff]), Err(BadString), "eight bits");
        assert_eq!(decoded(&[0b1111_1000, 0xff]), Err(BadString), "a whole byte after a whole code");
        assert_eq!(decoded(&[0xff; 3]), Err(BadString));
    }

    #[test]
    fn the_end_is_never_sent() {
        assert_eq!(decoded(&[0xff; 4]), Err(BadString));
        assert_eq!(decoded(&[0x00, 0x3f, 0xff, 0xff, 0xff, 0xff]), Err(BadString));
        assert_eq!(decoded(&[0xff; 64]), Err(BadString));
    }

    #[test]
    fn each_octet_alone_and_between_others() {
        for octet in 0..=255 {
            assert_eq!(decoded(&encoded(&[octet])), Ok(vec![octet]));
            let text = [b'a', octet, octet, b'0', octet, b'z'];
            assert_eq!(decoded(&encoded(&text)), Ok(text.to_vec()), "{octet}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_encoded_is_decoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decoded(&encoded(&text)), Ok(text));
        }

        #[test]
        fn any_bytes_are_read_as_bit_by_bit(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff), 0u8..0x20], 0..40),
        ) {
            let result = decoded(&bytes);
            prop_assert_eq!(&result, &decoded_slowly(&bytes));
            if let Ok(text) = result {
                prop_assert_eq!(encoded(&text), bytes, "there is one encoding");
            }
        }
    }
}
