//! Another implementation's blocks, decoded here, and ours, decoded there: see `vectors/make.py`.

use super::encoder::{push_exact_or_literal, push_field};
use super::{Decoder, HeadEncoder};
use crate::http::h2::{BlockReader, FieldBlock};
use crate::http::head::HeadLimits;
use crate::http::response::HeadBuilder;
use crate::http::response_head::ResponseFraming;
use crate::http::status::Status;

const OF_PYTHON: &str = include_str!("vectors/of_python.txt");
const FOR_PYTHON: &str = include_str!("vectors/for_python.txt");

/// A block with its fields as lines; `None`: another connection begins.
fn vectors(text: &str) -> Vec<Option<(Vec<u8>, String)>> {
    let mut vectors = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("block "), vectors.last_mut()) {
            (Some(hex), _) => {
                let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
                let block = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
                vectors.push(Some((block, String::new())));
            }
            (None, _) if line == "connection" => vectors.push(None),
            (None, Some(Some((_, fields)))) => *fields += &format!("{line}\n"),
            (None, Some(None) | None) => panic!("{line}"),
        }
    }
    vectors
}

fn lines(block: &FieldBlock) -> String {
    let mut never = block.never_indexed().peekable();
    let mut lines = String::new();
    for field in block.iter() {
        let kind = if never.next_if(|next| *next == field).is_some() { "never" } else { "field" };
        lines += &format!("{kind} {}: {}\n", field.name.escape_ascii(), field.value.escape_ascii());
    }
    lines
}

#[test]
fn blocks_of_another_encoder_are_decoded_in_any_pieces() {
    for size in [usize::MAX >> 1, 100, 1] {
        let (mut decoder, mut count) = (Decoder::new(), 0);
        for vector in vectors(OF_PYTHON) {
            let Some((block, fields)) = vector else {
                decoder = Decoder::new();
                continue;
            };
            let mut list = FieldBlock::new(&HeadLimits { head_bytes_max: 1 << 16, ..HeadLimits::default() });
            let (mut at, mut end) = (0, 0);
            while end < block.len() {
                end = block.len().min(end.saturating_add(size));
                at += decoder.decode(&block[at..end], end == block.len(), &mut list).unwrap();
            }
            assert_eq!((lines(&list), at), (fields, block.len()));
            count += 1;
        }
        assert_eq!(count, 2 * 32);
    }
}

/// Response heads, and single fields.
fn ours() -> Vec<Vec<u8>> {
    let mut encoder = HeadEncoder::new();
    HeadBuilder::new(&mut encoder, Status::OK)
        .field("Server", "xps")
        .field("Content-Type", "text/html; charset=utf-8")
        .field("ETag", "\"5f-18\"")
        .field("Set-Cookie", "a=b; Secure")
        .field("X-Request-ID", "4C9a");
    let ok = encoder.end(ResponseFraming::Length(1_234_567));
    let mut encoder = HeadEncoder::new();
    HeadBuilder::new(&mut encoder, Status::FOUND).own_field("Location", format!("/{}", "x".repeat(300)));
    let found = encoder.end(ResponseFraming::Length(0));
    let statuses = [200, 204, 206, 304, 400, 404, 500, 100, 103, 201, 416, 599].map(|code: u16| {
        let mut block = Vec::new();
        push_exact_or_literal(&mut block, b":status", code.to_string().as_bytes());
        block
    });
    let mut octets = Vec::new();
    push_field(&mut octets, b"x-octets", &(0..=u8::MAX).collect::<Vec<_>>());
    for length in [126, 127, 128, 254, 255] {
        push_field(&mut octets, &vec![b'n'; length], &vec![b'v'; length]);
    }
    [ok, found, octets].into_iter().chain(statuses).collect()
}

#[test]
fn another_decoder_finds_what_was_encoded_here() {
    let vectors: Vec<_> = vectors(FOR_PYTHON).into_iter().flatten().collect();
    let blocks: Vec<_> = vectors.iter().map(|(block, _)| block.clone()).collect();
    let hex = |block: &Vec<u8>| block.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ours: Vec<_> = ours();
    let text: String = ours.iter().map(|block| format!("block {}\n", hex(block))).collect();
    assert!(blocks == ours, "put these into vectors/for_python.txt and run vectors/make.py:\n{text}");
    for (block, fields) in vectors {
        let mut reader = BlockReader::new(&HeadLimits { head_bytes_max: 1 << 16, ..HeadLimits::default() });
        reader.push(&mut Decoder::new(), &block, true).unwrap();
        assert_eq!(lines(reader.fields()), fields);
    }
}
