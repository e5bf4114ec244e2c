//! HTTP/2 as tests speak it, with nothing of the server's own code.

pub mod attack;
pub mod bridge;
pub mod client;
pub mod frame;
pub mod hpack;
pub mod pipe;
mod static_table;
pub mod translator;
