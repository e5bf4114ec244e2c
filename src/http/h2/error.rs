//! Error codes (RFC 9113, 7), and the two kinds of errors: of the connection and of one stream.

use std::fmt;

use super::frame::StreamId;

/// An error code, as in RST_STREAM and GOAWAY. Unknown codes have no special meaning; they are kept
/// for the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(u32);

/// The connection cannot go on: GOAWAY, then close (RFC 9113, 5.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// The code in GOAWAY.
    pub code: ErrorCode,
    /// What was wrong, as half a sentence. Never contains anything that the peer sent.
    pub reason: &'static str,
}

/// One stream cannot go on: RST_STREAM (RFC 9113, 5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The stream.
    pub stream: StreamId,
    /// The code in RST_STREAM.
    pub code: ErrorCode,
    /// What was wrong, as half a sentence. Never contains anything that the peer sent.
    pub reason: &'static str,
}

impl ErrorCode {
    /// The code with this number.
    pub const fn new(code: u32) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

macro_rules! registry {
    ($($code:literal $name:ident)+) => {
        impl ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub const $name: Self = Self($code);
            )+

            /// The registered name; empty for a code that is not registered.
            pub const fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)+
                    _ => "",
                }
            }
        }
    };
}

registry! {
    0x0 NO_ERROR
    0x1 PROTOCOL_ERROR
    0x2 INTERNAL_ERROR
    0x3 FLOW_CONTROL_ERROR
    0x4 SETTINGS_TIMEOUT
    0x5 STREAM_CLOSED
    0x6 FRAME_SIZE_ERROR
    0x7 REFUSED_STREAM
    0x8 CANCEL
    0x9 COMPRESSION_ERROR
    0xa CONNECT_ERROR
    0xb ENHANCE_YOUR_CALM
    0xc INADEQUATE_SECURITY
    0xd HTTP_1_1_REQUIRED
}

impl ConnectionError {
    /// An error with this code.
    pub const fn new(code: ErrorCode, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// A PROTOCOL_ERROR.
    pub const fn protocol(reason: &'static str) -> Self {
        Self::new(ErrorCode::PROTOCOL_ERROR, reason)
    }

    /// A FRAME_SIZE_ERROR.
    pub const fn frame_size(reason: &'static str) -> Self {
        Self::new(ErrorCode::FRAME_SIZE_ERROR, reason)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "" => write!(f, "{:#x}", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

impl std::error::Error for ConnectionError {}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}: {}: {}", self.stream.get(), self.code, self.reason)
    }
}

impl std::error::Error for StreamError {}
