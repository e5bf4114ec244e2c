//! The properties that the fuzz targets check, for a bounded number of inputs: 2,000 each, or `XPS_PROPERTY_CASES`.

#[path = "../fuzz/file_properties.rs"]
mod properties;

use proptest::prelude::*;

const DATES: [&str; 5] = [
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 08:49:36 GMT",
    "Sunday, 06-Nov-94 08:49:38 GMT",
    "Sun Nov  6 08:49:37 1994",
    "Sun, 31 Feb 2094 08:49:37 GMT",
];

fn cases() -> u32 {
    std::env::var("XPS_PROPERTY_CASES").map_or(2000, |number| number.parse().expect("XPS_PROPERTY_CASES is a number"))
}

/// A value of a conditional field, or nearly one.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let element = prop_oneof![
        Just("@".to_owned()),
        Just("W/@".to_owned()),
        Just("*".to_owned()),
        "(W/)?\"[!-~]{0,5}\"?",
        proptest::sample::select(&DATES[..]).prop_map(str::to_owned),
        "[ -~]{0,6}",
    ];
    prop_oneof![
        6 => (proptest::collection::vec(element, 0..4), " ?,?\t?")
            .prop_map(|(elements, between)| elements.join(&between).into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

/// A value of a `Range` field, or nearly one.
fn any_range() -> impl Strategy<Value = Vec<u8>> {
    let element = prop_oneof![
        6 => "[0-9]{1,3}-[0-9]{1,3}",
        2 => "[0-9]{0,3}-[0-9]{0,3}",
        1 => "-?[0-9]{18,24}-?",
        1 => "[ \t0-9+-]{0,5}",
    ];
    let set = proptest::collection::vec(element, 0..20).prop_map(|elements| elements.join(",").into_bytes());
    prop_oneof![
        8 => set.prop_map(|set| [b"bytes=", &set[..]].concat()),
        1 => "[bB]ytes ?= ?[-,0-9 \t]{0,40}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn any_range_selects_what_a_plain_reading_selects(size in any::<u64>(), value in any_range()) {
        properties::range(&[&size.to_le_bytes()[..], &value].concat());
    }

    #[test]
    fn any_conditions_lead_to_a_verdict_that_they_can_lead_to(
        choice in any::<u8>(), values in proptest::collection::vec(any_value(), 0..6),
    ) {
        properties::conditional(&[&[choice][..], &values.join(&b'\n')].concat());
    }
}
