//! Limits, and the pieces of cookies.

use proptest::prelude::*;

use super::*;

fn limited(head_bytes_max: usize, fields_max: usize) -> FieldBlock {
    FieldBlock::new(&HeadLimits { head_bytes_max, fields_max, ..HeadLimits::default() })
}

fn with(fields: &[(&str, &str)]) -> FieldBlock {
    let mut block = limited(4096, 100);
    for (name, value) in fields {
        block.push(name.as_bytes(), value.as_bytes()).unwrap();
    }
    block.seal();
    block
}

fn text(block: &FieldBlock) -> String {
    let line = |field: Field<'_>| format!("{field:?}|");
    block.iter().map(line).collect()
}

#[test]
fn the_pieces_of_a_cookie_are_one_field_in_the_place_of_the_first() {
    let block = with(&[("a", "1"), ("cookie", "x=1"), ("b", "2"), ("cookie", "y=2"), ("cookie", ""), ("c", "3")]);
    assert_eq!(text(&block), "a: 1|cookie: x=1; y=2|b: 2|c: 3|");
    assert_eq!(text(&with(&[("cookie", "x")])), "cookie: x|");
    assert_eq!(text(&with(&[("cookie", "")])), "cookie: |");
    assert_eq!(text(&with(&[("cookie", ""), ("cookie", "x")])), "cookie: x|");
}

#[test]
fn pieces_of_a_cookie_do_not_count_as_fields() {
    let mut block = limited(4096, 2);
    for _ in 0..50 {
        block.push(b"cookie", b"x").unwrap();
    }
    block.push(b"a", b"").unwrap();
    assert_eq!(block.excess(), None);
    block.push(b"b", b"").unwrap();
    assert_eq!(block.excess(), Some(Excess::Count));
    block.push(b"cookie", b"x").unwrap();
    block.seal();
    assert_eq!(block.iter().count(), 2, "what is over the limit is dropped");
}

#[test]
fn a_list_is_as_large_as_its_limit_exactly() {
    for (limit, excess) in [(2 * (32 + 2), None), (2 * (32 + 2) - 1, Some(Excess::Size))] {
        let mut block = limited(limit, 100);
        block.push(b"a", b"1").unwrap();
        let mut field = block.open();
        field.bytes().push(b'b');
        field.end_name();
        field.bytes().push(b'2');
        field.close(false).unwrap();
        assert_eq!(block.excess(), excess);
    }
}

#[test]
fn far_beyond_its_limit_the_list_is_given_up() {
    let mut block = limited(100, 100);
    for number in 0..12 {
        assert_eq!(block.push(b"", b"1"), Ok(()), "{number}");
    }
    assert_eq!(block.excess(), Some(Excess::Size));
    assert_eq!(block.push(b"", b"12345"), Err(Overflow));
}

#[test]
fn pseudo_header_fields_have_a_limit_of_their_own() {
    let mut block = limited(4096, 0);
    for _ in 0..PSEUDO_MAX {
        block.push(b":path", b"/").unwrap();
    }
    assert_eq!(block.excess(), None);
    block.push(b":path", b"/").unwrap();
    assert_eq!(block.excess(), Some(Excess::Count));
}

#[test]
fn what_is_never_indexed_stays_so() {
    let mut block = limited(4096, 100);
    for (name, value, never_indexed) in
        [("a", "1", true), ("b", "2", false), ("cookie", "x", false), ("cookie", "y", true)]
    {
        let mut field = block.open();
        field.bytes().extend_from_slice(name.as_bytes());
        field.end_name();
        field.bytes().extend_from_slice(value.as_bytes());
        field.close(never_indexed).unwrap();
    }
    block.seal();
    let never: Vec<_> = block.never_indexed().map(|field| field.value).collect();
    assert_eq!(never, [&b"1"[..], b"x; y"]);
}

#[test]
fn a_block_is_used_again() {
    let mut block = with(&[(":path", "/"), ("cookie", "x"), ("a", "1")]);
    block.clear();
    block.push(b"b", b"2").unwrap();
    block.seal();
    assert_eq!(text(&block), "b: 2|");
    assert_eq!(block.excess(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Every position fits into 16 bits, even in the largest list.
    #[test]
    fn fields_are_kept_as_they_are_or_the_list_is_in_excess(
        fields in prop::collection::vec((prop_oneof![Just("cookie"), Just("a"), Just(":path"), Just("x-long")], 0usize..9_000), 0..20),
    ) {
        let mut block = limited(usize::MAX, usize::MAX);
        let mut expected: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut size = 0;
        for (number, (name, length)) in fields.iter().enumerate() {
            let value = vec![number as u8; *length];
            size += name.len() + length + 32;
            prop_assert_eq!(block.push(name.as_bytes(), &value), Ok(()));
            match expected.iter_mut().find(|field| field.0 == b"cookie") {
                Some(cookie) if *name == "cookie" => {
                    let separator = if cookie.1.is_empty() || value.is_empty() { &b""[..] } else { b"; " };
                    cookie.1.extend([separator, &value].concat());
                }
                _ => expected.push((name.as_bytes().to_vec(), value)),
            }
        }
        block.seal();
        let pseudo = fields.iter().filter(|field| field.0 == ":path").count();
        let is_excess = size > HEAD_BYTES_CEILING || pseudo > PSEUDO_MAX;
        prop_assert_eq!(block.excess().is_some(), is_excess);
        if !is_excess {
            let fields: Vec<_> = block.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
            prop_assert_eq!(fields, expected);
        }
    }
}
