//! An upstream that does what the test says, byte by byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::support::client::{is_timeout, reset, stays_silent};
use crate::support::{Upstream, patience, uninterrupted};

/// An upstream whose connections are handed to the test.
#[derive(Debug)]
pub struct Origin {
    upstream: Upstream,
    visits: Receiver<TcpStream>,
}

impl Origin {
    /// Listens.
    pub fn new() -> Self {
        let (sender, visits) = channel();
        // After the test's end nobody receives.
        let upstream = Upstream::new(move |stream, _| drop(sender.send(stream)));
        Self { upstream, visits }
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The next connection, which must come.
    #[track_caller]
    pub fn visit(&self) -> Visit {
        match self.visits.recv_timeout(patience()) {
            Ok(stream) => Visit::new(stream),
            Err(error) => panic!("no connection to the upstream: {error}"),
        }
    }

    /// The next connection, if one comes within this time.
    pub fn next_visit(&self, time: Duration) -> Option<Visit> {
        self.visits.recv_timeout(time).ok().map(Visit::new)
    }

    /// Checks that no connection comes within a moment, and none has come.
    #[track_caller]
    pub fn expect_no_visit(&self) {
        match self.visits.recv_timeout(MOMENT) {
            Err(RecvTimeoutError::Timeout) => {}
            other => panic!("a connection too many: {other:?}"),
        }
    }
}

/// One connection to an upstream, seen from there.
#[derive(Debug)]
pub struct Visit {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request as an upstream got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The request line and the field lines.
    pub lines: Vec<String>,
    /// The body, without its framing.
    pub body: Vec<u8>,
}

impl Received {
    /// The request line.
    pub fn line(&self) -> &str {
        &self.lines[0]
    }

    /// The values of all fields of this name, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }
}

impl Visit {
    /// A connection that was accepted.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has it");
        Self { stream, buffer: Vec::new() }
    }

    /// Reads a request; `None` if the connection ends instead.
    #[track_caller]
    pub fn try_request(&mut self) -> Option<Received> {
        let is_over = self.buffer.is_empty() && matches!(uninterrupted(|| self.stream.peek(&mut [0])), Ok(0) | Err(_));
        (!is_over).then(|| self.request())
    }

    /// Reads a request's head.
    #[track_caller]
    pub fn head(&mut self) -> Received {
        let length = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill();
        };
        let head = self.buffer.drain(..length).collect();
        let head = String::from_utf8(head).expect("a head of text");
        let lines = head.trim_end_matches("\r\n").split("\r\n").map(str::to_owned).collect();
        Received { lines, body: Vec::new() }
    }

    /// Reads a request.
    #[track_caller]
    pub fn request(&mut self) -> Received {
        let mut request = self.head();
        match (request.values("Content-Length").as_slice(), request.values("Transfer-Encoding").as_slice()) {
            ([], []) => {}
            ([length], []) => request.body = self.take(length.parse().expect("a number")),
            ([], ["chunked"]) => loop {
                let chunk = self.chunk();
                if chunk.is_empty() {
                    break;
                }
                request.body.extend(chunk);
            },
            _ => panic!("doubtful framing: {request:?}"),
        }
        request
    }

    /// Reads a chunk; an empty one is the last.
    #[track_caller]
    pub fn chunk(&mut self) -> Vec<u8> {
        let line_length = loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                break at;
            }
            self.fill();
        };
        let line = self.take(line_length + 2);
        let line = String::from_utf8_lossy(&line[..line_length]).into_owned();
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a size: {line:?}"));
        let data = self.take(size);
        assert_eq!(self.take(2), b"\r\n", "after a chunk");
        data
    }

    /// The next bytes.
    #[track_caller]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill();
        }
        self.buffer.drain(..length).collect()
    }

    #[track_caller]
    fn fill(&mut self) {
        let mut bytes = [0; 64 << 10];
        match uninterrupted(|| self.stream.read(&mut bytes)) {
            Ok(0) => panic!("the proxy ended the connection after {:?}", String::from_utf8_lossy(&self.buffer)),
            Ok(got) => self.buffer.extend_from_slice(&bytes[..got]),
            Err(error) => panic!("after {} bytes from the proxy: {error}", self.buffer.len()),
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the proxy takes the answer");
    }

    /// Ends the sending half.
    #[track_caller]
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is still there");
    }

    /// Breaks the connection.
    pub fn reset(self) {
        reset(self.stream);
    }

    /// Waits until the proxy has ended the connection, in whichever way, and returns what it had still sent.
    #[track_caller]
    pub fn until_end(mut self) -> Vec<u8> {
        match self.stream.read_to_end(&mut self.buffer) {
            Err(error) if is_timeout(&error) => panic!("the proxy keeps the connection"),
            Ok(_) | Err(_) => self.buffer,
        }
    }

    /// Checks that the proxy ends the connection without another byte.
    #[track_caller]
    pub fn expect_end(self) {
        let rest = self.until_end();
        assert!(rest.is_empty(), "more than was expected: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Whether nothing comes within a moment, and the connection stands.
    pub fn is_silent(&self) -> bool {
        self.buffer.is_empty() && stays_silent(&self.stream, MOMENT)
    }
}

/// How long it is watched that something does not happen.
const MOMENT: Duration = Duration::from_millis(200);
