//! What the integration tests stand on: the program under test with its log, peers over real
//! sockets, and content that can be told apart byte by byte.
//!
//! Every wait is bounded by [`patience`] and ends as soon as the event comes. Ports are the kernel's
//! choice. Nothing here knows how `xps` works inside.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test program uses its own part")]

pub mod backend;
pub mod bridge;
pub mod cases;
pub mod client;
pub mod content;
pub mod environment;
pub mod fifo;
pub mod files;
pub mod filter;
pub mod h2;
pub mod hosts;
pub mod log;
pub mod namespace;
pub mod process;
pub mod program;
pub mod python;
pub mod server;
pub mod tls;
pub mod unprivileged;
pub mod upstream;

pub use backend::Backend;
pub(crate) use bridge::{http1_only, plain_only};
pub use client::{ask, connect, read_rest, uninterrupted, was_cut};
pub use content::{Content, assert_same_bytes};
pub use environment::{eventually, is_wrapped, patience, skip};
pub use fifo::WaitingWriter;
pub use process::Usage;
pub use server::{Launch, Xps};
pub use upstream::Upstream;

/// Makes one test for each back-end of each case: `fn behaviour(backend) { … }` becomes
/// `behaviour::io_uring` and `behaviour::epoll`.
macro_rules! backends {
    ($($(#[$attribute:meta])* fn $name:ident($backend:ident) $body:block)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "a case may need nothing from around it")]
            use super::*;

            fn case($backend: crate::support::Backend) $body

            #[test]
            fn io_uring() {
                crate::support::backend::run(concat!(stringify!($name), "::io_uring"), crate::support::Backend::IoUring, case);
            }

            #[test]
            fn epoll() {
                crate::support::backend::run(concat!(stringify!($name), "::epoll"), crate::support::Backend::Epoll, case);
            }
        }
    )*};
}
pub(crate) use backends;
