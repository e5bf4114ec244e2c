//! Ranges: the standard's examples, the edges, and a model over well-formed values. Arbitrary ones are in
//! `tests/file_properties.rs`.

use proptest::prelude::*;

use super::*;

fn one(offset: u64, length: u64) -> Selection {
    Selection::One(Span { offset, length })
}

fn several(spans: &[(u64, u64)]) -> Selection {
    Selection::Several(spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect())
}

#[track_caller]
fn assert_selects(range: &str, size: u64, expected: &Selection) {
    assert_eq!(select(Some(range.as_bytes()), size), *expected, "{range:?} of {size}");
}

#[test]
fn without_a_range_the_whole_file_is_sent() {
    assert_eq!(select(None, 10), Selection::Whole);
}

#[test]
fn one_range_is_first_to_last_or_from_first_or_a_suffix() {
    assert_selects("bytes=0-499", 10_000, &one(0, 500));
    assert_selects("bytes=500-999", 10_000, &one(500, 500));
    assert_selects("bytes=-500", 10_000, &one(9500, 500));
    assert_selects("bytes=9500-", 10_000, &one(9500, 500));
    assert_selects("bytes=0-", 10_000, &one(0, 10_000));
    assert_selects("bytes=0-0", 1, &one(0, 1));
    assert_selects("Bytes=9-9", 10, &one(9, 1));
    assert_selects(" bytes=9-9\t", 10, &one(9, 1));
}

#[test]
fn what_reaches_beyond_the_end_is_cut() {
    assert_selects("bytes=5-99", 10, &one(5, 5));
    assert_selects("bytes=-99", 10, &one(0, 10));
}

#[test]
fn what_begins_beyond_the_end_is_unsatisfiable() {
    assert_selects("bytes=10-", 10, &Selection::Unsatisfiable);
    assert_selects("bytes=10-10,99-", 10, &Selection::Unsatisfiable);
    assert_selects("bytes=-0", 10, &Selection::Unsatisfiable);
    assert_eq!(unsatisfied_content_range(10).as_str(), "bytes */10");
}

#[test]
fn of_an_empty_file_only_its_end_is_there_which_is_all_of_it() {
    assert_selects("bytes=0-", 0, &Selection::Unsatisfiable);
    assert_selects("bytes=0-0", 0, &Selection::Unsatisfiable);
    assert_selects("bytes=-0", 0, &Selection::Unsatisfiable);
    assert_selects("bytes=-1", 0, &Selection::Whole);
    assert_selects("bytes=0-,-1", 0, &Selection::Whole);
}

#[test]
fn several_ranges_keep_the_order_in_which_they_were_asked_for() {
    assert_selects("bytes=0-0,-1", 10_000, &several(&[(0, 1), (9999, 1)]));
    assert_selects("bytes= 700-799 , 0-99 ,,", 10_000, &several(&[(700, 100), (0, 100)]));
    assert_selects("bytes=0-4,5-9", 10, &several(&[(0, 5), (5, 5)]));
}

#[test]
fn one_satisfiable_range_among_several_is_one_part() {
    assert_selects("bytes=20-30,1-2,-0", 10, &one(1, 2));
}

#[test]
fn what_is_malformed_is_ignored() {
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=2-1",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1-2;",
        "bytes=1-2 3-4",
        "bytes = 1-2",
        "items=0-1",
        "bytes:0-1",
        "bytes=0-1,x",
        "bytes=99-,x",
        "bytes=0-1,bytes=2-3",
        "bytes=1 -2",
        "\x0cbytes=1-2",
        "bytes=1-2\x0b",
    ] {
        assert_selects(range, 10, &Selection::Whole);
    }
}

#[test]
fn overlapping_ranges_get_the_whole_file() {
    for range in ["bytes=0-5,5-9", "bytes=0-,0-", "bytes=0-9,3-4", "bytes=3-4,0-9", "bytes=8-,-3", "bytes=0-1,4-5,1-2"]
    {
        assert_selects(range, 10, &Selection::Whole);
    }
}

#[test]
fn seventeen_ranges_get_the_whole_file_and_sixteen_what_they_ask_for() {
    let ask = |count: u64| {
        let set: Vec<_> = (0..count).map(|index| format!("{}-{}", index * 2, index * 2)).collect();
        select(Some(format!("bytes={}", set.join(",")).as_bytes()), 100)
    };
    assert!(matches!(ask(16), Selection::Several(spans) if spans.len() == 16));
    assert_eq!(ask(17), Selection::Whole);
    // Even if most of them are outside the file: parsing them is the cost.
    assert_selects(&format!("bytes={}", ["200-"; 17].join(",")), 100, &Selection::Whole);
}

#[test]
fn numbers_up_to_and_beyond_64_bits_do_not_overflow() {
    const MAX: u64 = u64::MAX;
    for number in ["18446744073709551615", "18446744073709551616", "99999999999999999999999999999999999999999"] {
        assert_selects(&format!("bytes=0-{number}"), 10, &one(0, 10));
        assert_selects(&format!("bytes=-{number}"), 10, &one(0, 10));
        assert_selects(&format!("bytes={number}-"), 10, &Selection::Unsatisfiable);
        assert_selects(&format!("bytes={number}-{number}"), MAX, &Selection::Unsatisfiable);
        assert_selects(&format!("bytes=0-{number}"), MAX, &one(0, MAX));
    }
    assert_selects(&format!("bytes={}-", MAX - 1), MAX, &one(MAX - 1, 1));
    let four_gib = 1 << 32;
    assert_selects("bytes=4294967295-4294967296", four_gib + 1, &one(four_gib - 1, 2));
}

#[test]
fn content_range_names_first_last_and_size() {
    assert_eq!(Span { offset: 500, length: 500 }.content_range(1234).as_str(), "bytes 500-999/1234");
    let longest = Span { offset: u64::MAX - 1, length: 1 }.content_range(u64::MAX);
    assert_eq!(longest.as_str(), "bytes 18446744073709551614-18446744073709551614/18446744073709551615");
}

/// A slow model of the standard: the set of bytes that one range selects, or `None` if it is
/// malformed.
fn model(spec: &str, size: u64) -> Option<Vec<u64>> {
    let (first, last) = spec.split_once('-')?;
    let number = |text: &str| text.parse::<u128>().ok().filter(|_| !text.starts_with('+'));
    let size = u128::from(size);
    let named = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) if number(first)? <= number(last)? => number(first)?..size.min(number(last)? + 1),
        _ => return None,
    };
    Some(named.map(|byte| byte as u64).collect())
}

fn any_spec() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (0..40_u64, 0..8_u64).prop_map(|(first, more)| format!("{first}-{}", first + more)),
        1 => (0..40_u64).prop_map(|first| format!("{first}-")),
        1 => (0..12_u64).prop_map(|length| format!("-{length}")),
        1 => "[0-9]{0,2}-[0-9]{0,2}",
    ]
}

proptest! {
    #[test]
    fn well_formed_values_select_what_the_model_does(
        specs in proptest::collection::vec(any_spec(), 1..6), size in 1..40_u64,
    ) {
        let selection = select(Some(format!("bytes={}", specs.join(", ")).as_bytes()), size);
        let named: Option<Vec<_>> = specs.iter().map(|spec| model(spec, size)).collect();
        let named: Option<Vec<_>> = named.map(|sets| sets.into_iter().filter(|set| !set.is_empty()).collect());
        let expected = match named.as_deref() {
            None => Selection::Whole,
            Some([]) => Selection::Unsatisfiable,
            Some(sets) => {
                let mut bytes = sets.concat();
                let count = bytes.len();
                bytes.sort_unstable();
                bytes.dedup();
                let spans: Spans =
                    sets.iter().map(|set| Span { offset: set[0], length: set.len() as u64 }).collect();
                match spans[..] {
                    _ if bytes.len() < count => Selection::Whole,
                    [span] => Selection::One(span),
                    [..] => Selection::Several(spans),
                }
            }
        };
        prop_assert_eq!(selection, expected);
    }
}
