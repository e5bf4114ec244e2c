//! Why a session ends, how that closes its connections, and what the log says.

use std::fmt;
use std::time::Duration;

use crate::driver::{Fault, TlsFault};
use crate::http::h2::ErrorCode;
use crate::limit::Denied;
use crate::tcp::CloseKind;
use crate::upstream::{Release, Unreachable};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Everything was delivered, and all sides have closed their end.
    #[error("done")]
    Done,
    /// The upstream had sent everything, and stopped reading before the client finished.
    #[error("done: the upstream stopped reading")]
    UpstreamStoppedReading,
    /// The access list or the limit of connections per address denied the connection.
    #[error("denied: {0}")]
    Denied(Denied),
    /// The PROXY protocol header is missing or malformed.
    #[error("missing or malformed PROXY protocol header")]
    NoProxyHeader,
    /// The TLS handshake failed, or was not complete in time.
    #[error("TLS handshake failed: {0}")]
    TlsFailed(TlsFault),
    /// The client violated HTTP/2 or one of its limits. GOAWAY with this code was sent.
    #[error("HTTP/2 connection error: {0}")]
    Http2(ErrorCode),
    /// The client's connection failed.
    #[error("client lost: {0}")]
    ClientLost(Fault),
    /// The upstream's connection failed in the middle of a transfer.
    #[error("upstream lost: {0}")]
    UpstreamLost(Fault),
    /// The client closed its side before its response was complete.
    #[error("client left before the response was complete")]
    ClientLeft,
    /// The upstream closed its side in the middle of a response, or its framing is malformed.
    #[error("upstream response truncated")]
    ResponseTruncated,
    /// The upstream sent nothing for `response_timeout` in the middle of a response.
    #[error("upstream timed out in the middle of its response")]
    UpstreamSilent,
    /// No upstream could be connected to.
    #[error("upstream unreachable")]
    UpstreamUnreachable,
    /// The file cannot be opened, or is not a regular file.
    #[error("file refused: {0}")]
    FileRefused(Fault),
    /// The file became shorter while it was being sent.
    #[error("file lost: {0}")]
    FileLost(Fault),
    /// The received file could not be created, written or named.
    #[error("file not written: {0}")]
    FileUnwritten(Fault),
    /// No byte was transferred for the configured time.
    #[error("idle for too long")]
    Idle,
    /// The client read nothing for the configured time, or less than the minimum rate.
    #[error("client reads too slowly")]
    TooSlow,
    /// As [`CloseReason::Idle`], but with a transfer incomplete.
    #[error("stalled for too long")]
    Stalled,
    /// The server is stopping, and the connection was still open at the end of the drain time.
    #[error("drain timeout: closed by the server's stop")]
    Drained,
}

/// A close reason with its cause, for the log.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd {
    pub close_reason: CloseReason,
    /// Why no upstream could be connected, if that is the reason.
    pub failure: Option<Unreachable>,
}

impl SessionEnd {
    /// The value of `cause` in the log: the reason in words, with what the system said. `None` after
    /// an orderly end.
    pub fn cause(&self) -> Option<impl fmt::Display> {
        (self.close_reason != CloseReason::Done).then_some(self)
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(failure) => write!(f, "{}: {failure}", self.close_reason),
            None => self.close_reason.fmt(f),
        }
    }
}

impl CloseReason {
    /// The value of `close_reason` in the log: a fixed word to search for and to count by.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::UpstreamStoppedReading => "upstream_stopped_reading",
            Self::Denied(_) => "denied",
            Self::NoProxyHeader => "no_proxy_header",
            Self::TlsFailed(_) => "tls_failed",
            Self::Http2(_) => "http2_error",
            Self::ClientLost(_) => "client_lost",
            Self::UpstreamLost(_) => "upstream_lost",
            Self::ClientLeft => "client_left",
            Self::ResponseTruncated => "response_truncated",
            Self::UpstreamSilent => "upstream_timeout",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::FileRefused(_) => "file_refused",
            Self::FileLost(_) => "file_lost",
            Self::FileUnwritten(_) => "file_not_written",
            Self::Idle => "idle_timeout",
            Self::TooSlow => "client_too_slow",
            Self::Stalled => "stalled",
            Self::Drained => "drain_timeout",
        }
    }

    /// How the client's connection is closed. Where bytes are missing it is reset, so that the
    /// client does not take truncated data for complete.
    ///
    /// | close reason | client's connection | upstream connection of a tunnel |
    /// |---|---|---|
    /// | `Done`, `Idle`, `UpstreamUnreachable`, `FileRefused` | FIN | FIN |
    /// | `TlsFailed` (after the alert) | FIN | – |
    /// | `Http2` (after GOAWAY) | FIN | reset |
    /// | `UpstreamLost`, `ResponseTruncated`, `UpstreamSilent`, `ClientLeft`, `FileLost`, `Stalled` | reset after the flush | reset |
    /// | `UpstreamStoppedReading` (a close with unread data from the client is a reset anyway) | reset after the flush | reset |
    /// | `ClientLost` | reset (it is broken) | reset after the flush |
    /// | `FileUnwritten` (nothing was sent) | reset | – |
    /// | `TooSlow` (its time is used up) | reset | reset |
    /// | `Drained` (the drain time is used up) | reset | reset |
    /// | `Denied`, `NoProxyHeader` (nothing was sent) | reset | – |
    ///
    /// The flush ends early after no progress for `send_timeout`, or at the end of the drain time.
    /// Where the protocol itself shows that bytes are missing, the task has already closed the
    /// connection in order (`Task::is_end_signalled`). If an HTTP request is given up, its upstream
    /// connection is reset at once: the response is no longer needed.
    pub const fn close_kind(self) -> CloseKind {
        match self {
            Self::Done
            | Self::UpstreamUnreachable
            | Self::FileRefused(_)
            | Self::Idle
            | Self::TlsFailed(_)
            | Self::Http2(_) => CloseKind::Fin,
            Self::ClientLeft
            | Self::UpstreamStoppedReading
            | Self::UpstreamLost(_)
            | Self::ResponseTruncated
            | Self::UpstreamSilent
            | Self::FileLost(_)
            | Self::Stalled => CloseKind::FlushReset,
            Self::Denied(_)
            | Self::NoProxyHeader
            | Self::ClientLost(_)
            | Self::FileUnwritten(_)
            | Self::TooSlow
            | Self::Drained => CloseKind::Reset,
        }
    }

    /// How a tunnel's upstream connection is closed.
    pub const fn release(self, send_timeout: Duration) -> Release {
        match (self, self.close_kind()) {
            // Its stream is broken, as that of a lost client.
            (Self::Http2(_), _) => Release::Close(CloseKind::Reset),
            (_, CloseKind::Fin) => Release::Close(CloseKind::Fin),
            (Self::ClientLost(_), _) => Release::FlushReset(send_timeout),
            (_, CloseKind::FlushReset | CloseKind::Reset) => Release::Close(CloseKind::Reset),
        }
    }

    /// Whether the record is logged as a warning: the operator should look at an upstream or a
    /// file. A client that disconnects is normal.
    pub const fn is_worth_a_warning(self) -> bool {
        match self {
            Self::Done | Self::UpstreamStoppedReading | Self::Denied(_) | Self::ClientLeft | Self::Idle => false,
            Self::TooSlow | Self::Stalled | Self::Drained | Self::Http2(_) => false,
            Self::ClientLost(fault) => !fault.is_disconnect(),
            // Logged already, with upstream and reason.
            Self::ResponseTruncated | Self::UpstreamSilent => false,
            Self::NoProxyHeader => true,
            Self::TlsFailed(fault) => matches!(fault, TlsFault::Internal),
            Self::UpstreamLost(_) | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::FileLost(_) => true,
            Self::FileUnwritten(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::CLOSE_REASONS;

    #[test]
    fn each_code_is_counted() {
        let (_, codes) = include_str!("close_reason.rs").split_once("fn code(self)").unwrap();
        let (codes, _) = codes.split_once("\n    }").unwrap();
        let codes: Vec<_> = codes.split('"').skip(1).step_by(2).collect();
        assert_eq!(codes, CLOSE_REASONS);
    }

    #[test]
    fn codes_of_http2_are_named_as_in_the_rfc() {
        let cause = |code| {
            let close_reason = CloseReason::Http2(ErrorCode::new(code));
            SessionEnd { close_reason, failure: None }.cause().map(|cause| cause.to_string())
        };
        assert_eq!(cause(0x1).as_deref(), Some("HTTP/2 connection error: PROTOCOL_ERROR"));
        assert_eq!(cause(0xb).as_deref(), Some("HTTP/2 connection error: ENHANCE_YOUR_CALM"));
        assert_eq!(cause(0xd).as_deref(), Some("HTTP/2 connection error: HTTP_1_1_REQUIRED"));
        assert_eq!(cause(0xe).as_deref(), Some("HTTP/2 connection error: 0xe"));
    }
}
