//! `xps`: a web server, reverse proxy and load balancer driven by io_uring completions.
//!
//! The whole server is a pure function of completions. State machines that never call the kernel
//! are handed outcomes and answer with operations; a [`driver`] carries operations out.
//!
//! | to read first | because |
//! |---|---|
//! | [`driver`] | the contract between machines and the kernel, on one page |
//! | [`tcp`] | one socket's life, and the flow between two |
//! | [`session`] | what a connection is for |
//! | [`limit`] | who may come in, and how often |
//! | [`core`] | one worker's state, its loop, and the server of many workers |
//!
//! A server in a program of one's own:
//!
//! ```no_run
//! use xps::limit::AdmissionConfig;
//! use xps::config::{BackendChoice, Limits, ListenAddress, ListenerConfig, ServerConfig, ServiceConfig};
//! use xps::core::Server;
//! use xps::driver::FeatureSet;
//!
//! let server = Server::start(ServerConfig {
//!     listeners: vec![ListenerConfig::new(ListenAddress::Inet(([127, 0, 0, 1], 0).into()), ServiceConfig::Echo)],
//!     workers: 1,
//!     pin_workers: false,
//!     backend: BackendChoice::Auto,
//!     uring_off: FeatureSet::NONE,
//!     admission: AdmissionConfig::default(),
//!     limits: Limits::default(),
//! })?;
//! println!("echo on {}, by {}", server.addresses()[0], server.selection().backend.name());
//! server.run(|connections| println!("{connections} connections to go"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// For the library alone, and not for what tests and benchmarks do with it: faults are states or errors, and what is written
// to the terminal goes through `cli`, which knows what to do when nothing reads it.
#![warn(
    clippy::exit,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

pub mod buffer;
pub mod cli;
pub mod config;
pub mod core;
pub mod driver;
pub mod file;
pub mod http;
pub mod limit;
pub mod session;
pub mod table;
pub mod tcp;
pub mod telemetry;
pub mod upstream;
