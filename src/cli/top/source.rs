//! Reads the metrics of a server: from its metrics listener, or its admin socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::UpstreamAddress;

/// How long each connect, read and write may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Size of a response at most, in bytes. 16 MiB: thousands of routes have a few.
const RESPONSE_BYTES_MAX: u64 = 16 << 20;

/// Why the metrics of a server cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be reached, or has ended the connection.
    #[error("cannot read the metrics of {server}: {error}")]
    Io { server: UpstreamAddress, error: io::Error },
    /// What responds is no metrics listener of xps.
    #[error("{server} responds without metrics: {response}")]
    NoMetrics { server: UpstreamAddress, response: String },
}

/// The metrics of a server, in the text format of Prometheus.
pub(super) fn metrics(server: &UpstreamAddress) -> Result<String, ReadError> {
    let failed = |error| ReadError::Io { server: server.clone(), error };
    let response = match server {
        UpstreamAddress::Tcp { host, port, .. } => connect(host, *port).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, &server.authority())
        }),
        UpstreamAddress::Unix(path) => UnixStream::connect(path.as_ref()).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            exchange(stream, &server.authority())
        }),
    };
    let response = response.map_err(failed)?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") && body.contains("xps_workers") {
        Ok(body.to_owned())
    } else {
        let start: String = status.chars().take(80).collect();
        Err(ReadError::NoMetrics { server: server.clone(), response: start.escape_debug().to_string() })
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// With HTTP/1.0 the response is not chunked, and ends with the connection.
fn exchange(mut stream: impl Read + Write, authority: &str) -> io::Result<String> {
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: xps-top\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}
