//! The Range field and the body of several parts. `cargo +nightly fuzz run range`
#![no_main]

#[path = "../file_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod file_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| file_properties::range(bytes));
