//! A path's decoding and normalisation. `cargo +nightly fuzz run path`
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::path(bytes));
