//! One TLS session of rustls, with all buffers outside of it.
//!
//! rustls 0.23 has an interface without buffers (`rustls::unbuffered`), which its next version
//! replaces by a similar one. This file is all that depends on which of them it is. It adds no state:
//! how far a handshake is and which keys hold is known to rustls alone.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{ClientConfig, CommonState, Error, ServerConfig};

/// The most bytes by which a record is longer than its plaintext, with a message about keys that may
/// precede it.
pub(super) const OVERHEAD_BYTES_MAX: usize = 128;

/// The most plaintext in one record, in bytes (RFC 8446, 5.1).
pub(super) const RECORD_BYTES_MAX: usize = 16 << 10;

/// A session, from either side.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
    /// A server's side, in the middle of its handshake, that is being worked on elsewhere. It waits for
    /// input, and nothing is known of it.
    Away,
}

/// What [`Session::process`] did.
pub(super) struct Processed {
    /// Bytes at the beginning of its input that are done with.
    pub(super) consumed: usize,
    pub(super) next: Next,
}

/// What has to follow.
pub(super) enum Next {
    /// A record was decrypted: call [`Session::take_record`], then process the rest.
    Record,
    /// More input is needed.
    Input,
    /// The peer has sent `close_notify`. Nothing after it counts.
    Closed,
    /// The session failed. What it has to say to the peer is in the output.
    Failed(Error),
}

/// One step of rustls, with the borrows ended.
enum Step {
    Again,
    Done(Next),
}

/// Handles one status, except that decrypted records and requests to write are left as they are.
fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut Vec<u8>) -> (usize, Step) {
    let step = match status.state {
        Ok(ConnectionState::ReadTraffic(_)) => Step::Done(Next::Record),
        Ok(ConnectionState::EncodeTlsData(mut message)) => match message.encode(&mut []) {
            Err(EncodeError::InsufficientSize(size)) => {
                let filled = output.len();
                output.resize(filled + size.required_size, 0);
                match message.encode(&mut output[filled..]) {
                    Ok(_) => Step::Again,
                    Err(error) => Step::Done(Next::Failed(Error::General(error.to_string()))),
                }
            }
            // An empty message, or one that is encoded already: there is none.
            Ok(_) | Err(EncodeError::AlreadyEncoded) => Step::Again,
        },
        Ok(ConnectionState::TransmitTlsData(messages)) => {
            messages.done();
            Step::Again
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Step::Done(Next::Input),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Step::Done(Next::Closed),
        // Early data are off in every configuration: a client's are skipped by rustls.
        Ok(_) => Step::Done(Next::Failed(Error::General("early data, or a state that is not known".to_owned()))),
        Err(error) => Step::Done(Next::Failed(error)),
    };
    (status.discard, step)
}

/// Passes the records that are decrypted already to `sink`.
fn records<Data>(status: UnbufferedStatus<'_, '_, Data>, mut sink: impl FnMut(&[u8])) {
    if let Ok(ConnectionState::ReadTraffic(mut traffic)) = status.state {
        while let Some(Ok(record)) = traffic.next_record() {
            sink(record.payload);
        }
    }
}

/// Encrypts, if the session can. `None`: it cannot, or not into so little room.
fn encrypt<Data>(status: UnbufferedStatus<'_, '_, Data>, plaintext: &[u8], room: &mut [u8]) -> Result<usize, Refused> {
    let encrypted = match status.state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.encrypt(plaintext, room),
        Ok(ConnectionState::TransmitTlsData(mut messages)) => match messages.may_encrypt_app_data() {
            Some(mut traffic) => traffic.encrypt(plaintext, room),
            None => return Err(Refused::NotReady),
        },
        Ok(_) | Err(_) => return Err(Refused::NotReady),
    };
    encrypted.map_err(Refused::from)
}

/// Why nothing was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is not enough room for the record.
    Room,
    /// The session is not in a state in which plaintext may be sent.
    NotReady,
    /// The keys must not be used any more.
    Exhausted,
}

impl From<EncryptError> for Refused {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(_) => Self::Room,
            EncryptError::EncryptExhausted => Self::Exhausted,
        }
    }
}

impl Session {
    /// The server's side.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Self, Error> {
        UnbufferedServerConnection::new(config).map(Self::Server)
    }

    /// The client's side of a connection to a server with this name.
    ///
    /// # Errors
    /// The configuration cannot be used, or there is no randomness.
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        UnbufferedClientConnection::new(config, name).map(Self::Client)
    }

    /// Processes records at the beginning of `input`, which is what is left of the input so far with
    /// more behind it. Decrypts in place. Appends to `output` what TLS itself sends.
    pub(super) fn process(&mut self, input: &mut [u8], output: &mut Vec<u8>) -> Processed {
        let mut consumed = 0;
        loop {
            let rest = input.get_mut(consumed..).unwrap_or_default();
            let (discard, step) = match self {
                Self::Server(connection) => step(connection.process_tls_records(rest), output),
                Self::Client(connection) => step(connection.process_tls_records(rest), output),
                Self::Away => (0, Step::Done(Next::Input)),
            };
            consumed += discard;
            match step {
                Step::Again => {}
                Step::Done(Next::Failed(error)) => {
                    self.take_last_messages(output);
                    return Processed { consumed, next: Next::Failed(error) };
                }
                Step::Done(next) => return Processed { consumed, next },
            }
        }
    }

    /// After an error: takes the alert about it.
    fn take_last_messages(&mut self, output: &mut Vec<u8>) {
        // What is queued comes first, so that no input is looked at: after an error none must be.
        while self.common().is_some_and(CommonState::wants_write) {
            let (_, step) = match self {
                Self::Server(connection) => step(connection.process_tls_records(&mut []), output),
                Self::Client(connection) => step(connection.process_tls_records(&mut []), output),
                Self::Away => return,
            };
            if matches!(step, Step::Done(_)) {
                return;
            }
        }
    }

    /// Passes the decrypted record to `sink`, after [`Next::Record`].
    pub(super) fn take_record(&mut self, sink: impl FnMut(&[u8])) {
        // What is decrypted comes first, so that no input is looked at.
        match self {
            Self::Server(connection) => records(connection.process_tls_records(&mut []), sink),
            Self::Client(connection) => records(connection.process_tls_records(&mut []), sink),
            Self::Away => {}
        }
    }

    /// Encrypts plaintext for one record into `room`, and returns its length in bytes. `input` is as
    /// in [`Session::process`], which has asked for more.
    pub(super) fn encrypt(&mut self, plaintext: &[u8], room: &mut [u8], input: &mut [u8]) -> Result<usize, Refused> {
        match self {
            Self::Server(connection) => encrypt(connection.process_tls_records(input), plaintext, room),
            Self::Client(connection) => encrypt(connection.process_tls_records(input), plaintext, room),
            Self::Away => Err(Refused::NotReady),
        }
    }

    /// Appends a `close_notify` to `output`, unless the session cannot encrypt yet.
    pub(super) fn close(&mut self, input: &mut [u8], output: &mut Vec<u8>) {
        fn close<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut Vec<u8>) {
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
                let filled = output.len();
                output.resize(filled + OVERHEAD_BYTES_MAX, 0);
                let written = traffic.queue_close_notify(&mut output[filled..]).unwrap_or(0);
                output.truncate(filled + written);
            }
        }
        match self {
            Self::Server(connection) => close(connection.process_tls_records(input), output),
            Self::Client(connection) => close(connection.process_tls_records(input), output),
            Self::Away => {}
        }
    }

    /// Asks the peer for an update of its keys, after one of the own.
    #[cfg(all(test, feature = "ktls-tx"))]
    pub(super) fn refresh_keys(&mut self, output: &mut Vec<u8>) {
        fn refresh<Data>(status: UnbufferedStatus<'_, '_, Data>) -> bool {
            match status.state {
                Ok(ConnectionState::WriteTraffic(traffic)) => traffic.refresh_traffic_keys().is_ok(),
                Ok(_) | Err(_) => false,
            }
        }
        let is_asked = match self {
            Self::Server(connection) => refresh(connection.process_tls_records(&mut [])),
            Self::Client(connection) => refresh(connection.process_tls_records(&mut [])),
            Self::Away => false,
        };
        assert!(is_asked, "keys cannot be updated now");
        self.take_last_messages(output);
    }

    /// What both sides know of the connection; `None` while it is away.
    pub(super) fn common(&self) -> Option<&CommonState> {
        match self {
            Self::Server(connection) => Some(connection),
            Self::Client(connection) => Some(connection),
            Self::Away => None,
        }
    }

    /// Whether the handshake is not complete.
    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_none_or(CommonState::is_handshaking)
    }

    pub(super) const fn is_away(&self) -> bool {
        matches!(self, Self::Away)
    }

    pub(super) const fn is_server(&self) -> bool {
        matches!(self, Self::Server(_) | Self::Away)
    }
}
