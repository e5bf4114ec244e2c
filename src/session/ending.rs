//! How a session ends: what is told to the peers, and to the log.

use std::fmt;
use std::time::Duration;

use crate::admission::Denied;
use crate::driver::Fault;
use crate::tcp::Manner;
use crate::upstream::{Release, Unreachable};

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// Everything was delivered, and everybody said that they are done.
    #[error("done")]
    Done,
    /// The upstream had delivered everything, and did not want to hear what the client still had to say.
    #[error("done, as the upstream would hear no more")]
    Unheard,
    /// The connection was not wanted.
    #[error("not let in: {0}")]
    Denied(Denied),
    /// The proxy did not say on whose behalf it comes.
    #[error("no header of the PROXY protocol")]
    NotIntroduced,
    /// The client went away.
    #[error("client lost: {0}")]
    ClientLost(Fault),
    /// The upstream went away in the middle.
    #[error("upstream lost: {0}")]
    UpstreamLost(Fault),
    /// The client ended its side while it was still to be answered.
    #[error("the client left before its answer was complete")]
    ClientLeft,
    /// The upstream ended its side in the middle of an answer, or broke its framing.
    #[error("the upstream's answer broke off")]
    AnswerTruncated,
    /// The upstream was silent for too long in the middle of an answer.
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
    /// The client took nothing of its answer for the configured time, or too little.
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
pub struct Farewell {
    /// How it ended.
    pub ending: Ending,
    /// Why no upstream could be had, if that was it.
    pub failure: Option<Unreachable>,
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(failure) => write!(f, "{}: {failure}", self.ending),
            None => self.ending.fmt(f),
        }
    }
}

impl Ending {
    /// How the client is told: by a reset where bytes are missing, so that it does not take a part for the whole.
    ///
    /// | ending | the client's connection | the upstream's, of a tunnel |
    /// |---|---|---|
    /// | `Done`, `Idle`, `UpstreamUnreachable`, `FileRefused` | orderly | orderly |
    /// | `UpstreamLost`, `AnswerTruncated`, `UpstreamSilent`, `ClientLeft`, `FileLost`, `Stalled` | reset, after all that was sent | reset |
    /// | `Unheard`: what the client goes on sending would make a close a reset | the same | reset |
    /// | `ClientLost` | reset: it is broken | reset, after all that was sent |
    /// | `TooSlow`: it has had its time | reset | reset |
    /// | `Drained`: there is no more time | reset | reset |
    /// | `Denied`, `NotIntroduced`: nothing was sent | reset | – |
    ///
    /// "After all that was sent" has its limit: no progress for `send_timeout`, and the time for draining. Where the
    /// protocol itself shows that bytes are missing, the task has ended the connection in order before that
    /// (`Task::is_told`). A request that is given up is reset at its upstream at once: its answer is not wanted any more.
    pub const fn manner(self) -> Manner {
        match self {
            Self::Done | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::Idle => Manner::Orderly,
            Self::ClientLeft
            | Self::Unheard
            | Self::UpstreamLost(_)
            | Self::AnswerTruncated
            | Self::UpstreamSilent
            | Self::FileLost(_)
            | Self::Stalled => Manner::Delivered,
            Self::Denied(_)
            | Self::NotIntroduced
            | Self::ClientLost(_)
            | Self::FileUnwritten(_)
            | Self::TooSlow
            | Self::Drained => Manner::Reset,
        }
    }

    /// What becomes of a tunnel's connection to its upstream.
    pub const fn release(self, send_timeout: Duration) -> Release {
        match (self, self.manner()) {
            (_, Manner::Orderly) => Release::Close(Manner::Orderly),
            (Self::ClientLost(_), _) => Release::Deliver(send_timeout),
            (_, Manner::Delivered | Manner::Reset) => Release::Close(Manner::Reset),
        }
    }

    /// Whether somebody should look: an upstream or a file is not what it should be. A client that
    /// goes away is part of any server's day.
    pub const fn is_worth_a_warning(self) -> bool {
        match self {
            Self::Done | Self::Unheard | Self::Denied(_) | Self::ClientLeft | Self::Idle => false,
            Self::TooSlow | Self::Stalled | Self::Drained => false,
            Self::ClientLost(fault) => !fault.is_disconnect(),
            // Said already, with upstream and reason.
            Self::AnswerTruncated | Self::UpstreamSilent => false,
            Self::NotIntroduced => true,
            Self::UpstreamLost(_) | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::FileLost(_) => true,
            Self::FileUnwritten(_) => true,
        }
    }
}
