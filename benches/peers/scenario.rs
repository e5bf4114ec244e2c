//! The table of scenarios: what is asked and answered, over how many connections.

use crate::response::Expected;

/// One kind of exchange. To add one, add a row to [`SCENARIOS`].
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line; also that of the file it asks for.
    pub name: &'static str,
    /// What the servers are configured to do.
    pub service: Service,
    /// How connections and requests relate.
    pub pattern: Pattern,
    /// Which connections are encrypted.
    pub tls: Tls,
    /// Connections that each keep something under way.
    pub connections: usize,
    /// Bytes of a request, head and padding, if its fields need no more.
    pub request_bytes: usize,
    /// Bytes of the body, of the file as of the answer; the answer's head comes on top.
    pub body_bytes: usize,
    /// Of each connection's answers the first and then every so-manyth is compared byte by byte;
    /// all are counted. Where bodies are large, comparing all would make the load generator, not
    /// the server, the slow one.
    pub compare_every: u64,
}

/// What a server does in a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// Relays TCP to the origin.
    Relay,
    /// Serves a folder over HTTP.
    Files,
    /// Relays HTTP to the origin, over connections that it keeps.
    HttpProxy,
}

/// Which connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None.
    Nowhere,
    /// Those that clients make to the server.
    Clients,
    /// Those that the server makes to the origin.
    Origin,
}

/// How connections and requests relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A connection asks again when it has its answer.
    KeepAlive,
    /// It asks so many times in one segment, and again when all are answered.
    Pipelined(usize),
    /// It asks once, for the connection to end too; when the server has ended it, there is another.
    Reconnect,
    /// As `Reconnect`, and each connection resumes the TLS session of the one before.
    Resume,
    /// As `KeepAlive`, for a file that the client has already (RFC 9110, section 13.1.2).
    NotModified,
    /// HTTP/2: so many requests are under way on each connection all the time. h2load makes the load.
    Streams(usize),
}

/// What most scenarios have in common.
const SMALL: Scenario = Scenario {
    name: "small",
    service: Service::Relay,
    pattern: Pattern::KeepAlive,
    tls: Tls::Nowhere,
    connections: 64,
    request_bytes: 100,
    body_bytes: 612,
    compare_every: 1,
};

const FILE: Scenario = Scenario { name: "file-612", service: Service::Files, ..SMALL };

const TLS_FILE: Scenario = Scenario { name: "tls-612", tls: Tls::Clients, ..FILE };

const H2_FILE: Scenario = Scenario { name: "h2-612", pattern: Pattern::Streams(100), connections: 4, ..FILE };

const H2_PROXY: Scenario = Scenario { name: "h2-proxy-small", service: Service::HttpProxy, ..H2_FILE };

const H2_TLS_FILE: Scenario = Scenario { name: "h2-tls-612", tls: Tls::Clients, ..H2_FILE };

const H2_TLS_PROXY: Scenario = Scenario { name: "h2-tls-proxy-small", tls: Tls::Clients, ..H2_PROXY };

const MIB: usize = 1 << 20;

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    SMALL,
    Scenario { name: "bulk", body_bytes: MIB, compare_every: 16, ..SMALL },
    FILE,
    Scenario { name: "file-16k", body_bytes: 16 << 10, ..FILE },
    Scenario { name: "file-64k", body_bytes: 64 << 10, compare_every: 16, ..FILE },
    Scenario { name: "file-1m", body_bytes: MIB, compare_every: 16, ..FILE },
    Scenario { name: "file-10m", body_bytes: 10 * MIB, compare_every: 16, ..FILE },
    Scenario { name: "pipelined-16", pattern: Pattern::Pipelined(16), ..FILE },
    Scenario { name: "reconnect", pattern: Pattern::Reconnect, ..FILE },
    Scenario { name: "not-modified", pattern: Pattern::NotModified, ..FILE },
    Scenario { name: "proxy-http-small", service: Service::HttpProxy, ..SMALL },
    Scenario { name: "proxy-http-1m", service: Service::HttpProxy, body_bytes: MIB, compare_every: 16, ..SMALL },
    Scenario { name: "tls-handshake", pattern: Pattern::Reconnect, ..TLS_FILE },
    Scenario { name: "tls-resumed", pattern: Pattern::Resume, ..TLS_FILE },
    TLS_FILE,
    Scenario { name: "tls-64k", body_bytes: 64 << 10, compare_every: 16, ..TLS_FILE },
    Scenario { name: "tls-1m", body_bytes: MIB, compare_every: 16, ..TLS_FILE },
    Scenario { name: "proxy-tls-origin", service: Service::HttpProxy, tls: Tls::Origin, ..SMALL },
    H2_FILE,
    Scenario { name: "h2-64k", body_bytes: 64 << 10, ..H2_FILE },
    Scenario { name: "h2-1m", body_bytes: MIB, ..H2_FILE },
    H2_PROXY,
    Scenario { name: "h2-proxy-1m", body_bytes: MIB, ..H2_PROXY },
    H2_TLS_FILE,
    Scenario { name: "h2-tls-64k", body_bytes: 64 << 10, ..H2_TLS_FILE },
    Scenario { name: "h2-tls-1m", body_bytes: MIB, ..H2_TLS_FILE },
    H2_TLS_PROXY,
    Scenario { name: "h2-tls-proxy-1m", body_bytes: MIB, ..H2_TLS_PROXY },
];

/// What ends a request; a request contains it nowhere else.
pub const REQUEST_END: &[u8; 4] = b"\r\n\r\n";

/// From here on the modes that servers have for moving bulk are worth a row of their own.
const BULK_BYTES: usize = MIB;

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Whether bytes, not messages, are what it costs.
    pub fn is_bulk(&self) -> bool {
        self.body_bytes >= BULK_BYTES
    }

    /// Requests under way at a time on each connection of HTTP/2; `None`: it is HTTP/1.1, or TCP.
    pub fn streams(&self) -> Option<usize> {
        match self.pattern {
            Pattern::Streams(count) => Some(count),
            Pattern::KeepAlive
            | Pattern::Pipelined(_)
            | Pattern::Reconnect
            | Pattern::Resume
            | Pattern::NotModified => None,
        }
    }

    /// Exchanges under way at a time, at most.
    pub fn concurrency(&self) -> usize {
        self.connections * self.streams().unwrap_or(1)
    }

    /// Requests in one segment.
    pub fn requests_at_once(&self) -> usize {
        match self.pattern {
            Pattern::Pipelined(count) => count,
            Pattern::KeepAlive | Pattern::Reconnect | Pattern::Resume | Pattern::NotModified | Pattern::Streams(_) => 1,
        }
    }

    /// Whether each exchange has a connection of its own.
    pub fn reconnects(&self) -> bool {
        match self.pattern {
            Pattern::Reconnect | Pattern::Resume => true,
            Pattern::KeepAlive | Pattern::Pipelined(_) | Pattern::NotModified | Pattern::Streams(_) => false,
        }
    }

    /// A request for the whole body on a connection that stays: valid HTTP, although a TCP relay does not look, so that
    /// other load generators can take the place of ours.
    pub fn request(&self) -> Vec<u8> {
        self.request_with("")
    }

    /// What a connection sends at once. `etag` is what the server calls the file's present state.
    pub fn segment(&self, etag: Option<&str>) -> Vec<u8> {
        match self.pattern {
            Pattern::KeepAlive | Pattern::Streams(_) => self.request(),
            Pattern::Pipelined(count) => self.request().repeat(count),
            Pattern::Reconnect | Pattern::Resume => self.request_with("Connection: close\r\n"),
            Pattern::NotModified => self.request_with(&format!("If-None-Match: {}\r\n", etag.unwrap_or_default())),
        }
    }

    fn request_with(&self, fields: &str) -> Vec<u8> {
        let path = self.path();
        let mut request = format!("GET {path} HTTP/1.1\r\nHost: origin.test\r\n{fields}X-Padding: ").into_bytes();
        let padded = self.request_bytes.saturating_sub(REQUEST_END.len()).max(request.len());
        request.resize(padded, b'x');
        request.extend_from_slice(REQUEST_END);
        request
    }

    /// What is asked for.
    pub fn path(&self) -> String {
        match self.service {
            Service::Files => format!("/{}", self.name),
            Service::Relay | Service::HttpProxy => "/".to_owned(),
        }
    }

    /// The body, of the file as of the origin's answer. It has no short period, so bytes that were lost, doubled or
    /// swapped show.
    pub fn body(&self) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        let letter = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + ((state >> 24) % 26) as u8
        };
        (0..self.body_bytes).map(letter).collect()
    }

    /// The head of the origin's answer.
    pub fn origin_head(&self) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", self.body_bytes)
            .into_bytes()
    }

    /// What [`Self::request`] must be answered with.
    pub fn whole(&self) -> Expected {
        match self.service {
            Service::Relay => Expected::verbatim(self.origin_head(), self.body()),
            Service::Files | Service::HttpProxy => Expected::new(200, self.body()),
        }
    }

    /// What each request of [`Self::segment`] must be answered with.
    pub fn expected(&self) -> Expected {
        match self.pattern {
            Pattern::KeepAlive | Pattern::Pipelined(_) | Pattern::Reconnect | Pattern::Resume | Pattern::Streams(_) => {
                self.whole()
            }
            Pattern::NotModified => Expected::new(304, Vec::new()),
        }
    }
}
