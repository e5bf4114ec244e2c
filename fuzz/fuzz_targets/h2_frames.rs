//! Frames of an HTTP/2 client. `cargo +nightly fuzz run h2_frames`
#![no_main]

#[path = "../h2_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod h2_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| h2_properties::frames(bytes));
