//! Compressed fields of HTTP/2. `cargo +nightly fuzz run hpack`
#![no_main]

#[path = "../h2_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod h2_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| h2_properties::hpack(bytes));
