//! The limits of HTTP/2 connections, as labels.

/// A limit of HTTP/2 connections, by its name in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Http2Limit {
    /// More concurrent streams than the client may open.
    StreamsMax,
    /// More of all bodies than the client may send.
    ConnectionWindow,
    /// More of one body than the client may send.
    StreamWindow,
    /// Too many RST_STREAM frames a second.
    ResetsPerSecond,
    /// Too many streams reset before their responses began.
    EarlyResets,
    /// Too many streams that the server had to reset.
    ResetsEmitted,
    /// Too many CONTINUATION frames of a head.
    ContinuationsMax,
    /// Too many PING frames a second.
    PingsPerSecond,
    /// Too many SETTINGS frames a second.
    SettingsPerSecond,
    /// Too many empty DATA frames a second.
    EmptyDataPerSecond,
    /// Too many useless or wrong frames.
    GlitchesMax,
    /// Too many bytes that are neither heads nor bodies.
    OverheadBytes,
    /// Too many bytes of heads that wait.
    HeldHeads,
}

impl Http2Limit {
    /// All limits, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::StreamsMax,
        Self::ConnectionWindow,
        Self::StreamWindow,
        Self::ResetsPerSecond,
        Self::EarlyResets,
        Self::ResetsEmitted,
        Self::ContinuationsMax,
        Self::PingsPerSecond,
        Self::SettingsPerSecond,
        Self::EmptyDataPerSecond,
        Self::GlitchesMax,
        Self::OverheadBytes,
        Self::HeldHeads,
    ];

    /// The value of the label `limit`: its key in `limits.http2`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamsMax => "streams_max",
            Self::ConnectionWindow => "connection_window",
            Self::StreamWindow => "stream_window",
            Self::ResetsPerSecond => "resets_per_second",
            Self::EarlyResets => "early_resets",
            Self::ResetsEmitted => "resets_emitted",
            Self::ContinuationsMax => "continuations_max",
            Self::PingsPerSecond => "pings_per_second",
            Self::SettingsPerSecond => "settings_per_second",
            Self::EmptyDataPerSecond => "empty_data_per_second",
            Self::GlitchesMax => "glitches_max",
            Self::OverheadBytes => "overhead_bytes",
            Self::HeldHeads => "held_heads",
        }
    }
}
