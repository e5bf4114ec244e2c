//! `xps` as a server of HTTP/2, byte by byte: what only this version has. What it has in common with HTTP/1.1 is tested by the
//! modules `http` and `http_proxy`, through a bridge (`support::bridge`).

mod abuse;
mod basic;
mod crate_h2;
mod framing;
mod heads;
mod latency;
mod pressure;
mod rig;
