//! HTTP/1.1 from the client's side: requests, and the state machine of one connection to a server.
//!
//! * [`Request`] is a request head, encoded once and sent any number of times.
//! * [`ClientConnection`] is the protocol of one connection: it writes requests to a chain and finds
//!   the responses in an inbox.
//!
//! Both are pure over bytes. They do not know sockets, names, time or TLS. The owner connects,
//! moves the bytes and keeps the deadlines, so the same state machine serves forwarded requests, health checks
//! and every other client in this program.

#![forbid(unsafe_code)]

mod connection;
mod request;

pub use connection::{AtEnd, ClientConnection, ClientError, ClientLimits, Event, Room};
pub use request::{Request, RequestBuilder, RequestFacts};
