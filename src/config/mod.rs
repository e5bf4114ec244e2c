//! What a server is told: plain data, filled in by the command line or a configuration file.

mod address;
pub mod build;
pub mod file;
pub mod start;
pub mod units;

use std::path::PathBuf;
use std::time::Duration;

pub use self::address::{InvalidUpstreamAddress, ListenAddress, UpstreamAddress, overlap};
use crate::buffer::PoolConfig;
pub use crate::driver::probe::BackendChoice;
use crate::driver::{FeatureSet, OffloadLimits, SymlinkPolicy};
use crate::file::charset::Charset;
use crate::file::compress::Compression;
use crate::file::listing;
use crate::file::store::StoreLimits;
use crate::http::error_page::ErrorPages;
use crate::http::forward::{Pseudonym, RequestRules, ResponseRules};
use crate::http::redirect::RedirectTemplate;
use crate::http::{HeadLimits, Status};
use crate::limit::{Access, AdmissionConfig};
use crate::session::Naming;
use crate::telemetry::access_log::AccessLog;
use crate::upstream::{ConnectPolicy, GroupConfig, KeepAlive};

/// Everything a server needs to know before it starts.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen, and what each port is for.
    pub listeners: Vec<ListenerConfig>,
    /// Worker threads; at least one.
    pub workers: usize,
    /// Ties each worker to one of the CPUs that the process may use.
    pub pin_workers: bool,
    /// Which driver to use.
    pub backend: BackendChoice,
    /// Optional io_uring features not to use even where the kernel has them.
    pub uring_off: FeatureSet,
    /// Who may come in, and how often.
    pub admission: AdmissionConfig,
    /// The bounds of everything.
    pub limits: Limits,
}

/// One listening address.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where to listen.
    pub address: ListenAddress,
    /// Who may connect.
    pub access: Access,
    /// Connections begin with a header of the PROXY protocol.
    pub expects_proxy_header: bool,
    /// What a connection to it is for.
    pub service: ServiceConfig,
}

impl ListenerConfig {
    /// A listener for everybody.
    pub fn new(address: ListenAddress, service: ServiceConfig) -> Self {
        Self { address, access: Access::default(), expects_proxy_header: false, service }
    }
}

/// What a connection is for.
#[derive(Clone, Debug)]
pub enum ServiceConfig {
    /// Sends back what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Joins the connection to one to an upstream.
    TcpProxy(GroupConfig, ConnectPolicy),
    /// Speaks HTTP/1.1.
    Http(RouterConfig),
    /// Sends these bytes, then closes.
    SendText(&'static [u8]),
    /// Sends a file, then closes.
    SendFile {
        /// The folder that the path may not leave.
        root: PathBuf,
        /// The file, relative to the root.
        path: PathBuf,
        /// What becomes of one that cannot be sent.
        on_missing: OnMissing,
    },
    /// Writes what comes to files.
    Receive {
        /// The folder.
        root: PathBuf,
        /// The file's name in it.
        name: PathBuf,
        /// Which names further files get.
        naming: Naming,
    },
}

/// What becomes of a file that is missing or leads out of its root when the server starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// The server does not start.
    #[default]
    Refuse,
    /// Each connection is closed without a byte, for as long as the file cannot be opened.
    Close,
}

impl ServiceConfig {
    /// The service's name, for banners and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Reverse => "reverse",
            Self::TcpProxy(..) => "tcp_proxy",
            Self::Http(_) => "http",
            Self::SendText(_) => "send_text",
            Self::SendFile { .. } => "send_file",
            Self::Receive { .. } => "receive",
        }
    }
}

/// What an HTTP listener offers.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// How it is answered where there is no route.
    pub responses: ResponseConfig,
    /// The hosts; the first one also serves names that none of them has. Without any, everything is 404.
    pub hosts: Vec<VirtualHostConfig>,
}

/// Host names, and what is served under them.
#[derive(Clone, Debug)]
pub struct VirtualHostConfig {
    /// Names in lower case; `*.example.org` is any name beneath, a port behind one means that port only. None: this host is
    /// for everybody whom no other one has.
    pub names: Vec<String>,
    /// Who may see any of it.
    pub access: Access,
    /// Where requests are recorded. What is no request goes where the first host's do.
    pub access_log: Option<AccessLog>,
    /// The routes; the longest prefix that fits holds.
    pub routes: Vec<RouteConfig>,
}

/// What answers for the paths beneath a prefix.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Decoded and normalised, without slashes around it; empty for everything.
    pub prefix: Vec<u8>,
    /// Who may see it.
    pub access: Access,
    /// Whether a connection goes on after a response.
    pub keep_alive: bool,
    /// What answers.
    pub handler: HandlerConfig,
    /// How xps answers here in its own name: files, errors, all that no upstream has said.
    pub responses: ResponseConfig,
}

/// What the responses have that xps gives in its own name.
#[derive(Clone, Debug)]
pub struct ResponseConfig {
    /// The `Server` field; `None`: none.
    pub server_name: Option<String>,
    /// Fields added to every response that is not an error.
    pub fields: Vec<(String, String)>,
    /// Fields left out of errors.
    pub without: Vec<String>,
    /// Fields left out of all other responses: the same, and those that `fields` are to replace.
    pub replaced: Vec<String>,
    /// Pages in place of ours.
    pub error_pages: ErrorPages,
    /// The origin that scripts of other sites may read from: `Access-Control-Allow-Origin`.
    pub cors: Option<String>,
}

impl Default for ResponseConfig {
    fn default() -> Self {
        let server_name = Some("xps".to_owned());
        Self {
            server_name,
            fields: Vec::new(),
            without: Vec::new(),
            replaced: Vec::new(),
            error_pages: ErrorPages::default(),
            cors: None,
        }
    }
}

/// What answers a request.
#[derive(Clone, Debug)]
pub enum HandlerConfig {
    /// Files.
    Files(Box<FileRouteConfig>),
    /// Upstreams.
    Forward(Box<ForwardConfig>),
    /// Another URL.
    Redirect {
        /// 300 to 399.
        status: Status,
        /// Where to.
        url: RedirectTemplate,
    },
    /// What the server counts.
    Metrics,
}

impl RouterConfig {
    /// One handler for everything.
    pub fn of(handler: HandlerConfig, responses: ResponseConfig, access_log: Option<AccessLog>) -> Self {
        let (prefix, access) = (Vec::new(), Access::default());
        let route = RouteConfig { prefix, access, keep_alive: true, handler, responses: responses.clone() };
        let host = VirtualHostConfig { names: Vec::new(), access: Access::default(), access_log, routes: vec![route] };
        Self { responses, hosts: vec![host] }
    }
}

/// How requests are forwarded to upstreams. Times may be [`Duration::ZERO`], which means: no limit.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// The upstreams.
    pub group: GroupConfig,
    /// How many upstreams are tried for one request; 0: as many as there are.
    pub tries_max: u32,
    /// How long connecting to one address may take.
    pub connect_timeout: Duration,
    /// How long an upstream may be silent while it is waited for.
    pub response_timeout: Duration,
    /// How connections wait to be used again.
    pub keep_alive: KeepAlive,
    /// What becomes of a request's head.
    pub request: RequestRules,
    /// What becomes of a response's head.
    pub response: ResponseRules,
    /// Whether requests to speak another protocol, such as WebSocket, are passed on.
    pub upgrades: bool,
    /// The longest body of a request that is passed on, in bytes; 0: no limit.
    pub body_bytes_max: u64,
}

impl ForwardConfig {
    /// Forwarding to these upstreams as most would want it.
    pub fn new(group: GroupConfig) -> Self {
        Self {
            group,
            tries_max: 0,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            keep_alive: KeepAlive::default(),
            request: RequestRules { via: Pseudonym::new("xps").ok(), ..RequestRules::default() },
            response: ResponseRules::default(),
            upgrades: true,
            body_bytes_max: 0,
        }
    }
}

/// A folder that is served, and how.
#[derive(Clone, Debug)]
pub struct FileRouteConfig {
    /// The folder that is served; `None`: the built-in welcome pages.
    pub root: Option<PathBuf>,
    /// Files that stand for their folder, the first that exists.
    pub index: Vec<String>,
    /// Folders without such a file are listed.
    pub listing: bool,
    /// How they are.
    pub listing_style: listing::Style,
    /// What other folders without such a file are answered with.
    pub unlisted: Status,
    /// Files and folders whose name begins with a dot are served, too. `.well-known` always is.
    pub dot_files: bool,
    /// This file, relative to the root, is served in place of what does not exist (single-page applications).
    pub fallback: Option<String>,
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
    /// Files that become smaller are sent compressed to clients that understand it; `None`: none are.
    pub compression: Option<Compression>,
    /// A file with `.br`, `.zst` or `.gz` at its name's end, and no older than the one without, is sent in its place to
    /// clients that understand it.
    pub precompressed: bool,
    /// The charset claimed for text.
    pub charset: Charset,
}

impl Default for FileRouteConfig {
    /// The welcome pages, without listings.
    fn default() -> Self {
        Self {
            root: None,
            index: vec!["index.html".into()],
            listing: false,
            listing_style: listing::Style::Standard,
            unlisted: Status::FORBIDDEN,
            dot_files: false,
            fallback: None,
            symlinks: SymlinkPolicy::Follow,
            compression: Some(Compression::default()),
            precompressed: true,
            charset: Charset::Auto,
        }
    }
}

/// The bounds of HTTP connections. A time of [`Duration::ZERO`] means: no limit.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// How large a request's head may be.
    pub head: HeadLimits,
    /// How long a head may take, from its first byte, or from the connection's start, to its last.
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub keep_alive_timeout: Duration,
    /// How long it may wait for it once the server is stopping: a request that comes within is answered, as the last.
    pub drain_idle_timeout: Duration,
    /// How long a client may take nothing of a response, and either side nothing of what the other had sent before it broke off.
    pub send_timeout: Duration,
    /// How long the body of a request that nobody wants may take, from the response to its end.
    pub body_timeout: Duration,
    /// Bytes of a response that a client takes each second at least, on average over `send_timeout`; 0: any number.
    pub send_rate_min: u64,
    /// Bytes of a request's body that is passed on which a client sends each second at least, on average over
    /// `body_timeout`; 0: any number.
    pub upload_rate_min: u64,
    /// Bodies that nobody wants are read to their end up to so many bytes; beyond, the connection is closed.
    pub discard_bytes_max: u64,
    /// Requests on one connection; 0: no limit.
    pub requests_max: u32,
    /// Interim responses (1xx) of an upstream to one request.
    pub interim_responses_max: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            drain_idle_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_rate_min: 240,
            upload_rate_min: 240,
            discard_bytes_max: 256 << 10,
            requests_max: 0,
            interim_responses_max: 100,
        }
    }
}

/// The bounds of one worker and of each of its connections. All times may be [`Duration::ZERO`],
/// which means: no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections one worker serves at a time; beyond it accepting pauses.
    pub connections_max: usize,
    /// Connections one worker serves in all; when the last of them has ended, so does the worker. 0: any number.
    pub connections_total: u64,
    /// Bytes that one direction of a connection may hold before its source is paused. What was
    /// already on its way when the pause was asked for comes on top.
    pub pipe_bytes_max: usize,
    /// The longest line that `reverse` keeps in one piece, in bytes.
    pub line_bytes_max: usize,
    /// Connections the kernel keeps waiting for `accept`.
    pub backlog: i32,
    /// A connection on which no byte moves for so long is closed.
    pub idle_timeout: Duration,
    /// How long connecting to one address of an upstream may take.
    pub connect_timeout: Duration,
    /// How long live connections may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// How long a process that is to take this one's place may take until it serves; then it is killed.
    pub replace_timeout: Duration,
    /// Receive buffers of one worker.
    pub pool: PoolConfig,
    /// HTTP connections.
    pub http: HttpLimits,
    /// Files that one worker has at hand.
    pub store: StoreLimits,
    /// Threads for look-ups, disk and computation, of all workers together.
    pub offload: OffloadLimits,
}

impl Limits {
    /// How many connections a worker may serve yet that has accepted so many; `None`: any number.
    pub const fn connections_left(&self, accepted: u64) -> Option<u64> {
        match self.connections_total {
            0 => None,
            total => Some(total.saturating_sub(accepted)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            connections_total: 0,
            pipe_bytes_max: 256 << 10,
            line_bytes_max: 64 << 10,
            backlog: 4096,
            idle_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            replace_timeout: Duration::from_secs(60),
            pool: PoolConfig::default(),
            http: HttpLimits::default(),
            store: StoreLimits::default(),
            offload: OffloadLimits::default(),
        }
    }
}
