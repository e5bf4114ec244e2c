//! HTTP from the client's side: requests, and the state machine of one connection to a server.
//!
//! * [`Request`] is a request head of HTTP/1.1, encoded once and sent any number of times;
//!   [`Http2Request`] is a request of HTTP/2.
//! * [`ClientConnection`] is the protocol of one HTTP/1.1 connection: it writes requests to a chain
//!   and finds the responses in an inbox. [`Http2Client`] is that of an HTTP/2 connection.
//!
//! All are pure over bytes. They do not know sockets, names, time or TLS. The owner connects,
//! moves the bytes and keeps the deadlines, so the same state machine serves forwarded requests, health checks
//! and every other client in this program.

#![forbid(unsafe_code)]

mod connection;
mod http2;
mod request;

pub use connection::{AtEnd, ClientConnection, ClientError, ClientLimits, Event, Room};
pub use http2::{Http2Client, Http2ClientLimits, Http2Error, Http2Event, Http2Request, Http2RequestBuilder};
pub use request::{Request, RequestBuilder, RequestFacts};
