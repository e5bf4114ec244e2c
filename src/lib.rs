//! `xps`: a web server, reverse proxy and load balancer driven by io_uring completions.
//!
//! The library is for programs that embed the server. [`Server::start`] takes a [`ServerConfig`];
//! [`Server::run`] serves until SIGTERM or SIGINT, and drains.
//!
//! ```no_run
//! use xps::{
//!     AdmissionConfig, BackendChoice, FeatureSet, Limits, ListenAddress, ListenerConfig, OperatorConfig, Server,
//!     ServerConfig, ServiceConfig,
//! };
//!
//! let server = Server::start(ServerConfig {
//!     listeners: vec![ListenerConfig::new(ListenAddress::Inet(([127, 0, 0, 1], 0).into()), ServiceConfig::Echo)],
//!     workers: 1,
//!     pin_workers: false,
//!     backend: BackendChoice::Auto,
//!     uring_off: FeatureSet::NONE,
//!     admission: AdmissionConfig::default(),
//!     limits: Limits::default(),
//!     operator: OperatorConfig::default(),
//! })?;
//! println!("echo on {}, by {}", server.addresses()[0], server.selection().backend.name());
//! server.run(|connections| println!("{connections} connections to go"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The server itself is described in `docs/architecture.md`.

// For the library only, not for tests and benchmarks. Faults are states or errors. Terminal output
// goes through `cli`, which handles a closed standard output.
#![warn(
    clippy::exit,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    not(feature = "internals"),
    allow(dead_code, unused_imports, reason = "some items are there for tests; with the feature, all are checked")
)]
#![cfg_attr(feature = "internals", allow(missing_docs, reason = "what is public by this feature alone may go without"))]

mod acme;
mod buffer;
mod calendar;
#[doc(hidden)]
pub mod cli;
mod client;
mod config;
mod core;
mod driver;
mod file;
mod http;
mod limit;
mod load;
mod nearest;
#[cfg(feature = "internals")]
mod planted;
mod session;
mod table;
mod tcp;
mod telemetry;
mod tls;
mod transport;
mod upstream;
mod waiter;

pub use self::config::{
    BackendChoice, FileRouteConfig, ForwardConfig, HandlerConfig, Http2Limits, HttpLimits, Limits, ListenAddress,
    ListenerConfig, NameRouteConfig, OnMissing, OperatorConfig, ResponseConfig, RouteConfig, RouterConfig,
    ServerConfig, ServiceConfig, UpstreamAddress, VirtualHostConfig,
};
pub use self::core::{DrainCause, RunError, Server, StartError, Stop};
pub use self::driver::FeatureSet;
pub use self::driver::probe::Selection;
pub use self::limit::AdmissionConfig;
pub use self::tls::{
    AcmeIssuer, AcmeSource, CertificateSource, ChallengeKind, ClientAuth, ClientAuthMode, LoadError as TlsFileError,
    MinVersion, Misdirected, SelfSigned, ServerSettings as TlsSettings, UnknownName,
};

/// Every module, for the project's own tests and benchmarks. It may change in any version.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    macro_rules! open {
        ($($module:ident)*) => {
            $(pub mod $module {
                pub use crate::$module::*;
            })*
        };
    }

    open! { acme buffer client config core driver file http limit load session table tcp telemetry tls transport upstream waiter }
}
