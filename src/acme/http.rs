//! Requests over HTTPS, one after the other: blocking sockets, rustls, and the HTTP of
//! [`crate::client`].
//!
//! Each request has a connection of its own. An order makes about ten, a minute's worth of work once in
//! two months, and a connection that is kept may be closed by the server at any time.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConnection as TlsConnection;

use super::stop::{GLANCE, StopFlag, Stopped};
use crate::buffer::{Chain, Inbox, Pool, PoolConfig, SizeClass};
use crate::client::{ClientConnection, ClientError, ClientLimits, Event, Request};
use crate::http::{BodyFraming, Method, ResponseHead};
use crate::tls::ClientTls;

/// How long a connect to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take, from the first byte to the last of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Size of a response's body at most. Chains of certificates have some kilobytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Receive buffers at most. One response at a time is read, and taken out of them at once.
const POOL_BUFFERS: usize = 16;

/// A client for one authority.
pub(super) struct Http {
    tls: ClientTls,
    stop: Arc<StopFlag>,
    pool: Pool,
}

/// A response: its status, what ACME needs of its fields, and its body.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Replay-Nonce` (RFC 8555, 6.5).
    pub(super) nonce: Option<String>,
    pub(super) location: Option<String>,
    /// How long the server asks to wait.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("`{0}` is not a URL with https://")]
    Url(String),
    #[error("{host}: {source}")]
    Io { host: String, source: io::Error },
    #[error("{host}: {source}")]
    Tls { host: String, source: rustls::Error },
    #[error("{host}: {source}")]
    Response { host: String, source: ClientError },
    #[error("{host}: the response is larger than 1 MiB")]
    TooLarge { host: String },
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Url<'u> {
    authority: &'u str,
    host: &'u str,
    port: u16,
    target: String,
}

impl<'u> Url<'u> {
    /// A URL with `https://`.
    fn parse(url: &'u str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            Some(_) | None => (authority, 443),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host =
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
        is_host.then_some(Self { authority, host, port, target })
    }
}

impl Http {
    pub(super) fn new(tls: ClientTls, stop: Arc<StopFlag>) -> Self {
        let few = PoolConfig { small_max: POOL_BUFFERS, large_max: 1, ..PoolConfig::default() };
        Self { tls, stop, pool: Pool::new(few) }
    }

    pub(super) const fn stop(&self) -> &Arc<StopFlag> {
        &self.stop
    }

    /// Sends a request and reads the response. A `body` is one of signed JSON.
    pub(super) fn send(&self, method: Method<'_>, url: &str, body: Option<&str>) -> Result<Answer, HttpError> {
        let bad_url = || HttpError::Url(url.to_owned());
        let parts = Url::parse(url).ok_or_else(bad_url)?;
        let mut head = Request::builder(method, &parts.target, parts.authority)
            .field("User-Agent", concat!("xps/", env!("CARGO_PKG_VERSION")))
            .field("Accept-Language", "en");
        if let Some(body) = body {
            head = head.field("Content-Type", "application/jose+json").body(BodyFraming::Length(body.len() as u64));
        }
        let (mut http, mut out) = (ClientConnection::new(ClientLimits::default()), Chain::new());
        http.request(&head.close().end(), &mut out);
        let mut bytes = out.to_vec();
        bytes.extend_from_slice(body.unwrap_or_default().as_bytes());

        let failed = |source| HttpError::Io { host: parts.authority.to_owned(), source };
        let peer = self.tls.peer(parts.host).map_err(|_| bad_url())?;
        let mut tcp = self.connect(&parts)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let mut tls = TlsConnection::new(peer.config, peer.server_name)
            .map_err(|source| HttpError::Tls { host: parts.authority.to_owned(), source })?;
        // It is kept until the handshake is complete, however large.
        tls.set_buffer_limit(None);
        tls.writer().write_all(&bytes).map_err(failed)?;
        self.exchange(&mut tcp, &mut tls, &mut http, parts.authority)
    }

    /// Connects to the first address that accepts.
    fn connect(&self, url: &Url<'_>) -> Result<TcpStream, HttpError> {
        let failed = |source| HttpError::Io { host: url.authority.to_owned(), source };
        self.stop.check()?;
        let addresses: Vec<SocketAddr> = (url.host, url.port).to_socket_addrs().map_err(failed)?.collect();
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            self.stop.check()?;
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    // So that a stop is seen soon.
                    stream.set_read_timeout(Some(GLANCE)).map_err(failed)?;
                    stream.set_write_timeout(Some(GLANCE)).map_err(failed)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Moves bytes until the response is complete.
    fn exchange(
        &self,
        tcp: &mut TcpStream,
        tls: &mut TlsConnection,
        http: &mut ClientConnection,
        host: &str,
    ) -> Result<Answer, HttpError> {
        let host = || host.to_owned();
        let failed = |source| HttpError::Io { host: host(), source };
        let until = Instant::now() + REQUEST_TIMEOUT;
        let (mut inbox, mut answer) = (Inbox::default(), Answer::default());
        loop {
            self.stop.check()?;
            if Instant::now() >= until {
                return Err(failed(io::Error::new(ErrorKind::TimedOut, "no response in time")));
            }
            let moved = if tls.wants_write() { tls.write_tls(tcp).map(|_| None) } else { tls.read_tls(tcp).map(Some) };
            let has_ended = match moved {
                Ok(received) => received == Some(0),
                // The socket's timeout, or a signal.
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            let processed = tls.process_new_packets();
            if processed.is_err() {
                // The alert about it; that it may not arrive changes nothing.
                let _ = tls.write_tls(tcp);
            }
            let state = processed.map_err(|source| HttpError::Tls { host: host(), source })?;
            self.take_plaintext(tls, state.plaintext_bytes_to_read(), &mut inbox);
            let read_failed = |source| HttpError::Response { host: host(), source };
            if read(http, &mut inbox, &mut answer).map_err(read_failed)? {
                return Ok(answer);
            }
            if answer.body.len() > BODY_BYTES_MAX {
                return Err(HttpError::TooLarge { host: host() });
            }
            if state.peer_has_closed() {
                http.on_end(&inbox).map_err(read_failed)?;
                return Ok(answer);
            }
            if has_ended {
                return Err(failed(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn take_plaintext(&self, tls: &mut TlsConnection, mut bytes: usize, inbox: &mut Inbox) {
        while bytes > 0 {
            let fill = |memory: &mut [u8]| Ok::<_, Infallible>(tls.reader().read(memory).unwrap_or(0));
            // The pool is of this thread alone, and all its buffers are free between two requests.
            let Some(Ok(buffer)) = self.pool.filled(SizeClass::Small, fill) else { return };
            if buffer.is_empty() {
                return;
            }
            bytes = bytes.saturating_sub(buffer.len());
            inbox.push(buffer);
        }
    }
}

/// Reads on. Returns whether the response is complete.
fn read(http: &mut ClientConnection, inbox: &mut Inbox, answer: &mut Answer) -> Result<bool, ClientError> {
    loop {
        match http.read(inbox, of_head)? {
            Event::Wait => return Ok(false),
            Event::Interim(_) => {}
            Event::Head(head) => *answer = head,
            Event::Data(data) => answer.body.extend_from_slice(&data),
            Event::End(_) => return Ok(true),
        }
    }
}

/// What ACME needs of a head.
fn of_head(head: &ResponseHead<'_>) -> Answer {
    let text = |name| head.fields.get(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned);
    Answer {
        status: head.status.code(),
        nonce: text("Replay-Nonce"),
        location: text("Location"),
        retry_after: text("Retry-After").and_then(|value| wait_of(&value, SystemTime::now())),
        body: Vec::new(),
    }
}

/// A `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn wait_of(value: &str, now: SystemTime) -> Option<Duration> {
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let parts = |url| Url::parse(url).map(|url| (url.host.to_owned(), url.port, url.target));
        let is = |host: &str, port, target: &str| Some((host.to_owned(), port, target.to_owned()));
        assert_eq!(parts("https://ca.example/dir?a#b"), is("ca.example", 443, "/dir?a"));
        assert_eq!(parts("https://127.0.0.1:14000/dir"), is("127.0.0.1", 14000, "/dir"));
        assert_eq!(parts("https://[::1]:1"), is("::1", 1, "/"));
        assert_eq!(parts("https://[::1]?q"), is("::1", 443, "/?q"));
        for bad in [
            "http://ca/",
            "https://",
            "https://:1/",
            "https://a:b/",
            "https://a:70000/",
            "https://u@h/",
            "https://a b/",
        ] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wait_is_in_seconds_or_up_to_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(wait_of("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:00:00 GMT", now), None);
        assert_eq!(wait_of("soon", now), None);
    }
}
