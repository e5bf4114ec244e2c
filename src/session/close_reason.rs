//! How a session ends: what is told to the peers, and to the log.

use std::fmt;
use std::time::Duration;

use crate::driver::Fault;
use crate::limit::Denied;
use crate::tcp::CloseKind;
use crate::upstream::{Release, Unreachable};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Everything was delivered, and everybody said that they are done.
    #[error("done")]
    Done,
    /// The upstream had delivered everything, and did not want to hear what the client still had to say.
    #[error("done, as the upstream would hear no more")]
    UpstreamStoppedReading,
    /// The connection was not wanted.
    #[error("not let in: {0}")]
    Denied(Denied),
    /// The proxy did not say on whose behalf it comes.
    #[error("no header of the PROXY protocol")]
    NoProxyHeader,
    /// The client went away.
    #[error("client lost: {0}")]
    ClientLost(Fault),
    /// The upstream went away in the middle.
    #[error("upstream lost: {0}")]
    UpstreamLost(Fault),
    /// The client ended its side while it was still to be answered.
    #[error("the client left before its answer was complete")]
    ClientLeft,
    /// The upstream ended its side in the middle of a response, or broke its framing.
    #[error("the upstream's answer broke off")]
    ResponseTruncated,
    /// The upstream was silent for too long in the middle of a response.
    #[error("the upstream fell silent in the middle of its answer")]
    UpstreamSilent,
    /// No upstream could be connected to.
    #[error("upstream unreachable")]
    UpstreamUnreachable,
    /// The file cannot be opened, or is not one that has bytes to send.
    #[error("file refused: {0}")]
    FileRefused(Fault),
    /// The file broke off while it was being sent.
    #[error("file lost: {0}")]
    FileLost(Fault),
    /// What the client sent cannot be written, or the file not be named.
    #[error("file not written: {0}")]
    FileUnwritten(Fault),
    /// No byte has moved for the configured time.
    #[error("idle for too long")]
    Idle,
    /// The client took nothing of its response for the configured time, or too little.
    #[error("too slow in taking its answer")]
    TooSlow,
    /// The same, in the middle of something.
    #[error("stalled for too long")]
    Stalled,
    /// The server was stopped, and the connection outlived the time allowed for draining.
    #[error("cut off by the server's stop")]
    Drained,
}

/// An ending with what is known beyond it, in words.
#[derive(Clone, Copy, Debug)]
pub struct SessionEnd {
    /// How it ended.
    pub close_reason: CloseReason,
    /// Why no upstream could be had, if that was it.
    pub failure: Option<Unreachable>,
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
    /// How the client is told: by a reset where bytes are missing, so that it does not take a part for the whole.
    ///
    /// | ending | the client's connection | the upstream's, of a tunnel |
    /// |---|---|---|
    /// | `Done`, `Idle`, `UpstreamUnreachable`, `FileRefused` | orderly | orderly |
    /// | `UpstreamLost`, `ResponseTruncated`, `UpstreamSilent`, `ClientLeft`, `FileLost`, `Stalled` | reset, after all that was sent | reset |
    /// | `UpstreamStoppedReading`: what the client goes on sending would make a close a reset | the same | reset |
    /// | `ClientLost` | reset: it is broken | reset, after all that was sent |
    /// | `TooSlow`: it has had its time | reset | reset |
    /// | `Drained`: there is no more time | reset | reset |
    /// | `Denied`, `NoProxyHeader`: nothing was sent | reset | – |
    ///
    /// "After all that was sent" has its limit: no progress for `send_timeout`, and the time for draining. Where the
    /// protocol itself shows that bytes are missing, the task has ended the connection in order before that
    /// (`Task::is_end_signalled`). A request that is given up is reset at its upstream at once: its response is not wanted any more.
    pub const fn close_kind(self) -> CloseKind {
        match self {
            Self::Done | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::Idle => CloseKind::Fin,
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

    /// What becomes of a tunnel's connection to its upstream.
    pub const fn release(self, send_timeout: Duration) -> Release {
        match (self, self.close_kind()) {
            (_, CloseKind::Fin) => Release::Close(CloseKind::Fin),
            (Self::ClientLost(_), _) => Release::FlushReset(send_timeout),
            (_, CloseKind::FlushReset | CloseKind::Reset) => Release::Close(CloseKind::Reset),
        }
    }

    /// Whether somebody should look: an upstream or a file is not what it should be. A client that
    /// goes away is part of any server's day.
    pub const fn is_worth_a_warning(self) -> bool {
        match self {
            Self::Done | Self::UpstreamStoppedReading | Self::Denied(_) | Self::ClientLeft | Self::Idle => false,
            Self::TooSlow | Self::Stalled | Self::Drained => false,
            Self::ClientLost(fault) => !fault.is_disconnect(),
            // Said already, with upstream and reason.
            Self::ResponseTruncated | Self::UpstreamSilent => false,
            Self::NoProxyHeader => true,
            Self::UpstreamLost(_) | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::FileLost(_) => true,
            Self::FileUnwritten(_) => true,
        }
    }
}
