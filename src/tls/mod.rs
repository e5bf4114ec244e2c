//! TLS 1.2 and 1.3: the state machine of a connection, and what a listener's settings become.
//!
//! ```text
//!   received buffers ──feed──► Stream ──take──► plaintext
//!                                │ session.rs: rustls
//!          to send   ◄──seal─── Stream ◄─────── plaintext
//! ```
//!
//! * [`Stream`]: ciphertext in, plaintext out, and the reverse. It owns what has arrived and cannot be
//!   decrypted yet, and what TLS itself has to send. It knows neither sockets nor drivers.
//! * `session.rs` is the only file that calls rustls' connections: the buffers are kept outside, as
//!   in the interface that rustls is moving to.
//! * `client_hello.rs` reads the names that a client asks for.
//! * [`ConnectionFacts`]: what is known of a client's connection after its handshake.
//! * [`Subject`]: whose a certificate is, as text.
//! * [`certificates`]: certificate chains with their keys, loaded and checked.
//! * [`acme`]: certificates that are obtained while the server runs.
//! * [`server`]: a listener's settings as plain data, and what rustls makes of them.
//! * [`client`]: the same for connections to upstreams.
//! * [`tickets`]: the keys of session tickets, shared by all workers.
//! * `seeded.rs`, only with the feature `internals`: deterministic cryptography for the simulation.
//! * `ktls.rs` and `stream/kernel.rs`, with the feature `ktls-tx`: the keys with which the kernel
//!   continues to encrypt.
//!
//! Renegotiation and early data (0-RTT) are refused. The end of a connection without `close_notify`
//! is a fault, never an end of input. Files are read only by [`server::ServerSettings::load`], and time
//! is a parameter.

pub mod acme;
pub mod certificates;
pub mod client;
mod client_hello;
mod connection_facts;
mod fault;
#[cfg(feature = "ktls-tx")]
mod ktls;
#[cfg(feature = "internals")]
pub mod planted_bug;
#[cfg(feature = "internals")]
pub mod seeded;
pub mod server;
mod session;
mod stream;
mod subject;
#[cfg(test)]
pub(crate) mod testing;
pub mod tickets;

pub use self::acme::{AcmeIssuer, AcmeSource, ChallengeKind, ChallengeTokens, Issued};
pub use self::certificates::{CertificateSource, LoadError, Notice, SelfSigned};
pub use self::client::{ClientSettings, ClientTls, InvalidPeerName, TlsPeer};
pub use self::client_hello::{ClientHello, HelloError, HelloReader};
pub use self::connection_facts::{ClientCertificate, ConnectionFacts};
pub use self::server::{
    ClientAuth, ClientAuthMode, LoadedTls, MinVersion, Misdirected, ServerSettings, ServerTls, UnknownName,
};
pub use self::stream::{Handshake, HandshakeInfo, SEAL_BYTES_MAX, Stream, Work, WorkDone};
pub use self::subject::Subject;
pub use self::tickets::TicketKeys;
