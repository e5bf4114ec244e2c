//! The timeouts of clients, as labels.

/// What a client has not done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TimeoutKind {
    /// Complete its TLS handshake.
    Handshake,
    /// Begin its first request.
    First,
    /// Begin another request.
    Idle,
    /// Complete a request head.
    Head,
    /// Send a body that is discarded.
    Body,
    /// Send a body that is forwarded.
    Upload,
    /// Read a response.
    Response,
}

impl TimeoutKind {
    pub(super) const ALL: [Self; 7] =
        [Self::Handshake, Self::First, Self::Idle, Self::Head, Self::Body, Self::Upload, Self::Response];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::First => "first",
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Body => "body",
            Self::Upload => "upload",
            Self::Response => "response",
        }
    }
}
