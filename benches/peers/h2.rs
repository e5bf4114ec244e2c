//! What the tests know of HTTP/2 and of attacks on it.

#[path = "../../tests/support/h2/attack.rs"]
pub mod attack;
#[path = "../../tests/support/h2/frame.rs"]
pub mod frame;
#[path = "../../tests/support/h2/hpack.rs"]
pub mod hpack;
#[path = "../../tests/support/h2/static_table.rs"]
mod static_table;
