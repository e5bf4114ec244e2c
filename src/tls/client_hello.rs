//! The names in a ClientHello: the server name (SNI, RFC 6066, 3) and the application protocols
//! (ALPN, RFC 7301).
//!
//! Only reads; whether the message is valid in every other respect is decided by the handshake.

/// The type of a handshake record (RFC 8446, 5.1).
pub(super) const HANDSHAKE_RECORD: u8 = 22;

/// The type of the message (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;

/// Numbers of extensions (RFC 8446, 4.2).
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;

/// The largest ClientHello that is read, in bytes. Browsers send below 2 KiB.
pub(super) const HELLO_BYTES_MAX: usize = 64 << 10;

/// Where the last record of a ClientHello may begin, in bytes. Records may be short, but who needs more
/// than this for their headers sends no ClientHello that matters.
const RECORDS_BYTES_MAX: usize = HELLO_BYTES_MAX + (16 << 10);

/// The most payload of a record, in bytes (RFC 8446, 5.1).
const RECORD_PAYLOAD_BYTES_MAX: usize = 1 << 14;

/// What a client asks for in its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name, in lower case; printable ASCII without spaces.
    pub server_name: Option<Box<str>>,
    /// The application protocols, in the client's order of preference.
    pub protocols: Vec<Box<[u8]>>,
}

/// Why there is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// The message is not complete.
    Partial,
    /// The bytes are no ClientHello, or it is malformed.
    Malformed,
}

/// Reads a ClientHello from bytes that arrive in pieces, and keeps the bytes: they are for the server
/// that the name leads to. No byte is looked at twice before the message is complete.
#[derive(Debug, Default)]
pub struct HelloReader {
    bytes: Vec<u8>,
    /// Where in `bytes` the next record begins.
    next: usize,
    /// The payload of the records before.
    message: Vec<u8>,
}

impl HelloReader {
    /// The upper bound of [`HelloReader::memory`], apart from what arrives at once, in bytes.
    pub const MEMORY_MAX: usize = 2 * (RECORDS_BYTES_MAX + HELLO_BYTES_MAX + 4 * RECORD_PAYLOAD_BYTES_MAX);

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads on. After a result that is not [`HelloError::Partial`] there is nothing more to read.
    ///
    /// # Errors
    /// [`HelloError::Partial`] until all of the message is there.
    pub fn read(&mut self) -> Result<ClientHello, HelloError> {
        loop {
            let mut record = Reader(self.bytes.get(self.next..).unwrap_or_default());
            let header = (record.byte(), record.short(), record.short());
            let (kind, Some(_), Some(length)) = header else {
                return match header.0 {
                    Some(HANDSHAKE_RECORD) | None => Err(HelloError::Partial),
                    Some(_) => Err(HelloError::Malformed),
                };
            };
            let length = usize::from(length);
            let is_valid = kind == Some(HANDSHAKE_RECORD) && (1..=RECORD_PAYLOAD_BYTES_MAX).contains(&length);
            if !is_valid || self.next > RECORDS_BYTES_MAX {
                return Err(HelloError::Malformed);
            }
            let payload = record.take(length).ok_or(HelloError::Partial)?;
            self.next = self.bytes.len() - record.0.len();
            self.message.extend_from_slice(payload);
            match ClientHello::of_message(&self.message) {
                Err(HelloError::Partial) => {}
                result => return result,
            }
        }
    }

    /// Whether the first byte, if there is one, is that of a handshake record.
    pub fn is_tls(&self) -> bool {
        self.bytes.first() == Some(&HANDSHAKE_RECORD)
    }

    /// All bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, to pass them on.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory held.
    pub const fn memory(&self) -> usize {
        self.bytes.capacity() + self.message.capacity()
    }
}

impl ClientHello {
    /// Reads the message from the records of a connection, from its first byte on. The message may
    /// be spread over several records.
    ///
    /// # Errors
    /// [`HelloError::Partial`] until all of it is there.
    pub fn read(records: &[u8]) -> Result<Self, HelloError> {
        let mut reader = HelloReader::default();
        reader.push(records);
        reader.read()
    }

    /// Reads the message from the payload of handshake records.
    pub(super) fn of_message(message: &[u8]) -> Result<Self, HelloError> {
        match message.first() {
            None => return Err(HelloError::Partial),
            Some(&CLIENT_HELLO) => {}
            Some(_) => return Err(HelloError::Malformed),
        }
        let &[_, a, b, c, ..] = message else { return Err(HelloError::Partial) };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if length > HELLO_BYTES_MAX {
            return Err(HelloError::Malformed);
        }
        let body = message.get(4..4 + length).ok_or(HelloError::Partial)?;
        Self::of_body(Reader(body)).ok_or(HelloError::Malformed)
    }

    fn of_body(mut body: Reader<'_>) -> Option<Self> {
        let (_version, _random) = (body.short()?, body.take(32)?);
        let (_session, _suites, _compression) = (body.list_of_byte()?, body.list()?, body.list_of_byte()?);
        let mut hello = Self::default();
        if body.0.is_empty() {
            return Some(hello);
        }
        let mut extensions = body.list()?;
        let mut is_named = false;
        while !extensions.0.is_empty() {
            let (number, mut content) = (extensions.short()?, extensions.list()?);
            match number {
                // One of a kind (RFC 8446, 4.2): a server behind could take the other.
                SERVER_NAME if is_named => return None,
                SERVER_NAME => {
                    is_named = true;
                    hello.server_name = server_name(content.list()?);
                }
                APPLICATION_PROTOCOLS => {
                    let mut names = content.list()?;
                    while !names.0.is_empty() {
                        hello.protocols.push(names.list_of_byte()?.0.into());
                    }
                }
                _ => {}
            }
        }
        Some(hello)
    }
}

/// The first host name in the list, if it can be one.
fn server_name(mut names: Reader<'_>) -> Option<Box<str>> {
    while !names.0.is_empty() {
        let (kind, name) = (names.byte()?, names.list()?.0);
        if kind == 0 {
            let is_name = !name.is_empty() && name.len() <= 255 && name.iter().all(u8::is_ascii_graphic);
            let name = std::str::from_utf8(name).ok().filter(|_| is_name)?;
            return Some(name.to_ascii_lowercase().into());
        }
    }
    None
}

/// Reads numbers and lists with a length, as TLS writes them (RFC 8446, 3.4).
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A list whose length in bytes has 16 bits.
    fn list(&mut self) -> Option<Self> {
        let length = self.short()?;
        self.take(length.into()).map(Self)
    }

    /// A list whose length in bytes has 8 bits.
    fn list_of_byte(&mut self) -> Option<Self> {
        let length = self.byte()?;
        self.take(length.into()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tls::Stream;
    use crate::tls::testing::{Authority, NAME, VERSIONS};

    /// The first message of a client of rustls, in its record.
    fn hello() -> Vec<u8> {
        let config = Arc::new(Authority::new().client(&VERSIONS, false));
        Stream::client(config, NAME.try_into().unwrap()).unwrap().take_output().to_vec()
    }

    #[test]
    fn names_and_protocols_are_read() {
        let expected =
            ClientHello { server_name: Some(NAME.into()), protocols: vec![b"http/1.1".to_vec().into_boxed_slice()] };
        assert_eq!(ClientHello::read(&hello()), Ok(expected));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_byte() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"\0", b"\x80\x2e", &[21, 3, 1], &[22, 3, 1, 0, 0], &[22, 3, 1, 0, 1, 2]]
        {
            assert_eq!(ClientHello::read(bytes), Err(HelloError::Malformed), "{}", bytes.escape_ascii());
        }
        assert_eq!(ClientHello::read(&[]), Err(HelloError::Partial));
    }

    #[test]
    fn it_is_read_byte_by_byte_and_from_records_of_any_size() {
        let (whole, mut reader) = (hello(), HelloReader::default());
        let (last, before) = whole.split_last().unwrap();
        for byte in before {
            reader.push(&[*byte]);
            assert_eq!(reader.read(), Err(HelloError::Partial));
        }
        reader.push(&[*last]);
        reader.push(b"what follows");
        assert_eq!(reader.read().unwrap().server_name.as_deref(), Some(NAME));
        assert_eq!(reader.into_bytes(), [&whole[..], b"what follows"].concat());
        for size in [1, 7, 100] {
            let records: Vec<u8> = whole[5..]
                .chunks(size)
                .flat_map(|part| [&[22, 3, 1, 0, part.len() as u8][..], part].concat())
                .collect();
            assert_eq!(ClientHello::read(&records), ClientHello::read(&whole), "{size}");
        }
    }

    #[test]
    fn a_second_name_is_refused() {
        let mut message = hello().split_off(5);
        // The length of all extensions is behind the session, the cipher suites and the compression.
        let (session, suites) = (39 + usize::from(message[38]), |at: usize| {
            2 + usize::from(u16::from_be_bytes([message[at], message[at + 1]]))
        });
        let compression = session + suites(session);
        let at = compression + 1 + usize::from(message[compression]);
        let name = [0, 0, 0, 6, 0, 4, 0, 0, 1, b'b'];
        let grow = |bytes: &mut [u8]| {
            let length = u16::from_be_bytes([bytes[0], bytes[1]]) + name.len() as u16;
            bytes.copy_from_slice(&length.to_be_bytes());
        };
        grow(&mut message[at..at + 2]);
        grow(&mut message[2..4]);
        message.extend_from_slice(&name);
        assert_eq!(ClientHello::of_message(&message), Err(HelloError::Malformed));
    }

    #[test]
    fn what_is_too_long_is_refused_without_being_kept() {
        // A message that announces 60,000 bytes, in records of one byte.
        let message = [&[1, 0, 0xea, 0x60][..], &[0; 60_000]].concat();
        let mut reader = HelloReader::default();
        let refused = message.iter().position(|byte| {
            reader.push(&[22, 3, 1, 0, 1, *byte]);
            reader.read() == Err(HelloError::Malformed)
        });
        assert!(refused.is_some_and(|at| at < 14_000), "{refused:?}");
        assert!(reader.memory() <= HelloReader::MEMORY_MAX);
        assert_eq!(ClientHello::read(&[22, 3, 1, 0x40, 1]), Err(HelloError::Malformed), "a record that is too long");
        assert_eq!(ClientHello::read(&[22, 3, 1, 0, 4, 1, 1, 0, 1]), Err(HelloError::Malformed), "above 64 KiB");
    }

    /// The result does not depend on how the bytes arrive, whatever they are.
    #[test]
    fn what_is_decided_stays_so_for_every_changed_byte() {
        let hello = hello();
        for at in 0..hello.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = hello.clone();
                bytes[at] ^= change;
                let whole = ClientHello::read(&bytes);
                for cut in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
                    let early = ClientHello::read(&bytes[..cut]);
                    assert!(early == Err(HelloError::Partial) || early == whole, "byte {at}, cut {cut}");
                }
            }
        }
    }

    #[test]
    fn a_name_that_can_be_none_is_none() {
        let named = |name: &[u8]| {
            let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let entry = [&[0][..], &length(name), name].concat();
            let list = [&length(&entry)[..], &entry].concat();
            server_name(Reader(&list[2..])).map(String::from)
        };
        assert_eq!(named(b"Example.ORG").as_deref(), Some("example.org"));
        for name in [&b""[..], b"a b", b"a\nb", b"\xff", b"a\0", &[b'a'; 256]] {
            assert_eq!(named(name), None, "{}", name.escape_ascii());
        }
    }
}
