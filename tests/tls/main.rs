//! TLS: what `xps check` finds, what `xps explain` shows, and the client of the tests itself. `support::tls` has what tests of
//! connections stand on.

#[path = "../support/mod.rs"]
mod support;

mod check;
mod client;
mod explain;
mod reload;
mod serve;
