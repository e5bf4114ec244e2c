//! The HTTP service of a listener.
//!
//! ```text
//!   conn/       a connection: reads requests and sends responses in the same order
//!     │ head                                              ▲ bytes
//!   dispatch    checks, then the host and the route       │
//!     │                                                   │
//!   handler/    files, proxy, redirect, metrics, error    │
//!     │ head to a sink, body as data, or a stream         │
//!   stream/     framing, HEAD, persistence ───────────────┘
//! ```
//!
//! `exchange.rs` is what is known of one request and its response: it begins in `dispatch.rs` and
//! ends once, when the connection says so.

mod conn;
mod dispatch;
mod exchange;
mod handler;
mod response;
mod response_body;
mod router;
mod stream;

pub(super) use self::conn::{Http, Http2};
pub(super) use self::dispatch::refuse_plain;
#[cfg(feature = "internals")]
pub use self::exchange::planted_bug::{ExchangeBug, plant_exchange_bug, unplant_exchange_bug};
pub use self::handler::{
    Api, FileRoute, FileRouteConfig, Files, Handler, Metrics, Operator, Proxy, ProxyRoute, Redirect, ResponseConfig,
    Source, WELCOME_PAGES,
};
pub use self::router::{Route, Router, RouterCell, VirtualHost};
#[cfg(feature = "internals")]
pub use self::stream::planted_bug::{Http2Bug, plant_http2_bug, unplant_http2_bug};
