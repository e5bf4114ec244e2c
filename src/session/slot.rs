//! The named slots of a session, each for one operation at a time, and the tokens they give.

use crate::driver::Token;
use crate::table::Key;
use crate::tcp::ConnectionTokens;
use crate::upstream::ConnectorTokens;

/// The kind that marks a session's tokens.
pub const SESSION: u8 = 1;

/// A place for one operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    /// The client's `Recv`.
    ClientRecv,
    /// The client's `Send`, `SendFile` or `Shutdown`.
    ClientSend,
    /// The client's `Close`.
    ClientClose,
    /// Looking the upstream's name up.
    UpstreamResolve,
    /// Connecting to the upstream.
    UpstreamConnect,
    /// The upstream's `Recv`.
    UpstreamRecv,
    /// The upstream's `Send` or `Shutdown`.
    UpstreamSend,
    /// The upstream's `Close`.
    UpstreamClose,
    /// Opening or closing the file.
    File,
}

impl Slot {
    const ALL: [Self; 9] = [
        Self::ClientRecv,
        Self::ClientSend,
        Self::ClientClose,
        Self::UpstreamResolve,
        Self::UpstreamConnect,
        Self::UpstreamRecv,
        Self::UpstreamSend,
        Self::UpstreamClose,
        Self::File,
    ];

    /// The slot that a token names.
    pub fn of(token: Token) -> Option<Self> {
        Self::ALL.get(usize::from(token.slot)).copied()
    }

    /// The token of this slot in the session with this key.
    pub const fn token(self, session: Key) -> Token {
        Token { machine: session, kind: SESSION, slot: self as u8 }
    }
}

/// The tokens of the client's connection.
pub const fn client_tokens(session: Key) -> ConnectionTokens {
    ConnectionTokens {
        recv: Slot::ClientRecv.token(session),
        send: Slot::ClientSend.token(session),
        close: Slot::ClientClose.token(session),
    }
}

/// The tokens of the upstream's connection.
pub const fn upstream_tokens(session: Key) -> ConnectionTokens {
    ConnectionTokens {
        recv: Slot::UpstreamRecv.token(session),
        send: Slot::UpstreamSend.token(session),
        close: Slot::UpstreamClose.token(session),
    }
}

/// The tokens of what brings the upstream's connection about.
pub const fn connector_tokens(session: Key) -> ConnectorTokens {
    ConnectorTokens { resolve: Slot::UpstreamResolve.token(session), connect: Slot::UpstreamConnect.token(session) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_back_to_its_slot() {
        for slot in Slot::ALL {
            assert_eq!(Slot::of(slot.token(Key::from_parts(7, 8))), Some(slot));
        }
        assert_eq!(Slot::of(Token { machine: Key::from_parts(0, 0), kind: SESSION, slot: 9 }), None);
    }
}
