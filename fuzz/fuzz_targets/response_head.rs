//! An upstream's answer: its head, and what a client gets for it. `cargo +nightly fuzz run response_head`
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::response_head(bytes));
