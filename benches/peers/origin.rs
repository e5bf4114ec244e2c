//! The origin behind every server: answers each request with the scenario's response.
//!
//! One thread, one edge-triggered epoll. It does not parse requests; it looks for their end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use slab::Slab;

use crate::poll::Poll;
use crate::scenario::{REQUEST_END, Scenario};

/// One connection from the server that is measured.
struct Connection {
    socket: TcpStream,
    /// How many bytes of [`REQUEST_END`] the request has ended with so far.
    matched: usize,
    /// Responses not yet sent whole.
    owed: usize,
    /// Bytes of the first of them that are sent.
    sent: usize,
}

/// The listener's token; connections have those of their slab entries.
const LISTENER: usize = usize::MAX;

/// Serves until it is killed. Prints its port first.
pub fn run(scenario: &Scenario) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let response = [scenario.origin_head(), scenario.body()].concat();
    let mut memory = vec![0; 64 << 10];
    let mut connections: Slab<Connection> = Slab::new();
    let mut poll = Poll::new()?;
    poll.add(&listener, LISTENER, libc::EPOLLIN)?;
    loop {
        for token in poll.wait(None)? {
            if token == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(token)
                && connection.serve(&response, &mut memory).is_err()
            {
                // Closing the descriptor ends its registration too.
                connections.remove(token);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Slab<Connection>) -> io::Result<()> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let entry = connections.vacant_entry();
            poll.add(&socket, entry.key(), libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)?;
            entry.insert(Connection { socket, matched: 0, owed: 0, sent: 0 });
            Ok(())
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Connection {
    /// Reads what there is and sends what is owed. An error means that the connection is over.
    fn serve(&mut self, response: &[u8], memory: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.read(memory) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.count_requests(&memory[..count]);
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

    fn count_requests(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.matched = match byte {
                byte if byte == REQUEST_END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == REQUEST_END.len() {
                self.matched = 0;
                self.owed += 1;
            }
        }
    }
}
