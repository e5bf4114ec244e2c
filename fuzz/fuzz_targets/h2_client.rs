//! The responses that a client of HTTP/2 reads. `cargo +nightly fuzz run h2_client`
#![no_main]

#[path = "../h2_client_properties.rs"]
mod h2_client_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| h2_client_properties::client(bytes));
