//! From the errors of rustls to the faults of a connection.

use rustls::{CertificateError, Error, InvalidMessage};

use crate::driver::TlsFault;

/// What an error means to an operator.
pub(super) fn fault_of(error: &Error, is_handshaking: bool) -> TlsFault {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion)
            if is_handshaking =>
        {
            TlsFault::NotTls
        }
        Error::InvalidMessage(
            InvalidMessage::CertificatePayloadTooLarge
            | InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::MessageTooLarge,
        )
        | Error::PeerSentOversizedRecord => TlsFault::TooLarge,
        Error::InvalidMessage(_) => TlsFault::Malformed,
        Error::AlertReceived(alert) => TlsFault::Alert(u8::from(*alert)),
        Error::NoCertificatesPresented => TlsFault::NoCertificate,
        Error::InvalidCertificate(error) => certificate_fault(error),
        Error::DecryptError => TlsFault::Undecryptable,
        Error::PeerIncompatible(_) => TlsFault::Incompatible,
        Error::NoApplicationProtocol => TlsFault::NoProtocol,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_)
        | Error::InvalidEncryptedClientHello(_) => TlsFault::Violation,
        // No variant of its own: the resolver of certificates had none for the name.
        Error::General(text) if text.contains("certificate chain resolved") => TlsFault::UnknownName,
        _ => TlsFault::Internal,
    }
}

fn certificate_fault(error: &CertificateError) -> TlsFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::CertificateNotYetValid,
        CertificateError::UnknownIssuer => TlsFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => TlsFault::WrongName,
        _ => TlsFault::InvalidCertificate,
    }
}
