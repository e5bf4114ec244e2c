//! `xps proxy --http` between programs that other people wrote: their servers behind it, their clients in front of it,
//! on each back-end.
//!
//! The other tests of the proxy play both sides themselves, byte by byte; here nobody has agreed on anything but the
//! standards. Everything runs on the loopback, on ports of the kernel's choice. What is missing is skipped, visibly.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "the integration tests use more of it")]
#[path = "../integration/place.rs"]
mod place;

mod bench_page;
mod browser;
mod curl;
mod gateway;
mod haproxy;
mod http2;
mod nginx;
mod page;
mod promtool;
mod script;
mod testssl;

mod clients;
mod endless;
mod proxy_header;
mod upstreams;
mod websocket;
