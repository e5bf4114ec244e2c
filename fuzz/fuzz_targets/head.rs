//! A request's head and how its body is framed. `cargo +nightly fuzz run head`
#![no_main]

#[path = "../properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::head(bytes));
