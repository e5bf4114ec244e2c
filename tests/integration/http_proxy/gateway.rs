//! The proxy under test.

use std::net::SocketAddr;

use crate::origin::Origin;
use crate::support::bridge::Over;
use crate::support::client::read_until_cut;
use crate::support::h2::client::Connection;
use crate::support::tls::Client;
use crate::support::{Backend, Launch, Xps};
use crate::wire::{Response, Wire};

/// A running proxy.
#[derive(Debug)]
pub struct Gateway {
    pub xps: Xps,
    /// Descriptors that it has without any connection.
    descriptors: usize,
}

impl Gateway {
    /// A proxy of one worker in front of one upstream. Of more than one, each would have its own idle connections.
    #[track_caller]
    pub fn new(backend: Backend, origin: &Origin, flags: &[&str]) -> Self {
        Self::of(backend, &[origin.address()], flags)
    }

    /// The same in front of several.
    #[track_caller]
    pub fn of(backend: Backend, upstreams: &[SocketAddr], flags: &[&str]) -> Self {
        Self::launched(Self::launch(backend).over_what_is_asked(), upstreams, flags)
    }

    /// One whose clients speak HTTP/2 themselves, without TLS or over it, whatever the others are to do.
    #[track_caller]
    pub fn over_http2(backend: Backend, over: Over, upstream: SocketAddr, flags: &[&str]) -> Self {
        Self::launched(Self::launch(backend).over(over), &[upstream], flags)
    }

    /// A connection of such a client.
    #[track_caller]
    pub fn connection(&self) -> Connection {
        match self.xps.encryption() {
            None => Connection::to(self.xps.address()),
            Some(_) => {
                let client = Client::trusting_anyone().offering(&["h2"]);
                let mut connection = Connection::over_tls(self.xps.address(), &client, "localhost");
                // Another one is none of the certificate's (421).
                connection.set_authority("localhost");
                connection
            }
        }
    }

    fn launch(backend: Backend) -> Launch {
        Launch::new(backend, ["proxy", "--http", "--listen", "127.0.0.1:0"])
    }

    #[track_caller]
    fn launched(mut launch: Launch, upstreams: &[SocketAddr], flags: &[&str]) -> Self {
        if !flags.contains(&"--access-log") {
            launch = launch.flags(["--access-log", "off"]);
        }
        if !flags.contains(&"--workers") {
            launch = launch.flags(["--workers", "1"]);
        }
        for upstream in upstreams {
            launch = launch.flag("--upstream").flag(upstream);
        }
        let xps = launch.flags(flags.iter().copied()).start();
        let descriptors = xps.usage().descriptors;
        Self { xps, descriptors }
    }

    /// How many connections it has, those to upstreams included.
    pub fn connections(&self) -> usize {
        self.xps.usage().descriptors.saturating_sub(self.descriptors)
    }

    /// That of the URLs of its clients.
    pub fn scheme(&self) -> &'static str {
        if self.xps.encryption().is_some() { "https" } else { "http" }
    }

    /// A new connection of a client.
    #[track_caller]
    pub fn wire(&self) -> Wire {
        Wire::to(self.xps.address())
    }

    /// A new connection, on which these bytes are sent.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Wire {
        let mut wire = self.wire();
        wire.send(bytes);
        wire
    }
}

/// A request without a body.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// An answer after which a connection may go on.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Checks that an answer is [`OK`].
#[track_caller]
pub fn assert_ok(response: &Response) {
    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{response:?}");
}

/// Asks for something, has it answered on `visit`, and checks that the answer arrives.
#[track_caller]
pub fn round_trip(wire: &mut Wire, visit: &mut crate::origin::Visit) {
    wire.send(GET);
    visit.request();
    visit.send(OK);
    assert_ok(&wire.response());
}

/// Reads to the end of an answer that is cut.
#[track_caller]
pub fn assert_cut(wire: &mut Wire, head: &Response, answer: &str) {
    let (rest, end) = read_until_cut(&wire.stream);
    let rest = [wire.take_buffered(), rest].concat();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a last chunk, as if it were whole: {answer:?}");
    assert!(!answer.contains("half") || rest.windows(4).any(|bytes| bytes == b"half"), "{rest:?} of {answer:?}");
    let is_framed = head.length().is_some() || head.field("Transfer-Encoding").is_some();
    assert_eq!(end.is_ok(), is_framed, "{end:?} after {answer:?}");
}
