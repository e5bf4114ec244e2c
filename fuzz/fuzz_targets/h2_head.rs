//! An HTTP/2 request head, and what an upstream gets for it. `cargo +nightly fuzz run h2_head`
#![no_main]

#[path = "../h2_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod h2_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| h2_properties::head(bytes));
