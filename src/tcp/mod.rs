//! The life cycle of one socket, and a queue of bytes between two.
//!
//! * [`Listener`] accepts.
//! * [`Connection`] is a connected socket. Its reader and writer are independent, which allows
//!   half-close. Its closing protocol waits for both before the descriptor is closed. Only
//!   [`crate::transport`] uses it.
//! * [`proxy_header`] is the PROXY protocol header, by which a proxy names its client.
//! * [`Pipe`] holds bytes between a source and a sink, within a memory limit.
//!
//! These state machines know operations and outcomes. They do not know what a connection is for.

mod connection;
mod listener;
mod pipe;
pub mod proxy_header;
mod reader;
mod writer;

pub use connection::{CloseKind, Connection, ConnectionTokens};
pub use listener::Listener;
pub use pipe::Pipe;
pub use reader::End;

use crate::driver::{Outcome, Token};

/// A driver has broken its contract. Logs it as a bug of xps; the outcome's resources are dropped.
pub(crate) fn unexpected(machine: &'static str, state: &dyn std::fmt::Debug, outcome: &Outcome, token: Token) {
    tracing::error!(machine, ?state, outcome = outcome.name(), ?token, "unexpected outcome");
    debug_assert!(false, "{machine} in {state:?} got {outcome:?} for {token:?}");
}
