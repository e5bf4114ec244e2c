//! `xps proxy --http` over real sockets: what becomes of requests and answers on their way through, on each back-end.
//!
//! Tests are named after the rows of the project's HTTP checklist that they protect. A test plays both the clients and
//! the upstreams, mostly by turns on one thread, so that the order of events is the one that is written down.

pub mod gateway;

mod access_log;
mod causes;
mod clients;
mod fields;
mod pressure;
mod reasons;
mod responses;
mod trailers;
mod truncation;
mod tunnels;
mod upgrades;
mod uploads;
mod upstreams;
mod websockets;
