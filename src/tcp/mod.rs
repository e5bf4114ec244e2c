//! One socket's life, and the flow between two.
//!
//! * [`Listener`] accepts.
//! * [`Connection`] is a connected socket: a [`Reader`] and a [`Writer`], which move independently (so
//!   half-close is natural), and a closing protocol that joins both before the descriptor goes.
//! * [`proxy_header`] is what a proxy may say before anything else: on whose behalf it comes.
//! * [`Pipe`] holds bytes on their way from a reader to a writer, within a bound; [`relay`] moves them.
//!
//! These machines know operations and outcomes. They do not know what a connection is for.

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

/// A driver broke its contract: logged as our own bug, and the outcome's resources are dropped.
pub(crate) fn unexpected(machine: &'static str, state: &dyn std::fmt::Debug, outcome: &Outcome, token: Token) {
    tracing::error!(machine, ?state, outcome = outcome.name(), ?token, "unexpected outcome");
    debug_assert!(false, "{machine} in {state:?} got {outcome:?} for {token:?}");
}
