//! The conditional fields. `cargo +nightly fuzz run conditional`
#![no_main]

#[path = "../file_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod file_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| file_properties::conditional(bytes));
