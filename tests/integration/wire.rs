//! A strict HTTP/1.1 client over one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::client::{connect, is_timeout, uninterrupted};

/// One answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a field that stands there at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands there twice: {self:?}");
        value
    }

    /// The body as text, for messages and comparisons.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What `Content-Length` says.
    #[track_caller]
    pub fn length(&self) -> Option<u64> {
        self.field("Content-Length").map(|length| length.parse().expect("a number"))
    }

    /// Whether the server says that this is the connection's last answer.
    #[track_caller]
    pub fn is_last(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects.
    #[track_caller]
    pub fn to(address: SocketAddr) -> Self {
        Self::over(connect(address))
    }

    /// Over a connection that is there.
    #[track_caller]
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP has it");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes the request");
    }

    /// Reads the answer to a request other than HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.read(false).unwrap_or_else(|| panic!("the connection ended, and no answer came"))
    }

    /// Reads the answer to HEAD.
    #[track_caller]
    pub fn response_to_head(&mut self) -> Response {
        self.read(true).unwrap_or_else(|| panic!("the connection ended, and no answer came"))
    }

    /// Reads an answer; `None` if the connection ends in order before its first byte.
    #[track_caller]
    pub fn read(&mut self, is_head: bool) -> Option<Response> {
        let head_length = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..head_length).collect();
        let head = String::from_utf8(head).expect("a head of text");
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().expect("a status line");
        assert!(status_line.starts_with("HTTP/1.1 "), "{status_line}");
        let status = status_line[9..12].parse().expect("a status code");
        let fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?}"));
                (name.to_owned(), value.to_owned())
            })
            .collect();
        let mut response = Response { status, fields, body: Vec::new() };
        let is_bodiless = is_head || matches!(status, 100..200 | 204 | 304);
        let is_chunked = response.field("Transfer-Encoding").is_some();
        if is_bodiless {
        } else if is_chunked {
            assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
            assert_eq!(response.length(), None, "both lengths");
            response.body = self.chunked();
        } else if let Some(length) = response.length() {
            response.body = self.take(usize::try_from(length).expect("it fits into memory"));
        } else {
            assert!(response.is_last(), "no length, and the connection is to go on: {response:?}");
            while self.fill() {}
            response.body = std::mem::take(&mut self.buffer);
        }
        Some(response)
    }

    /// Reads a head only, and leaves the body to [`Wire::take`] or to the caller.
    #[track_caller]
    pub fn head_only(&mut self) -> Response {
        self.response_to_head()
    }

    /// What was read already and not used.
    pub fn take_buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The next bytes.
    #[track_caller]
    pub fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill(), "the body ends after {} of {length} bytes", self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    #[track_caller]
    fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a size: {line:?}"));
            if size == 0 {
                assert_eq!(self.line(), "", "trailers");
                return body;
            }
            body.extend(self.take(size));
            assert_eq!(self.line(), "", "no line's end after a chunk");
        }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).expect("a line of text");
            }
            assert!(self.fill(), "the chunked body breaks off");
        }
    }

    /// Reads more; `false` at an orderly end.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        match uninterrupted(|| self.stream.read(&mut bytes)) {
            Ok(0) => false,
            Ok(got) => {
                self.buffer.extend_from_slice(&bytes[..got]);
                true
            }
            Err(error) if is_timeout(&error) => panic!("nothing came in time"),
            Err(error) => panic!("after {} unread bytes: {error}", self.buffer.len()),
        }
    }

    /// Waits for the connection's end, which must be orderly and come without a further byte.
    #[track_caller]
    pub fn expect_end(&mut self) {
        // Also what came together with an answer is a byte further.
        let ended = self.buffer.is_empty() && !self.fill();
        assert!(ended, "more than was asked for: {:?}", String::from_utf8_lossy(&self.buffer));
    }
}
