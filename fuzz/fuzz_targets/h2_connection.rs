//! A whole HTTP/2 connection, with files and an upstream behind it. `cargo +nightly fuzz run h2_connection`
#![no_main]

#[path = "../h2_connection_properties.rs"]
mod h2_connection_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| h2_connection_properties::connection(bytes));
