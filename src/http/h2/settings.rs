//! The settings of the peer (RFC 9113, 6.5; RFC 8441, 3; RFC 9218, 2.1).
//!
//! What follows from a change is for those who own it: windows of streams, the encoder. When
//! settings are sent and acknowledged is not known here.

use super::error::{ConnectionError, ErrorCode};
use super::frame::{FRAME_BYTES_CEILING, FRAME_BYTES_MIN, SETTING_BYTES};
use super::window::WINDOW_CEILING;

/// Identifiers of settings.
pub mod id {
    /// `SETTINGS_HEADER_TABLE_SIZE`
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// `SETTINGS_ENABLE_PUSH`
    pub const ENABLE_PUSH: u16 = 0x2;
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// `SETTINGS_INITIAL_WINDOW_SIZE`
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// `SETTINGS_MAX_FRAME_SIZE`
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// `SETTINGS_MAX_HEADER_LIST_SIZE`
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 8441)
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
    /// `SETTINGS_NO_RFC7540_PRIORITIES` (RFC 9218)
    pub const NO_RFC7540_PRIORITIES: u16 = 0x9;
}

/// SETTINGS_INITIAL_WINDOW_SIZE before any settings.
pub const INITIAL_WINDOW_BYTES: u32 = 65_535;

/// SETTINGS_HEADER_TABLE_SIZE before any settings.
pub const TABLE_BYTES: u32 = 4_096;

/// Which side sent the settings: some values are for one side only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It is a client.
    Client,
    /// It is a server.
    Server,
}

/// What the peer allows us to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest dynamic table that the peer's decoder keeps.
    pub table_bytes_max: u32,
    /// Whether we may push.
    pub enable_push: bool,
    /// Streams that we may open at a time; `None`: no limit was set.
    pub streams_max: Option<u32>,
    /// Window of new streams.
    pub initial_window_bytes: u32,
    /// Largest payload of a frame.
    pub frame_bytes_max: u32,
    /// Advice: larger lists of fields may be refused.
    pub list_bytes_max: Option<u32>,
    /// Whether we may use extended CONNECT.
    pub connect_protocol: bool,
    /// Whether the peer ignores priorities of RFC 7540; `None`: it did not say.
    pub no_rfc7540_priorities: Option<bool>,
}

impl Default for Settings {
    /// Those before any SETTINGS frame.
    fn default() -> Self {
        Self {
            table_bytes_max: TABLE_BYTES,
            enable_push: true,
            streams_max: None,
            initial_window_bytes: INITIAL_WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MIN,
            list_bytes_max: None,
            connect_protocol: false,
            no_rfc7540_priorities: None,
        }
    }
}

impl Settings {
    /// Applies the entries of a SETTINGS frame in their order; unknown ones are ignored. Returns by
    /// how much the windows of all open streams change (RFC 9113, 6.9.2).
    ///
    /// After an error the settings must not be used.
    pub fn apply(&mut self, peer: Peer, entries: &[u8]) -> Result<i64, ConnectionError> {
        let before = i64::from(self.initial_window_bytes);
        let (entries, rest) = entries.as_chunks::<SETTING_BYTES>();
        debug_assert!(rest.is_empty(), "the length was checked");
        for &[i1, i0, v3, v2, v1, v0] in entries {
            self.set(peer, u16::from_be_bytes([i1, i0]), u32::from_be_bytes([v3, v2, v1, v0]))?;
        }
        Ok(i64::from(self.initial_window_bytes) - before)
    }

    fn set(&mut self, peer: Peer, id: u16, value: u32) -> Result<(), ConnectionError> {
        match id {
            id::HEADER_TABLE_SIZE => self.table_bytes_max = value,
            id::ENABLE_PUSH => {
                let enable = switch(value)?;
                if enable && peer == Peer::Server {
                    return Err(ConnectionError::protocol("a server enables pushes"));
                }
                self.enable_push = enable;
            }
            id::MAX_CONCURRENT_STREAMS => self.streams_max = Some(value),
            id::INITIAL_WINDOW_SIZE if value > WINDOW_CEILING => {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "SETTINGS_INITIAL_WINDOW_SIZE is too large",
                ));
            }
            id::INITIAL_WINDOW_SIZE => self.initial_window_bytes = value,
            id::MAX_FRAME_SIZE if !(FRAME_BYTES_MIN..=FRAME_BYTES_CEILING).contains(&value) => {
                return Err(ConnectionError::protocol("SETTINGS_MAX_FRAME_SIZE is out of range"));
            }
            id::MAX_FRAME_SIZE => self.frame_bytes_max = value,
            id::MAX_HEADER_LIST_SIZE => self.list_bytes_max = Some(value),
            id::ENABLE_CONNECT_PROTOCOL => {
                let enable = switch(value)?;
                if self.connect_protocol && !enable {
                    return Err(ConnectionError::protocol("SETTINGS_ENABLE_CONNECT_PROTOCOL is withdrawn"));
                }
                self.connect_protocol = enable;
            }
            id::NO_RFC7540_PRIORITIES => {
                let ignored = switch(value)?;
                // It is fixed by the first SETTINGS frame, of which the values are not told apart here
                // from later ones: a change is an error, a first mention is not.
                if self.no_rfc7540_priorities.is_some_and(|before| before != ignored) {
                    return Err(ConnectionError::protocol("SETTINGS_NO_RFC7540_PRIORITIES changes"));
                }
                self.no_rfc7540_priorities = Some(ignored);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A setting that is 0 or 1.
const fn switch(value: u32) -> Result<bool, ConnectionError> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ConnectionError::protocol("a setting is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{HEADER_BYTES, push_settings};
    use super::*;

    fn applied(settings: &mut Settings, peer: Peer, entries: &[(u16, u32)]) -> Result<i64, ErrorCode> {
        let mut frame = Vec::new();
        push_settings(&mut frame, entries);
        settings.apply(peer, &frame[HEADER_BYTES..]).map_err(|error| error.code)
    }

    fn refused(id: u16, value: u32) -> ErrorCode {
        applied(&mut Settings::default(), Peer::Client, &[(id, value)]).unwrap_err()
    }

    #[test]
    fn each_setting_is_kept_and_unknown_ones_are_ignored() {
        let mut settings = Settings::default();
        let entries = [
            (id::HEADER_TABLE_SIZE, 0),
            (id::ENABLE_PUSH, 0),
            (id::MAX_CONCURRENT_STREAMS, 7),
            (id::INITIAL_WINDOW_SIZE, 1),
            (id::MAX_FRAME_SIZE, FRAME_BYTES_CEILING),
            (id::MAX_HEADER_LIST_SIZE, u32::MAX),
            (0x7, 9),
            (id::ENABLE_CONNECT_PROTOCOL, 1),
            (id::NO_RFC7540_PRIORITIES, 1),
            (0xffff, 9),
        ];
        assert_eq!(applied(&mut settings, Peer::Client, &entries), Ok(1 - 65_535));
        let expected = Settings {
            table_bytes_max: 0,
            enable_push: false,
            streams_max: Some(7),
            initial_window_bytes: 1,
            frame_bytes_max: FRAME_BYTES_CEILING,
            list_bytes_max: Some(u32::MAX),
            connect_protocol: true,
            no_rfc7540_priorities: Some(true),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn of_a_repeated_setting_the_last_counts() {
        let mut settings = Settings::default();
        let entries = [(id::INITIAL_WINDOW_SIZE, WINDOW_CEILING), (id::INITIAL_WINDOW_SIZE, 65_536)];
        assert_eq!(applied(&mut settings, Peer::Client, &entries), Ok(1));
    }

    #[test]
    fn values_out_of_range_are_errors() {
        assert_eq!(refused(id::ENABLE_PUSH, 2), ErrorCode::PROTOCOL_ERROR);
        assert_eq!(refused(id::INITIAL_WINDOW_SIZE, 1 << 31), ErrorCode::FLOW_CONTROL_ERROR);
        assert_eq!(refused(id::MAX_FRAME_SIZE, FRAME_BYTES_MIN - 1), ErrorCode::PROTOCOL_ERROR);
        assert_eq!(refused(id::MAX_FRAME_SIZE, FRAME_BYTES_CEILING + 1), ErrorCode::PROTOCOL_ERROR);
        assert_eq!(refused(id::ENABLE_CONNECT_PROTOCOL, 2), ErrorCode::PROTOCOL_ERROR);
        assert_eq!(refused(id::NO_RFC7540_PRIORITIES, 2), ErrorCode::PROTOCOL_ERROR);
    }

    #[test]
    fn what_must_not_change_does_not() {
        for id in [id::ENABLE_CONNECT_PROTOCOL, id::NO_RFC7540_PRIORITIES] {
            let entries = [(id, 1), (id, 1)];
            assert_eq!(applied(&mut Settings::default(), Peer::Client, &entries), Ok(0));
            let entries = [(id, 1), (id, 0)];
            assert_eq!(applied(&mut Settings::default(), Peer::Client, &entries), Err(ErrorCode::PROTOCOL_ERROR));
        }
    }

    #[test]
    fn only_clients_enable_pushes() {
        let entries = [(id::ENABLE_PUSH, 1)];
        assert_eq!(applied(&mut Settings::default(), Peer::Client, &entries), Ok(0));
        assert_eq!(applied(&mut Settings::default(), Peer::Server, &entries), Err(ErrorCode::PROTOCOL_ERROR));
    }
}
