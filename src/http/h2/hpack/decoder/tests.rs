//! The examples of RFC 7541, what is refused, and what limits hold.

use proptest::prelude::*;

use super::*;
use crate::http::h2::field_block::Excess;
use crate::http::h2::hpack::encoder::{push_exact_or_literal, push_field};
use crate::http::h2::hpack::primitive::{push_integer, push_text};
use crate::http::head::HeadLimits;

fn decoded_within(decoder: &mut Decoder, bytes: &[u8], block: &mut FieldBlock) -> Result<String, HpackError> {
    block.clear();
    assert_eq!(decoder.decode(bytes, true, block)?, bytes.len());
    Ok(block.iter().map(|field| format!("{}: {}|", field.name.escape_ascii(), field.value.escape_ascii())).collect())
}

fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> Result<String, HpackError> {
    decoded_within(decoder, bytes, &mut FieldBlock::new(&HeadLimits::default()))
}

/// The error for a first block.
fn refused(bytes: &[u8]) -> HpackError {
    decoded(&mut Decoder::new(), bytes).unwrap_err()
}

fn table(decoder: &Decoder) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let entries = (0..).map_while(|age| decoder.table.entry(age));
    entries.map(|(name, value)| format!("{}: {}|", text(name), text(value))).collect()
}

/// RFC 7541, C.3 and C.4: three requests, plain and by Huffman.
#[test]
fn requests_of_the_rfc() {
    let plain: [&[u8]; 3] = [
        b"\x82\x86\x84\x41\x0fwww.example.com",
        b"\x82\x86\x84\xbe\x58\x08no-cache",
        b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
    ];
    let huffman: [&[u8]; 3] = [
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
        b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
    ];
    for requests in [plain, huffman] {
        let mut decoder = Decoder::new();
        let first = ":method: GET|:scheme: http|:path: /|:authority: www.example.com|";
        assert_eq!(decoded(&mut decoder, requests[0]).as_deref(), Ok(first));
        let second = format!("{first}cache-control: no-cache|");
        assert_eq!(decoded(&mut decoder, requests[1]), Ok(second));
        let third =
            ":method: GET|:scheme: https|:path: /index.html|:authority: www.example.com|custom-key: custom-value|";
        assert_eq!(decoded(&mut decoder, requests[2]).as_deref(), Ok(third));
        let entries = "custom-key: custom-value|cache-control: no-cache|:authority: www.example.com|";
        assert_eq!(table(&decoder), entries);
    }
}

/// RFC 7541, C.5 and C.6: three responses with a table of 256 bytes, which evicts; plain and by
/// Huffman.
#[test]
fn responses_of_the_rfc() {
    let plain: [&[u8]; 3] = [
        b"\x48\x03302\x58\x07private\x61\x1dMon, 21 Oct 2013 20:13:21 GMT\x6e\x17https://www.example.com",
        b"\x48\x03307\xc1\xc0\xbf",
        b"\x88\xc1\x61\x1dMon, 21 Oct 2013 20:13:22 GMT\xc0\x5a\x04gzip\x77\x38foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ];
    let huffman: [&[u8]; 3] = [
        b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\
          \x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff\x6e\x91\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\
          \xe9\xae\x82\xae\x43\xd3",
        b"\x48\x83\x64\x0e\xff\xc1\xc0\xbf",
        b"\x88\xc1\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x84\xa6\x2d\
          \x1b\xff\xc0\x5a\x83\x9b\xd9\xab\x77\xad\x94\xe7\x82\x1d\xd7\xf2\xe6\xc7\xb3\x35\xdf\xdf\xcd\x5b\
          \x39\x60\xd5\xaf\x27\x08\x7f\x36\x72\xc1\xab\x27\x0f\xb5\x29\x1f\x95\x87\x31\x60\x65\xc0\x03\xed\
          \x4e\xe5\xb1\x06\x3d\x50\x07",
    ];
    for responses in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoded(&mut decoder, b"\x3f\xe1\x01").unwrap();
        let date = "date: Mon, 21 Oct 2013 20:13:21 GMT|";
        let rest = format!("cache-control: private|{date}location: https://www.example.com|");
        assert_eq!(decoded(&mut decoder, responses[0]), Ok(format!(":status: 302|{rest}")));
        let entries = format!("location: https://www.example.com|{date}cache-control: private|:status: 302|");
        assert_eq!(table(&decoder), entries);
        assert_eq!(decoded(&mut decoder, responses[1]), Ok(format!(":status: 307|{rest}")));
        let entries = format!(":status: 307|location: https://www.example.com|{date}cache-control: private|");
        assert_eq!(table(&decoder), entries);
        decoded(&mut decoder, responses[2]).unwrap();
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1|";
        let entries = format!("{cookie}content-encoding: gzip|date: Mon, 21 Oct 2013 20:13:22 GMT|");
        assert_eq!(table(&decoder), entries);
    }
}

/// RFC 7541, C.2.
#[test]
fn literals_that_go_into_no_table() {
    let mut decoder = Decoder::new();
    let mut block = FieldBlock::new(&HeadLimits::default());
    assert_eq!(
        decoded_within(&mut decoder, b"\x04\x0c/sample/path", &mut block).as_deref(),
        Ok(":path: /sample/path|")
    );
    assert_eq!(block.never_indexed().count(), 0);
    let secret = b"\x10\x08password\x06secret";
    assert_eq!(decoded_within(&mut decoder, secret, &mut block).as_deref(), Ok("password: secret|"));
    assert_eq!(block.never_indexed().count(), 1);
    assert_eq!((table(&decoder), decoder.table.memory()), (String::new(), 0));
}

#[test]
fn indices_without_an_entry_are_errors() {
    assert_eq!(refused(&[0x80]), HpackError::Index, "0");
    assert_eq!(refused(&[0xbe]), HpackError::Index, "62 of an empty table");
    assert_eq!(refused(b"\x7e\x01x"), HpackError::Index, "as a name");
    assert_eq!(refused(b"\x40\x01a\x01b\xbf"), HpackError::Index, "63 of one entry");
    assert_eq!(refused(&[0xff, 0x80, 0x80, 0x80, 0x7f]), HpackError::Index);
}

#[test]
fn malformed_integers_and_strings_are_errors() {
    assert_eq!(refused(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), HpackError::Integer);
    assert_eq!(refused(b"\x00\x81\x00\x01x"), HpackError::String, "zeros as padding");
    assert_eq!(refused(b"\x00\x01x\x84\xff\xff\xff\xff"), HpackError::String, "the end of a string");
    assert_eq!(refused(b"\x00\x7f\x82\xff\x03"), HpackError::TooLarge, "64 KiB and one byte");
}

#[test]
fn a_block_ends_after_a_field() {
    let whole = b"\x82\x40\x02ab\x03cde";
    for length in 2..whole.len() {
        assert_eq!(refused(&whole[..length]), HpackError::Truncated, "{length}");
    }
    assert!(decoded(&mut Decoder::new(), whole).is_ok());
    assert_eq!(decoded(&mut Decoder::new(), b"").as_deref(), Ok(""));
}

#[test]
fn updates_of_the_size_are_at_the_start_and_within_the_setting() {
    assert_eq!(decoded(&mut Decoder::new(), b"\x20\x3f\xe1\x1f\x82").as_deref(), Ok(":method: GET|"));
    assert_eq!(refused(b"\x3f\xe2\x1f"), HpackError::SizeUpdate, "4097");
    assert_eq!(refused(b"\x82\x20"), HpackError::SizeUpdate, "after a field");
    assert_eq!(refused(b"\x20\x20\x20"), HpackError::SizeUpdate, "one too many");
    let mut decoder = Decoder::new();
    decoder.on_settings_acknowledged(4097);
    assert!(decoded(&mut decoder, b"\x3f\xe2\x1f").is_ok());
    assert_eq!(decoder.table.size_max(), 4097);
}

#[test]
fn after_a_reduction_the_next_block_begins_with_an_update() {
    for (block, result) in [
        (&b"\x82"[..], Err(HpackError::SizeUpdate)),
        (b"", Err(HpackError::SizeUpdate)),
        (b"\x3f\x46\x82", Err(HpackError::SizeUpdate)),
        (b"\x3f\x45\x82", Ok(())),
        (b"\x20\x82", Ok(())),
    ] {
        let mut decoder = Decoder::new();
        decoder.on_settings_acknowledged(100);
        assert_eq!(decoded(&mut decoder, block).map(|_| ()), result, "{}", block.escape_ascii());
    }
    let mut decoder = Decoder::new();
    decoded(&mut decoder, b"\x20").unwrap();
    decoder.on_settings_acknowledged(100);
    assert!(decoded(&mut decoder, b"\x82").is_ok(), "it was smaller already");
}

#[test]
fn an_entry_can_be_named_by_the_one_that_it_evicts() {
    let mut decoder = Decoder::new();
    // A table for one entry of one and two bytes.
    decoded(&mut decoder, b"\x3f\x04\x40\x01a\x02bc").unwrap();
    assert_eq!(decoded(&mut decoder, b"\x7e\x02de").as_deref(), Ok("a: de|"));
    assert_eq!(table(&decoder), "a: de|");
}

#[test]
fn over_the_limit_the_table_is_kept_up() {
    let limits = HeadLimits { head_bytes_max: 100, ..HeadLimits::default() };
    let mut block = FieldBlock::new(&limits);
    let mut decoder = Decoder::new();
    let mut bytes = b"\x40\x01a\x46".to_vec();
    bytes.extend_from_slice(&[b'x'; 70]);
    bytes.extend_from_slice(b"\x40\x01b\x01y");
    let text = decoded_within(&mut decoder, &bytes, &mut block).unwrap();
    assert_eq!((text.as_str(), block.excess()), ("", Some(Excess::Size)));
    assert_eq!(decoded_within(&mut decoder, b"\xbe", &mut block).as_deref(), Ok("b: y|"));
    assert_eq!(block.excess(), None);
}

#[test]
fn a_small_block_that_stands_for_much_ends_the_connection() {
    let limits = HeadLimits { head_bytes_max: 16 << 10, ..HeadLimits::default() };
    let mut block = FieldBlock::new(&limits);
    let mut bytes = b"\x40\x01a\x7f\xc1\x1e".to_vec();
    bytes.extend_from_slice(&[b'x'; 4032]);
    bytes.extend_from_slice(&[0xbe; 14]);
    let mut decoder = Decoder::new();
    decoder.decode(&bytes, true, &mut block).unwrap();
    assert_eq!(block.excess(), Some(Excess::Size));
    assert!(block.memory() < 64 << 10);
    block.clear();
    assert_eq!(decoder.decode(&[0xbe; 100], true, &mut block), Err(HpackError::TooLarge));
    // The same by names, each of which becomes an entry.
    block.clear();
    let mut decoder = Decoder::new();
    let mut bytes = b"\x40\x7f\xc1\x1e".to_vec();
    bytes.extend_from_slice(&[b'x'; 4032]);
    bytes.extend_from_slice(b"\x00");
    bytes.extend_from_slice(&b"\x7e\x00".repeat(100));
    assert_eq!(decoder.decode(&bytes, true, &mut block), Err(HpackError::TooLarge));
    assert!(decoder.memory() < 16 << 10);
}

/// How a test writes a field.
fn push(out: &mut Vec<u8>, form: u8, name: &[u8], value: &[u8]) {
    match form {
        0 => push_field(out, name, value),
        1 => push_exact_or_literal(out, name, value),
        _ => {
            out.push(if form == 2 { 0x40 } else { 0x10 });
            push_text(out, name.iter().copied());
            push_text(out, value.iter().copied());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_decoded_in_any_pieces(
        fields in prop::collection::vec((0u8..4, "[a-z0-9-]{1,12}|content-type|:status", prop::collection::vec(any::<u8>(), 0..40)), 0..20),
        size in 1usize..60,
    ) {
        let mut bytes = Vec::new();
        for (form, name, value) in &fields {
            push(&mut bytes, *form, name.as_bytes(), value);
        }
        let mut block = FieldBlock::new(&HeadLimits { head_bytes_max: 1 << 16, ..HeadLimits::default() });
        let mut decoder = Decoder::new();
        let (mut at, mut end) = (0, 0);
        while end < bytes.len() {
            end = bytes.len().min(end + size);
            at += decoder.decode(&bytes[at..end], false, &mut block).unwrap();
        }
        prop_assert_eq!(decoder.decode(&bytes[at..], true, &mut block), Ok(bytes.len() - at));
        prop_assume!(fields.iter().filter(|field| field.1 == ":status").count() <= 8);
        prop_assume!(fields.iter().all(|field| field.1 != "cookie"));
        let decoded: Vec<_> = block.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        let expected: Vec<_> = fields.into_iter().map(|(_, name, value)| (name.into_bytes(), value)).collect();
        prop_assert_eq!(decoded, expected);
    }

    #[test]
    fn any_bytes_are_fields_or_an_error(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x3eu8..0x44, Just(0xbe), 0u8..4], 0..200),
        cut in 0usize..200,
    ) {
        let limits = HeadLimits { head_bytes_max: 300, fields_max: 5, ..HeadLimits::default() };
        let whole = {
            let mut block = FieldBlock::new(&limits);
            let mut decoder = Decoder::new();
            let result = decoder.decode(&bytes, true, &mut block);
            result.map(|_| (table_bytes(&decoder), format!("{:?}", block.iter().collect::<Vec<_>>()), block.excess()))
        };
        let mut block = FieldBlock::new(&limits);
        let mut decoder = Decoder::new();
        let cut = cut.min(bytes.len());
        let in_two = decoder.decode(&bytes[..cut], false, &mut block).and_then(|at| decoder.decode(&bytes[at..], true, &mut block));
        let in_two = in_two.map(|_| (table_bytes(&decoder), format!("{:?}", block.iter().collect::<Vec<_>>()), block.excess()));
        prop_assert_eq!(in_two, whole);
    }

    #[test]
    fn integers_are_never_larger_than_what_is_indexed(index in 62usize..1 << 28) {
        let mut bytes = Vec::new();
        push_integer(&mut bytes, 0x80, 7, index);
        prop_assert_eq!(refused(&bytes), HpackError::Index);
    }
}

fn table_bytes(decoder: &Decoder) -> Vec<Vec<u8>> {
    (0..).map_while(|age| decoder.table.entry(age)).map(|(name, value)| [name, b": ", value].concat()).collect()
}
