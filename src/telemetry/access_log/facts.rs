//! What the access log says of an exchange besides its request, its status and its sizes.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// Why a request that was to be forwarded has no response of an upstream, or not all of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The upstream refused the connection.
    ConnectRefused,
    /// The upstream did not accept the connection within `connect_timeout`.
    ConnectTimeout,
    /// The connection failed otherwise: no route, or a reset in the TLS handshake.
    ConnectFailed,
    /// There is no unix socket at the path.
    MissingSocket,
    /// The name cannot be resolved.
    Unresolvable,
    /// The name was not resolved within `connect_timeout`.
    ResolveTimeout,
    /// The TLS handshake with the upstream failed.
    TlsFailed,
    /// The TLS handshake was not complete within `connect_timeout`.
    TlsTimeout,
    /// This host lacks descriptors, ports or memory for another connection.
    NoResources,
    /// All upstreams are at their connection limits, and the queue is full.
    QueueFull,
    /// All upstreams stayed at their connection limits until the timeout of the queue.
    QueueTimeout,
    /// All upstreams are down by their health checks, or have weight 0.
    AllDown,
    /// The upstream sent no response within `response_timeout`.
    ResponseTimeout,
    /// The upstream reset the connection before its response head was complete.
    ResetBeforeResponse,
    /// The upstream closed the connection before its response head was complete.
    ClosedBeforeResponse,
    /// What the upstream sent is no response to the request.
    MalformedResponse,
    /// The response head exceeds the limits of heads.
    ResponseTooLarge,
    /// The upstream sent too many interim responses (1xx).
    TooManyInterim,
    /// The upstream did not switch to the protocol that the client has to get.
    UpgradeFailed,
    /// The upstream was silent for `response_timeout` within the response body.
    ResponseStalled,
    /// The upstream reset the connection within the response body.
    ResetInResponse,
    /// The upstream closed the connection within the response body.
    ClosedInResponse,
    /// The framing of the response body is malformed.
    MalformedBody,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: [Self; 23] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::MissingSocket,
        Self::Unresolvable,
        Self::ResolveTimeout,
        Self::TlsFailed,
        Self::TlsTimeout,
        Self::NoResources,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::AllDown,
        Self::ResponseTimeout,
        Self::ResetBeforeResponse,
        Self::ClosedBeforeResponse,
        Self::MalformedResponse,
        Self::ResponseTooLarge,
        Self::TooManyInterim,
        Self::UpgradeFailed,
        Self::ResponseStalled,
        Self::ResetInResponse,
        Self::ClosedInResponse,
        Self::MalformedBody,
    ];

    /// A fixed word, to search for and to count by.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::MissingSocket => "missing_socket",
            Self::Unresolvable => "unresolvable",
            Self::ResolveTimeout => "resolve_timeout",
            Self::TlsFailed => "tls_failed",
            Self::TlsTimeout => "tls_timeout",
            Self::NoResources => "no_resources",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::AllDown => "all_down",
            Self::ResponseTimeout => "response_timeout",
            Self::ResetBeforeResponse => "reset_before_response",
            Self::ClosedBeforeResponse => "closed_before_response",
            Self::MalformedResponse => "malformed_response",
            Self::ResponseTooLarge => "response_too_large",
            Self::TooManyInterim => "too_many_interim",
            Self::UpgradeFailed => "upgrade_failed",
            Self::ResponseStalled => "response_stalled",
            Self::ResetInResponse => "reset_in_response",
            Self::ClosedInResponse => "closed_in_response",
            Self::MalformedBody => "malformed_body",
        }
    }

    /// The same as a termination code.
    pub const fn termination(self) -> Termination {
        Termination(match self {
            Self::ConnectRefused
            | Self::ConnectFailed
            | Self::MissingSocket
            | Self::Unresolvable
            | Self::TlsFailed
            | Self::AllDown => *b"SC",
            Self::ConnectTimeout | Self::ResolveTimeout | Self::TlsTimeout => *b"sC",
            Self::NoResources => *b"RC",
            Self::QueueFull => *b"RQ",
            Self::QueueTimeout => *b"sQ",
            Self::ResponseTimeout => *b"sH",
            Self::ResetBeforeResponse | Self::ClosedBeforeResponse => *b"SH",
            Self::MalformedResponse | Self::ResponseTooLarge | Self::TooManyInterim | Self::UpgradeFailed => *b"PH",
            Self::ResponseStalled => *b"sD",
            Self::ResetInResponse | Self::ClosedInResponse => *b"SD",
            Self::MalformedBody => *b"PD",
        })
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// How an exchange ended, in two letters with the meaning that they have in HAProxy's log: who ended it,
/// and what it waited for then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termination([u8; 2]);

impl Termination {
    /// The response is complete.
    pub const COMPLETE: Self = Self(*b"--");
    /// The server refused the request.
    pub const REFUSED: Self = Self(*b"PR");
    /// The client took too long with its head.
    pub const LATE_HEAD: Self = Self(*b"cR");

    /// An exchange that `by` ended at `at`.
    pub const fn new(by: EndedBy, at: EndedAt) -> Self {
        Self([by as u8, at as u8])
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        // They are ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Who ended an exchange before its response was complete: the first letter of a [`Termination`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndedBy {
    /// The client left.
    Client = b'C',
    /// The client was too slow.
    ClientTimeout = b'c',
    /// The upstream.
    Upstream = b'S',
    /// The upstream was silent for too long.
    UpstreamTimeout = b's',
    /// The end of the drain time.
    Stop = b'K',
    /// The server itself: what it was sending was lost.
    Internal = b'I',
}

/// What an exchange waited for when it ended: the second letter of a [`Termination`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum EndedAt {
    /// A slot of an upstream.
    Queue = b'Q',
    /// The connection to an upstream.
    Connect = b'C',
    /// The head of the response.
    #[default]
    Head = b'H',
    /// The rest of the response.
    Data = b'D',
}

/// Whether the response to a request for a file waited for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// What was needed was in the cache.
    Hit,
    /// Something had to be looked up.
    Miss,
}

impl CacheState {
    /// A fixed word.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// What is noted of an exchange while it lasts.
#[derive(Debug, Default)]
pub struct Facts {
    /// For a request for a file.
    pub cache: Option<CacheState>,
    /// The server has refused the request before its handler saw it.
    pub is_refused: bool,
    /// For a request that was forwarded, or was to be. Boxed, since others are more frequent and have none.
    pub forwarded: Option<Box<Forwarded>>,
}

/// What is known of a request that was forwarded, or was to be.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// The path prefix of its route, which names the group of upstreams.
    pub route: Option<Rc<str>>,
    /// The configured address of the upstream that was used, or tried, last.
    pub upstream: Option<Rc<str>>,
    /// Number of connections that were tried.
    pub tries: u32,
    /// Time in the queue.
    pub queue: Duration,
    /// Time of the last connect, with the look-up of the name and the TLS handshake; zero for an idle
    /// connection.
    pub connect: Duration,
    /// From the arrival of the request to that of the response head.
    pub first_byte: Option<Duration>,
    /// Bytes of the request body, or of the client in a tunnel, without framing.
    pub request_bytes: u64,
    /// What it waited for at its end, until a response began.
    pub at: EndedAt,
    /// Why it failed.
    pub reason: Option<FailureReason>,
}

/// What is known at the end of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeEnd {
    /// The status of the response; 499 without one.
    pub status: u16,
    /// Bytes of the response body that were sent.
    pub body_bytes: u64,
    /// From the arrival of the request head. Without a valid head from its beginning, as far as that is known.
    pub duration: Duration,
    /// How it ended.
    pub termination: Termination,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_reason_has_a_word_and_a_code_of_its_own_kind() {
        let codes: HashSet<&str> = FailureReason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), FailureReason::ALL.len());
        for reason in FailureReason::ALL {
            assert!(reason.code().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{reason}");
            let code = reason.termination();
            let mut letters = code.as_str().chars();
            let pair = (letters.next(), letters.next());
            assert!(matches!(pair, (Some('S' | 's' | 'P' | 'R'), Some('Q' | 'C' | 'H' | 'D'))), "{reason}: {code:?}");
        }
    }

    #[test]
    fn a_termination_is_two_letters() {
        assert_eq!(Termination::new(EndedBy::ClientTimeout, EndedAt::Data).as_str(), "cD");
        assert_eq!(Termination::new(EndedBy::Client, EndedAt::default()).as_str(), "CH");
        assert_eq!(Termination::COMPLETE.as_str(), "--");
    }
}
