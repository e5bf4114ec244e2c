//! `xps`: a TCP server and reverse proxy driven by io_uring completions.
//!
//! The whole server is a pure function of completions. State machines that never call the kernel
//! are handed outcomes and answer with operations; a [`driver`] carries operations out.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod buffer;
pub mod config;
pub mod core;
pub mod driver;
pub mod file;
pub mod http;
pub mod session;
pub mod table;
pub mod tcp;
pub mod upstream;
