//! What is to be measured: whom to ask what, how often, for how long, and what a correct answer is.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::PoolConfig;
use crate::driver::FeatureSet;
use crate::driver::probe::Selection;
use crate::http::Scheme;
use crate::tls::TlsPeer;
use crate::upstream::UpstreamAddress;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom to ask; never empty. Connections are spread over them by their weights.
    pub origins: Vec<Origin>,
    /// Connections that send requests, of all threads.
    pub connections: u32,
    /// Connections that are opened and send nothing.
    pub idle: u32,
    /// Connections that send requests and read the responses at a trickle. Their responses are not counted.
    pub slow: u32,
    /// Requests in progress on one connection at the same time, with HTTP/1.1: pipelined.
    pub pipeline: usize,
    /// The same with HTTP/2: as streams.
    pub streams: usize,
    /// Requests on one connection, after which it is closed. `None`: no limit.
    pub requests_per_connection: Option<u64>,
    /// When it ends.
    pub stop: Stop,
    /// How long it runs before anything is counted.
    pub warmup: Duration,
    /// Requests a second, of all threads. `None`: a closed loop, as many as the server answers.
    pub rate: Option<f64>,
    /// How long a request, or the making of a connection, may take.
    pub timeout: Duration,
    /// What a correct response is.
    pub expect: Expect,
    /// Threads, each with its share of the connections and of the rate.
    pub threads: u32,
    /// The back-end.
    pub selection: Selection,
    /// Features of io_uring that are not used.
    pub uring_off: FeatureSet,
    /// The receive buffers of a thread.
    pub pool: PoolConfig,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// After this number of requests.
    Requests(u64),
    /// After this time.
    After(Duration),
}

/// A server, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Where to connect to.
    pub address: UpstreamAddress,
    /// What is needed to connect over TLS.
    pub tls: Option<TlsPeer>,
    /// What is asked.
    pub work: Work,
}

impl Origin {
    /// How many of the connections are for it, relative to the others.
    pub fn weight(&self) -> u32 {
        match &self.work {
            Work::Http { targets, .. } => targets.iter().map(|target| target.weight).sum(),
            Work::Tcp { .. } => 1,
        }
    }
}

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Work {
    /// HTTP requests, in turns by their weights; never empty.
    Http {
        /// The version to speak without TLS, or if the server chooses none by ALPN.
        version: HttpVersion,
        /// The requests.
        targets: Vec<HttpTarget>,
    },
    /// Bytes.
    Tcp {
        /// What is done with a connection.
        mode: TcpMode,
        /// The bytes of one request.
        payload: Arc<[u8]>,
    },
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in plain text with prior knowledge.
    Http2,
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct HttpTarget {
    /// The method: a token.
    pub method: String,
    /// The scheme of its URL.
    pub scheme: Scheme,
    /// The value of `Host`, or `:authority`.
    pub authority: String,
    /// The path with its query.
    pub path: String,
    /// Other fields.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Option<Arc<[u8]>>,
    /// How often it is asked, relative to the others; not 0.
    pub weight: u32,
}

/// What is done with a connection without HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TcpMode {
    /// Send the bytes, and expect the same ones back
    Echo,
    /// Send the bytes, end the sending side, and read to the end: one connection for each request
    Request,
    /// Send the bytes again and again, and drop what comes
    Stream,
    /// Connect, and close with a reset: one connection for each request
    Connect,
}

/// What a correct response is.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// These statuses. Empty: 200 to 399.
    pub statuses: Vec<u16>,
    /// A body of this length.
    pub length: Option<u64>,
    /// A body with this SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// The same body as the first response to the same request.
    pub is_same: bool,
}

impl Expect {
    /// Whether this status is a correct one.
    pub fn takes(&self, status: u16) -> bool {
        if self.statuses.is_empty() { (200..400).contains(&status) } else { self.statuses.contains(&status) }
    }
}

impl Plan {
    /// The part of thread `index`, from 0.
    pub fn share(&self, index: u32) -> Self {
        let part = |all: u32| all / self.threads + u32::from(index < all % self.threads);
        let stop = match self.stop {
            Stop::Requests(all) => {
                let threads = u64::from(self.threads);
                Stop::Requests(all / threads + u64::from(u64::from(index) < all % threads))
            }
            Stop::After(duration) => Stop::After(duration),
        };
        Self {
            connections: part(self.connections),
            idle: part(self.idle),
            slow: part(self.slow),
            stop,
            rate: self.rate.map(|rate| rate / f64::from(self.threads)),
            ..self.clone()
        }
    }
}
