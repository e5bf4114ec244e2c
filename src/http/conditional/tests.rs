//! Preconditions: each field, their order, and a model over well-formed lists. Arbitrary values are
//! in `tests/file_properties.rs`.

use proptest::prelude::*;

use super::*;
use crate::http::validators::FileVersion;

/// Sun, 06 Nov 1994 08:49:37 GMT
const MODIFIED_S: u64 = 784_111_777;
const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn validators() -> Validators {
    validators_at(MODIFIED_S + 1)
}

fn validators_at(now_s: u64) -> Validators {
    let modified_ns = MODIFIED_S as i64 * 1_000_000_000 + 5;
    Validators::new(FileVersion { size: 1, modified_ns, inode: 2 }, None, now_s)
}

/// The result for these fields of a request; `TAG` stands for the file's tag.
fn verdict(fields: &[(&str, &str)], is_get_or_head: bool) -> PreconditionResult {
    with_fields(fields, |conditions| evaluate(conditions, &validators(), is_get_or_head))
}

fn with_fields<T>(fields: &[(&str, &str)], ask: impl FnOnce(&Conditions<'_>) -> T) -> T {
    let tag = validators();
    let values: Vec<_> =
        fields.iter().map(|(name, value)| (*name, value.replace("TAG", tag.tag().as_str()).into_bytes())).collect();
    let mut conditions = Conditions::default();
    for (name, value) in &values {
        let field = match *name {
            "If-Match" => &mut conditions.if_match,
            "If-None-Match" => &mut conditions.if_none_match,
            "If-Modified-Since" => &mut conditions.if_modified_since,
            "If-Unmodified-Since" => &mut conditions.if_unmodified_since,
            "If-Range" => &mut conditions.if_range,
            other => panic!("{other}"),
        };
        *field = Some(value);
    }
    ask(&conditions)
}

#[track_caller]
fn assert_get(fields: &[(&str, &str)], expected: PreconditionResult) {
    assert_eq!(verdict(fields, true), expected, "{fields:?}");
}

use PreconditionResult::{NotModified, PreconditionFailed, Proceed};

#[test]
fn without_conditions_a_request_proceeds() {
    assert_get(&[], Proceed);
}

#[test]
fn if_none_match_with_the_tag_in_it_is_not_modified() {
    for list in ["TAG", "W/TAG", "*", " * ", "\"x\", TAG", "\"x\",,\t,W/TAG ,", "TAG, \"x\"", "\"a,b\", TAG"] {
        assert_get(&[("If-None-Match", list)], NotModified);
        assert_eq!(verdict(&[("If-None-Match", list)], false), PreconditionFailed, "{list}");
    }
}

#[test]
fn if_none_match_without_the_tag_proceeds() {
    for list in ["\"x\"", "", ",", "W/\"x\", \"y\"", "\"TAG", "w/TAG", "*, TAG", "x", "\"\""] {
        assert_get(&[("If-None-Match", list)], Proceed);
    }
}

#[test]
fn in_a_malformed_list_only_what_stands_before_the_fault_counts() {
    assert_get(&[("If-None-Match", "TAG, x")], NotModified);
    for list in ["x, TAG", "\"a\" TAG", "TAGx", "TAG\"b\"", "\"a b\", TAG", "\"a, TAG", "W/ TAG"] {
        assert_get(&[("If-None-Match", list)], Proceed);
        assert_get(&[("If-Match", list)], PreconditionFailed);
    }
}

#[test]
fn if_match_compares_strongly() {
    assert_get(&[("If-Match", "TAG")], Proceed);
    assert_get(&[("If-Match", "\"x\", TAG")], Proceed);
    assert_get(&[("If-Match", "*")], Proceed);
    assert_get(&[("If-Match", "W/TAG")], PreconditionFailed);
    assert_get(&[("If-Match", "\"x\"")], PreconditionFailed);
    assert_get(&[("If-Match", "")], PreconditionFailed);
}

#[test]
fn if_modified_since_is_for_get_and_head_only() {
    assert_get(&[("If-Modified-Since", DATE)], NotModified);
    assert_get(&[("If-Modified-Since", LATER)], NotModified);
    assert_get(&[("If-Modified-Since", EARLIER)], Proceed);
    assert_eq!(verdict(&[("If-Modified-Since", DATE)], false), Proceed);
}

#[test]
fn if_unmodified_since_is_for_every_method() {
    assert_get(&[("If-Unmodified-Since", DATE)], Proceed);
    assert_get(&[("If-Unmodified-Since", LATER)], Proceed);
    assert_get(&[("If-Unmodified-Since", EARLIER)], PreconditionFailed);
    assert_eq!(verdict(&[("If-Unmodified-Since", EARLIER)], false), PreconditionFailed);
}

#[test]
fn all_three_forms_of_a_date_are_read() {
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        assert_get(&[("If-Modified-Since", date)], NotModified);
        assert_get(&[("If-Unmodified-Since", date)], Proceed);
    }
}

#[test]
fn bad_dates_are_ignored() {
    for date in [
        "",
        "0",
        "-1",
        "yesterday",
        "Sun, 06 Nov 1994",
        "Sun, 31 Feb 2094 08:49:37 GMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1894 08:49:37 GMT",
        "\u{fffd}",
    ] {
        assert_get(&[("If-Modified-Since", date)], Proceed);
        assert_get(&[("If-Unmodified-Since", date)], Proceed);
    }
}

#[test]
fn a_tag_goes_before_a_date() {
    // Each date alone would decide otherwise.
    assert_get(&[("If-None-Match", "\"x\""), ("If-Modified-Since", LATER)], Proceed);
    assert_get(&[("If-None-Match", "TAG"), ("If-Modified-Since", EARLIER)], NotModified);
    assert_get(&[("If-Match", "TAG"), ("If-Unmodified-Since", EARLIER)], Proceed);
    assert_get(&[("If-Match", "\"x\""), ("If-Unmodified-Since", LATER)], PreconditionFailed);
}

#[test]
fn what_must_match_goes_before_what_must_not() {
    assert_get(&[("If-Match", "\"x\""), ("If-None-Match", "TAG")], PreconditionFailed);
    assert_get(&[("If-Match", "TAG"), ("If-None-Match", "TAG")], NotModified);
    assert_get(&[("If-Unmodified-Since", EARLIER), ("If-None-Match", "TAG")], PreconditionFailed);
    assert_get(&[("If-Unmodified-Since", DATE), ("If-Modified-Since", DATE)], NotModified);
}

#[test]
fn if_range_with_the_strong_tag_or_the_very_date_allows_a_range() {
    let allows =
        |value: &str| with_fields(&[("If-Range", value)], |conditions| allows_range(conditions, &validators()));
    assert!(allows_range(&Conditions::default(), &validators()));
    for value in ["TAG", " TAG ", DATE, "Sunday, 06-Nov-94 08:49:37 GMT"] {
        assert!(allows(value), "{value}");
    }
    // The last one was found by fuzzing: a form feed is no white space.
    for value in
        ["W/TAG", "\"x\"", "*", "TAG, TAG", "TAG,", ", TAG", "TAG x", EARLIER, LATER, "", "junk", "\"", "\x0cTAG\x0c"]
    {
        assert!(!allows(value), "{value}");
    }
}

#[test]
fn if_range_with_a_date_that_could_name_two_versions_does_not_allow_a_range() {
    let conditions = Conditions { if_range: Some(DATE.as_bytes()), ..Conditions::default() };
    assert!(allows_range(&conditions, &validators_at(MODIFIED_S + 1)));
    assert!(!allows_range(&conditions, &validators_at(MODIFIED_S)));
}

/// One element of a list: its text, and whether it names the file strongly or weakly.
fn any_element() -> impl Strategy<Value = (String, bool, bool)> {
    prop_oneof![
        1 => Just((String::from("TAG"), true, true)),
        1 => Just((String::from("W/TAG"), false, true)),
        4 => "(W/)?\"[!#-~\u{e4}]{0,6}\"".prop_map(|text| (text, false, false)),
        1 => "[ \t]{0,2}".prop_map(|text| (text, false, false)),
    ]
}

proptest! {
    #[test]
    fn any_well_formed_list_is_searched_to_its_end(elements in proptest::collection::vec(any_element(), 0..8)) {
        let list = elements.iter().map(|(text, ..)| &text[..]).collect::<Vec<_>>().join(" ,\t");
        let strongly = elements.iter().any(|(_, strongly, _)| *strongly);
        let weakly = elements.iter().any(|(_, _, weakly)| *weakly);
        let expected = if strongly { Proceed } else { PreconditionFailed };
        prop_assert_eq!(verdict(&[("If-Match", &list)], true), expected);
        let expected = if weakly { NotModified } else { Proceed };
        prop_assert_eq!(verdict(&[("If-None-Match", &list)], true), expected);
    }

    #[test]
    fn any_text_like_a_date_is_read_without_harm(
        date in "(Sun|Mon|Sunday),? [0-9]{1,2}[ -](Jan|Feb|Nov|Dec)[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT)?",
    ) {
        let value = Some(date.as_bytes());
        let conditions = Conditions { if_modified_since: value, if_unmodified_since: value, ..Conditions::default() };
        evaluate(&conditions, &validators(), true);
    }
}
