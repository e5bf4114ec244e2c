//! The life cycle of one socket, and the flow of bytes between two.
//!
//! * [`Listener`] accepts.
//! * [`Connection`] is a connected socket. Its [`Reader`] and [`Writer`] are independent, which
//!   allows half-close. Its closing protocol waits for both before the descriptor is closed.
//! * [`proxy_header`] is the PROXY protocol header, by which a proxy names its client.
//! * [`Pipe`] holds bytes between a reader and a writer, within a memory limit; [`relay`] moves
//!   them.
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
pub use pipe::{Pipe, relay};
pub use reader::{End, Reader};
pub use writer::Writer;

use crate::driver::{Outcome, Token};

/// A driver has broken its contract. Logs it as a bug of xps; the outcome's resources are dropped.
pub(crate) fn unexpected(machine: &'static str, state: &dyn std::fmt::Debug, outcome: &Outcome, token: Token) {
    tracing::error!(machine, ?state, outcome = outcome.name(), ?token, "unexpected outcome");
    debug_assert!(false, "{machine} in {state:?} got {outcome:?} for {token:?}");
}
