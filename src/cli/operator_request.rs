//! One request to a listener for operators of a running server, and its response: for `xps ctl` and
//! `xps top`.

use std::io::{self, Read, Write};

use crate::http::response_head::{Parsed, parse};
use crate::http::{HeadLimits, Status};

/// Size of a response at most. 16 MiB: the metrics of thousands of routes have a few.
const RESPONSE_BYTES_MAX: u64 = 16 << 20;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The connection failed, or it took too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no response of HTTP.
    #[error("{0}")]
    NoHttp(String),
}

/// Sends a request without a body. The response ends with the connection: its status and its body.
pub(super) fn send(
    mut stream: impl Read + Write,
    (method, target): (&str, &str),
    authority: &str,
) -> Result<(Status, Vec<u8>), RequestError> {
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json, */*;q=0.5\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut received = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut received)?;
    match parse(&received, false, &HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) => {
            let status = head.status;
            Ok((status, received.split_off(length)))
        }
        Ok(Parsed::Partial) => Err(RequestError::NoHttp("the connection was closed".to_owned())),
        Err(error) => Err(RequestError::NoHttp(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// What comes of a request that gets this response.
    fn answered_by(response: &str) -> (String, Result<(Status, Vec<u8>), RequestError>) {
        let (client, mut server) = UnixStream::pair().unwrap();
        let response = response.to_owned();
        let server = thread::spawn(move || {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                server.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            server.write_all(response.as_bytes()).unwrap();
            String::from_utf8(head).unwrap()
        });
        let result = send(client, ("GET", "/status"), "xps");
        (server.join().unwrap(), result)
    }

    #[test]
    fn a_response_is_taken_apart() {
        let (request, response) = answered_by("HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno");
        assert!(request.starts_with("GET /status HTTP/1.1\r\nHost: xps\r\n"), "{request}");
        assert_eq!(response.unwrap(), (Status::CONFLICT, b"no".to_vec()));
    }

    #[test]
    fn what_is_no_response_is_an_error() {
        for text in ["", "HTTP/1.1 200 OK\r\nContent-", "SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
            assert!(matches!(answered_by(text).1, Err(RequestError::NoHttp(_))), "{text:?}");
        }
    }
}
