//! The responses that a client reads. `cargo +nightly fuzz run client`
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::client(bytes));
