//! The operation slots of a session: one operation in flight each, with its token.

use crate::driver::Token;
use crate::tcp::ConnectionTokens;
use crate::waiter::SessionKey;

/// The kind that marks a session's tokens.
pub const SESSION: u8 = 1;

/// One slot holds one operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    /// The client's `Recv`.
    ClientRecv,
    /// The client's `Send`, `SendFile` or `Shutdown`.
    ClientSend,
    /// The client's `Close`.
    ClientClose,
    /// Opening, writing or closing the file.
    File,
    /// The look-up of the local address (`getsockname`).
    LocalAddress,
    /// Reading a file that the client's transport encrypts.
    ClientFile,
}

impl Slot {
    const ALL: [Self; 6] =
        [Self::ClientRecv, Self::ClientSend, Self::ClientClose, Self::File, Self::LocalAddress, Self::ClientFile];

    /// The slot of a token; `None` if there is no such slot.
    pub fn of(token: Token) -> Option<Self> {
        Self::ALL.get(usize::from(token.slot)).copied()
    }

    /// The token of this slot in the session with this key.
    pub const fn token(self, session: SessionKey) -> Token {
        Token { machine: session.raw(), kind: SESSION, slot: self as u8 }
    }
}

/// The tokens of the client's connection.
pub const fn client_tokens(session: SessionKey) -> ConnectionTokens {
    ConnectionTokens {
        recv: Slot::ClientRecv.token(session),
        send: Slot::ClientSend.token(session),
        close: Slot::ClientClose.token(session),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::RawKey;

    #[test]
    fn a_token_leads_back_to_its_slot() {
        for slot in Slot::ALL {
            assert_eq!(Slot::of(slot.token(RawKey::from_parts(7, 8).typed())), Some(slot));
        }
        assert_eq!(Slot::of(Token { machine: RawKey::from_parts(0, 0), kind: SESSION, slot: 6 }), None);
    }
}
