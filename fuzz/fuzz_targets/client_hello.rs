//! The first message of a TLS client. `cargo +nightly fuzz run client_hello`
#![no_main]

#[path = "../tls_properties.rs"]
#[expect(dead_code, reason = "each target takes one of the properties")]
mod tls_properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tls_properties::client_hello(bytes));
