//! Why TLS on a connection failed.
//!
//! No driver reports this, but the transport that encrypts. It stands here because it travels in the
//! same places as the other faults of a connection.

/// Why a TLS handshake or an established TLS connection failed, in a form that is cheap to pass on.
/// The details are in the debug log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// The connection ended without a `close_notify` (RFC 8446, 6.1): what arrived may be truncated.
    #[error("the peer ended the connection without close_notify")]
    Truncated,
    /// The client left without having sent anything, as a port check does.
    #[error("the peer left without having sent anything")]
    NothingSent,
    /// The peer left before the handshake was complete.
    #[error("the peer left during the handshake")]
    Abandoned,
    /// The handshake was not complete in time.
    #[error("the handshake took too long")]
    TooSlow,
    /// There were too many handshakes at the same time, and this was the oldest.
    #[error("too many handshakes at the same time: the oldest is closed")]
    Displaced,
    /// The client sent an HTTP request without TLS.
    #[error("the client sent plain HTTP")]
    PlainHttp,
    /// The first bytes are no TLS record.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// The peer reported this fatal alert (RFC 8446, 6).
    #[error("the peer sent the alert {}", alert_name(*.0))]
    Alert(u8),
    /// There is no common version, cipher suite or signature scheme.
    #[error("the peer supports no common version, cipher suite or signature scheme")]
    Incompatible,
    /// There is no common application protocol (RFC 7301).
    #[error("the peer supports no common application protocol (ALPN)")]
    NoProtocol,
    /// The client asked for a name that has no certificate here.
    #[error("there is no certificate for the name that the client asked for")]
    UnknownName,
    /// The client asked for a name that leads nowhere: its bytes would have been passed on.
    #[error("no server here has the name that the client asked for")]
    NoRoute,
    /// A certificate is required, and the peer has not presented one.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The peer's certificate has expired.
    #[error("the peer's certificate has expired")]
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    #[error("the peer's certificate is not valid yet")]
    CertificateNotYetValid,
    /// The peer's certificate was not issued by a trusted authority.
    #[error("the peer's certificate is from an unknown issuer")]
    UnknownIssuer,
    /// The server's certificate is for another name.
    #[error("the peer's certificate is for another name")]
    WrongName,
    /// The peer's certificate is invalid for another reason.
    #[error("the peer's certificate is invalid")]
    InvalidCertificate,
    /// A message cannot be parsed.
    #[error("malformed message")]
    Malformed,
    /// A message or a record is too large.
    #[error("message too large")]
    TooLarge,
    /// A record was changed on its way, or encrypted with another key.
    #[error("a record cannot be decrypted")]
    Undecryptable,
    /// A message is not allowed at this point, such as a renegotiation.
    #[error("the peer violates the protocol")]
    Violation,
    /// A failure on this side, such as a key that cannot be used or may not encrypt any more.
    #[error("internal error")]
    Internal,
}

/// The name of an alert in the registry, or its number.
fn alert_name(code: u8) -> std::borrow::Cow<'static, str> {
    let name = match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return code.to_string().into(),
    };
    name.into()
}
