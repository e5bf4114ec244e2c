//! A client's connection to the server: TCP, or TLS on it.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;
use socket2::SockRef;

use crate::tls::{ClientStream, Received};

/// A socket, and what is spoken on it.
pub struct Channel {
    socket: TcpStream,
    tls: Option<ClientStream>,
}

/// Room for what channels receive; they share it.
pub struct Memory {
    /// What the last [`Channel::read`] brought.
    pub bytes: Vec<u8>,
    /// Records before they are decrypted.
    records: Vec<u8>,
    unread: Box<[MaybeUninit<u8>]>,
}

/// Bytes taken from a socket at once.
pub const READ_BYTES: usize = 256 << 10;

impl Memory {
    /// Room for one read.
    pub fn new() -> Self {
        Self { bytes: vec![0; READ_BYTES], records: vec![0; READ_BYTES], unread: Box::new_uninit_slice(READ_BYTES) }
    }
}

impl Channel {
    /// A new connection. On loopback it is there at once, unless the server's backlog is full. A handshake begins with
    /// the first bytes that are sent.
    pub fn connect(port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, tls: tls.map(ClientStream::client).transpose()? })
    }

    /// The socket, to be waited for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether its handshake resumed an earlier connection's session; `None`: it has no handshake.
    pub fn is_resumed(&self) -> Option<bool> {
        self.tls.as_ref().map(ClientStream::is_resumed)
    }

    /// Sends bytes, which must fit the socket's empty buffer; during a handshake, as soon as that is complete.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => write(&mut self.socket, bytes),
            Some(tls) => {
                tls.write(bytes)?;
                flush(&mut self.socket, tls)
            }
        }
    }

    /// Receives at most `room` bytes; with TLS, all that one read of the socket brings.
    pub fn read(&mut self, memory: &mut Memory, room: usize) -> io::Result<Received> {
        match &mut self.tls {
            None => received(self.socket.read(&mut memory.bytes[..room])),
            Some(tls) => {
                let mut at = 0;
                let received = tls.read(&mut self.socket, &mut memory.records, |piece| {
                    memory.bytes[at..at + piece.len()].copy_from_slice(piece);
                    at += piece.len();
                })?;
                flush(&mut self.socket, tls)?;
                Ok(received)
            }
        }
    }

    /// The same, but only counts them.
    pub fn skip(&mut self, memory: &mut Memory, room: usize) -> io::Result<Received> {
        match &mut self.tls {
            // For TCP this takes the bytes without copying them (tcp(7)).
            None => received(SockRef::from(&self.socket).recv_with_flags(&mut memory.unread[..room], libc::MSG_TRUNC)),
            Some(tls) => {
                let received = tls.read(&mut self.socket, &mut memory.records, |_| {})?;
                flush(&mut self.socket, tls)?;
                Ok(received)
            }
        }
    }
}

fn received(result: io::Result<usize>) -> io::Result<Received> {
    match result {
        Ok(0) => Ok(Received::End),
        Ok(count) => Ok(Received::Bytes(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

fn flush(socket: &mut TcpStream, tls: &mut ClientStream) -> io::Result<()> {
    if !tls.outgoing.is_empty() {
        write(socket, &tls.outgoing)?;
        tls.outgoing.clear();
    }
    Ok(())
}

/// Everything before was answered, so the socket's buffer is empty.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let sent = socket.write(bytes)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("a request did not fit the socket")) }
}
