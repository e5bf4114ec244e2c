//! TLS: what `xps check` finds, what `xps explain` shows, connections, and the client of the tests
//! itself. `support::tls` has what tests of connections stand on.

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
mod proxy_header;
mod reload;
mod replace;
mod serve;
mod upstream;
