//! A connection of HTTP/1.1 for a test, and one of HTTP/2 to the server, with a [`Translator`] between them.
//!
//! What the test does not take is not taken from the server either: windows are given back for what was written to the test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::event::{PollFd, PollFlags, poll};

use super::translator::{End, HELD_BYTES_MAX, Translator};
use crate::support::bridge::{pair, set_reset, spawn};
use crate::support::client::uninterrupted;

/// The test's end of a new connection. `scheme`: what requests say of it. `server`: where nothing is sent yet.
pub fn through(scheme: &'static str, server: TcpStream) -> TcpStream {
    let (near, test) = pair().expect("two connected sockets");
    for stream in [&server, &test] {
        stream.set_nodelay(true).expect("TCP has it");
        stream.set_nonblocking(true).expect("a socket can");
    }
    let bridge = Bridge {
        translator: Translator::new(scheme),
        test: Some(test),
        server: Some(server),
        has_ended_test: false,
        has_ended_server: false,
    };
    spawn(move || bridge.run());
    near
}

struct Bridge {
    translator: Translator,
    /// Until its input has ended and nothing is to be written to it.
    test: Option<TcpStream>,
    server: Option<TcpStream>,
    /// FIN is sent there.
    has_ended_test: bool,
    has_ended_server: bool,
}

impl Bridge {
    fn run(mut self) {
        let mut has_test_ended = false;
        while self.test.is_some() || self.server.is_some() {
            // A reset is reported once: to who reads or to who writes.
            if self.write().is_err() {
                return self.abandon();
            }
            self.end();
            let is_over = self.translator.end.is_some();
            let takes_more = is_over || self.translator.from_test.len() < HELD_BYTES_MAX;
            let input = |takes: bool| if takes { PollFlags::IN } else { PollFlags::empty() };
            let output = |bytes: &[u8]| if bytes.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = Vec::new();
            // An end that was seen would be reported again and again.
            let test = self.test.as_ref().filter(|_| !(has_test_ended && self.has_ended_test));
            if let Some(test) = test {
                let events = input(takes_more && !has_test_ended) | output(&self.translator.to_test);
                fds.push(PollFd::new(test, events));
            }
            let has_test = test.is_some();
            if let Some(server) = &self.server {
                let takes_more = is_over || self.translator.to_test.len() < TO_TEST_BYTES_MAX;
                fds.push(PollFd::new(server, input(takes_more) | output(&self.translator.to_server)));
            }
            if fds.is_empty() || uninterrupted(|| Ok(poll(&mut fds, None)?)).is_err() {
                return;
            }
            let readable = PollFlags::IN | PollFlags::ERR | PollFlags::HUP;
            let events: Vec<bool> = fds.iter().map(|fd| fd.revents().intersects(readable)).collect();
            if has_test && events[0] {
                match self.test.as_ref().map(read) {
                    Some(Ok(None)) => {
                        has_test_ended = true;
                        self.translator.on_test_end();
                    }
                    Some(Ok(Some(bytes))) if !is_over => self.translator.on_test(&bytes),
                    Some(Err(_)) => return self.abandon(),
                    Some(Ok(Some(_))) | None => {}
                }
            }
            if self.server.is_some() && events.last() == Some(&true) && events.len() > usize::from(has_test) {
                self.read_server(is_over);
            }
            let is_done = self.has_ended_test && self.translator.to_test.is_empty() && has_test_ended;
            self.test = self.test.filter(|_| !is_done);
        }
    }

    fn read_server(&mut self, is_over: bool) {
        match self.server.as_ref().map(read) {
            Some(Ok(Some(bytes))) if !is_over => self.translator.on_server(&bytes),
            Some(Ok(Some(_))) | None => {}
            Some(end) => {
                self.server = None;
                self.translator.to_server.clear();
                self.translator.on_server_end(end.is_err());
            }
        }
    }

    /// An error: the test has reset its connection, or closed it.
    fn write(&mut self) -> io::Result<()> {
        if let Some(test) = &self.test {
            write(test, &mut self.translator.to_test)?;
        }
        loop {
            self.translator.advance();
            self.translator.credit();
            let Some(server) = self.server.as_ref().filter(|_| !self.translator.to_server.is_empty()) else {
                return Ok(());
            };
            // What has come from it before it was lost can still be read.
            if write(server, &mut self.translator.to_server).is_err() {
                self.translator.to_server.clear();
            }
            // Once all is written, there is room for more.
            if !self.translator.to_server.is_empty() {
                return Ok(());
            }
        }
    }

    fn end(&mut self) {
        let has_all = self.translator.to_test.is_empty();
        let is_ending = self.translator.end == Some(End::Fin) || self.translator.is_half_closed;
        if let Some(test) = &self.test
            && has_all
            && is_ending
            && !std::mem::replace(&mut self.has_ended_test, true)
        {
            let _ = test.shutdown(Shutdown::Write);
        }
        if self.translator.end == Some(End::Reset)
            && has_all
            && let Some(test) = self.test.take()
        {
            set_reset(&test);
        }
        if let Some(server) = &self.server
            && self.translator.end.is_some()
            && self.translator.to_server.is_empty()
            && !std::mem::replace(&mut self.has_ended_server, true)
        {
            let _ = server.shutdown(Shutdown::Write);
        }
    }

    /// The test has reset its connection: the server sees that.
    fn abandon(self) {
        if let Some(server) = self.server.filter(|_| self.translator.end.is_none()) {
            set_reset(&server);
        }
    }
}

/// What there is; `None` at the end.
fn read(mut stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; PIECE_BYTES];
    match uninterrupted(|| stream.read(&mut bytes)) {
        Ok(0) => Ok(None),
        Ok(got) => {
            bytes.truncate(got);
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Some(Vec::new())),
        Err(error) => Err(error),
    }
}

/// As much as it takes now. An error: nothing more arrives there.
fn write(mut stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    while !bytes.is_empty() {
        match uninterrupted(|| stream.write(bytes)) {
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

const PIECE_BYTES: usize = 64 << 10;

/// Beyond it nothing is read from the server: the windows bound bodies, and this bounds heads.
const TO_TEST_BYTES_MAX: usize = 256 << 10;
