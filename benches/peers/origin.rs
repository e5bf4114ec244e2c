//! The origin behind every server: answers each request with the scenario's response.
//!
//! One thread, one edge-triggered epoll. It does not parse requests; it looks for their end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::ServerConfig;
use slab::Slab;

use crate::certificate::Identity;
use crate::poll::Poll;
use crate::scenario::{REQUEST_END, Scenario, Tls};
use crate::tls::{self, Received, ServerStream};

/// One connection from the server that is measured.
struct Connection {
    socket: TcpStream,
    tls: Option<ServerStream>,
    /// How many bytes of [`REQUEST_END`] the request has ended with so far.
    matched: usize,
    /// Responses not yet sent whole.
    owed: usize,
    /// Bytes of the first of them, or with TLS of the records in hand, that are sent.
    sent: usize,
}

/// The listener's token; connections have those of their slab entries.
const LISTENER: usize = usize::MAX;

/// Serves until it is killed. Prints its port first.
pub fn run(scenario: &Scenario, identity: &Identity) -> io::Result<()> {
    let tls = match scenario.tls {
        Tls::Origin => Some(tls::server(identity)?),
        Tls::Nowhere | Tls::Clients => None,
    };
    serve(&[scenario.origin_head(), scenario.body()].concat(), tls.as_ref())
}

/// Serves without ever answering.
pub fn run_silent() -> io::Result<()> {
    serve(b"", None)
}

fn serve(response: &[u8], tls: Option<&Arc<ServerConfig>>) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let mut memory = vec![0; 64 << 10];
    let mut connections: Slab<Connection> = Slab::new();
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, libc::EPOLLIN)?;
    loop {
        for token in poll.wait(None)? {
            if token == LISTENER {
                accept(&listener, tls, &poll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(token)
                && connection.serve(response, &mut memory).is_err()
            {
                // Closing the descriptor ends its registration too.
                connections.remove(token);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    tls: Option<&Arc<ServerConfig>>,
    poll: &Poll,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let entry = connections.vacant_entry();
            poll.add(&socket, entry.key(), libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)?;
            let tls = tls.map(ServerStream::server).transpose()?;
            entry.insert(Connection { socket, tls, matched: 0, owed: 0, sent: 0 });
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Connection {
    /// Reads what there is and sends what is owed. An error means that the connection is over.
    fn serve(&mut self, response: &[u8], memory: &mut [u8]) -> io::Result<()> {
        if self.tls.is_some() { self.serve_tls(response, memory) } else { self.serve_plain(response, memory) }
    }

    fn serve_plain(&mut self, response: &[u8], memory: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.read(memory) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.owed += count_requests(&mut self.matched, &memory[..count]);
                    // A short read has emptied the socket (epoll(7)): saves a call an exchange.
                    if count < memory.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while self.owed > 0 {
            match self.socket.write(&response[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.sent == response.len() {
                self.sent = 0;
                self.owed -= 1;
            }
        }
        Ok(())
    }

    fn serve_tls(&mut self, response: &[u8], memory: &mut [u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        loop {
            let on_bytes = |bytes: &[u8]| self.owed += count_requests(&mut self.matched, bytes);
            match tls.read(&mut self.socket, memory, on_bytes)? {
                Received::Bytes(_) => {}
                Received::Nothing => break,
                Received::End => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        loop {
            if self.owed > 0 && tls.outgoing.is_empty() {
                tls.write(response)?;
                self.owed -= 1;
            }
            if tls.outgoing.is_empty() {
                return Ok(());
            }
            match self.socket.write(&tls.outgoing[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.sent == tls.outgoing.len() {
                self.sent = 0;
                tls.outgoing.clear();
            }
        }
    }
}

/// How many requests end in these bytes. `matched` is kept for the next ones.
fn count_requests(matched: &mut usize, bytes: &[u8]) -> usize {
    let mut count = 0;
    for &byte in bytes {
        *matched = match byte {
            byte if byte == REQUEST_END[*matched] => *matched + 1,
            b'\r' => 1,
            _ => 0,
        };
        if *matched == REQUEST_END.len() {
            *matched = 0;
            count += 1;
        }
    }
    count
}
