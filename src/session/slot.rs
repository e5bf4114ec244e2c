//! The operation slots of a session: one operation in flight each, with its token.

use crate::driver::Token;
use crate::tcp::ConnectionTokens;
use crate::waiter::SessionKey;

/// The kind that marks a session's tokens.
pub const SESSION: u8 = 1;

/// One slot holds one operation in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Reading a file for a stream of HTTP/2.
    Read0,
    /// Another one.
    Read1,
    /// Another one.
    Read2,
    /// Another one.
    Read3,
}

impl Slot {
    const ALL: [Self; 10] = [
        Self::ClientRecv,
        Self::ClientSend,
        Self::ClientClose,
        Self::File,
        Self::LocalAddress,
        Self::ClientFile,
        Self::Read0,
        Self::Read1,
        Self::Read2,
        Self::Read3,
    ];

    const READS: [Self; 4] = [Self::Read0, Self::Read1, Self::Read2, Self::Read3];

    /// The slot of a read of a file for a stream, counted from 0.
    pub const fn read(number: usize) -> Self {
        Self::READS[number % Self::READS.len()]
    }

    /// Which of the reads for streams has this slot.
    pub fn read_number(self) -> Option<usize> {
        Self::READS.iter().position(|read| *read == self)
    }

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
        assert_eq!(Slot::of(Token { machine: RawKey::from_parts(0, 0), kind: SESSION, slot: 10 }), None);
    }
}
