//! The chunked coding. `cargo +nightly fuzz run chunked`
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::chunked(bytes));
