//! Reads the metrics of a server: from its metrics listener, or its admin socket.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::cli::operator_request::{self, RequestError};
use crate::config::UpstreamAddress;
use crate::http::Status;

/// How long a connect, and each read, may take.
const TIMEOUT: Duration = Duration::from_secs(5);

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
pub(in crate::cli) fn metrics(server: &UpstreamAddress) -> Result<String, ReadError> {
    let failed = |error| ReadError::Io { server: server.clone(), error };
    let no_metrics = |response| ReadError::NoMetrics { server: server.clone(), response };
    let request = ("GET", "/metrics");
    let authority = server.authority();
    let response = match server {
        UpstreamAddress::Tcp { host, port, .. } => {
            let stream = connect(host, *port).map_err(failed)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
            operator_request::send(stream, request, &authority)
        }
        UpstreamAddress::Unix(path) => {
            let stream = UnixStream::connect(path.as_ref()).map_err(failed)?;
            stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
            operator_request::send(stream, request, &authority)
        }
    };
    let (status, body) = response.map_err(|error| match error {
        RequestError::Io(error) => failed(error),
        RequestError::NoHttp(reason) => no_metrics(reason),
    })?;
    let text = String::from_utf8_lossy(&body);
    if status == Status::OK && text.contains("xps_workers") {
        Ok(text.into_owned())
    } else {
        Err(no_metrics(format!("status {}", status.code())))
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
