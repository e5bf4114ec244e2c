//! TLS: what `xps check` finds, what `xps explain` shows, connections, and the client of the tests
//! itself. `support::tls` has what tests of connections stand on.

#[path = "../support/mod.rs"]
mod support;

mod bridge;
mod certbot;
mod check;
mod client;
mod client_subject;
mod explain;
mod handshake_limit;
mod handshakes;
mod listeners;
mod load;
mod logs;
mod misdirected;
mod openssl;
mod passthrough;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "../run/place.rs"]
mod place;
mod proxy_header;
mod reload;
mod replace;
mod serve;
mod upstream;
