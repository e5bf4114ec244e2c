//! TLS on the server's side: certificates, the settings of a listener, session tickets.
//!
//! | module | what |
//! |---|---|
//! | [`certificates`] | certificate chains with their keys, loaded and checked |
//! | [`server`] | a listener's settings as plain data, and what rustls makes of them |
//! | [`tickets`] | the keys of session tickets, shared by all workers |
//!
//! Nothing here knows sockets, sessions or the configuration file. Files are read only by
//! [`server::ServerSettings::load`], and time is a parameter.

#![forbid(unsafe_code)]

pub mod certificates;
pub mod server;
pub mod tickets;

pub use self::certificates::{CertificateSource, LoadError, Notice, SelfSigned};
pub use self::server::{ClientAuth, ClientAuthMode, LoadedTls, MinVersion, ServerSettings, UnknownName};
pub use self::tickets::TicketKeys;
