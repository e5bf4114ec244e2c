//! How a session ends: what is told to the peers, and to the log.

use std::fmt;

use crate::admission::Denied;
use crate::driver::Fault;
use crate::tcp::Manner;
use crate::upstream::Unreachable;

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// Everything was delivered, and everybody said that they are done.
    #[error("done")]
    Done,
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
    /// How the peers are told: a reset where bytes are missing, so that nobody takes a part for the whole.
    pub const fn manner(self) -> Manner {
        match self {
            Self::Done | Self::UpstreamUnreachable | Self::FileRefused(_) | Self::Idle => Manner::Orderly,
            Self::Denied(_)
            | Self::NotIntroduced
            | Self::ClientLost(_)
            | Self::ClientLeft
            | Self::UpstreamLost(_)
            | Self::AnswerTruncated
            | Self::UpstreamSilent
            | Self::FileLost(_)
            | Self::FileUnwritten(_)
            | Self::TooSlow
            | Self::Stalled
            | Self::Drained => Manner::Reset,
        }
    }

    /// Whether somebody should look: an upstream or a file is not what it should be. A client that
    /// goes away is part of any server's day.
    pub const fn is_worth_a_warning(self) -> bool {
        match self {
            Self::Done | Self::Denied(_) | Self::ClientLeft | Self::Idle => false,
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
