//! Configuration of a server: plain data, filled in by the command line or a configuration file.

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

/// Configuration of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Addresses to listen on, each with its service.
    pub listeners: Vec<ListenerConfig>,
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Pin each worker to one of the processors available to the process.
    pub pin_workers: bool,
    /// I/O back-end.
    pub backend: BackendChoice,
    /// Optional io_uring features that are not used even if the kernel has them.
    pub uring_off: FeatureSet,
    /// Connection and request limits, and trusted proxies.
    pub admission: AdmissionConfig,
    /// Limits and timeouts.
    pub limits: Limits,
}

/// A listening address and its service.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The address to listen on.
    pub address: ListenAddress,
    /// Networks that may connect.
    pub access: Access,
    /// Whether connections begin with a PROXY protocol header.
    pub expects_proxy_header: bool,
    /// The service for its connections.
    pub service: ServiceConfig,
}

impl ListenerConfig {
    /// A listener without access restrictions and PROXY protocol.
    pub fn new(address: ListenAddress, service: ServiceConfig) -> Self {
        Self { address, access: Access::default(), expects_proxy_header: false, service }
    }
}

/// The service for the connections of a listener.
#[derive(Clone, Debug)]
pub enum ServiceConfig {
    /// Sends back what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Relays the connection to an upstream.
    TcpProxy(GroupConfig, ConnectPolicy),
    /// Speaks HTTP/1.1.
    Http(RouterConfig),
    /// Sends these bytes, then closes.
    SendText(&'static [u8]),
    /// Sends a file, then closes.
    SendFile {
        /// The root folder. The file must be inside it.
        root: PathBuf,
        /// The file, relative to the root.
        path: PathBuf,
        /// What to do if the file cannot be sent.
        on_missing: OnMissing,
    },
    /// Writes the received bytes to files.
    Receive {
        /// The folder of the files.
        root: PathBuf,
        /// The name of the first file.
        name: PathBuf,
        /// How further files are named.
        naming: Naming,
    },
}

/// What to do at the start if a file is missing or outside its root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMissing {
    /// The server does not start.
    #[default]
    Refuse,
    /// While the file cannot be opened, each connection is closed without sending anything.
    Close,
}

impl ServiceConfig {
    /// The name of the service, for banners and logs.
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

/// Configuration of an HTTP listener.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Settings of responses where no route matches.
    pub responses: ResponseConfig,
    /// The virtual hosts. The first also serves names that no other host has. Empty: every response
    /// is 404.
    pub hosts: Vec<VirtualHostConfig>,
}

/// A virtual host: its names and routes.
#[derive(Clone, Debug)]
pub struct VirtualHostConfig {
    /// Names in lower case. `*.example.org` matches any name beneath `example.org`; a name with a
    /// port matches that port only. Empty: this host serves all names that no other host has.
    pub names: Vec<String>,
    /// Networks that may use this host.
    pub access: Access,
    /// The access log. Input that is not a valid request is logged by the first host.
    pub access_log: Option<AccessLog>,
    /// The routes. The longest matching prefix is used.
    pub routes: Vec<RouteConfig>,
}

/// A route: how requests for the paths beneath a prefix are handled.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The path prefix, decoded and normalised, without slashes at either end. Empty: all paths.
    pub prefix: Vec<u8>,
    /// Networks that may use this route.
    pub access: Access,
    /// Whether a connection is kept open after a response.
    pub keep_alive: bool,
    /// The handler.
    pub handler: HandlerConfig,
    /// Settings of responses that xps generates on this route: files, errors, and everything else
    /// that does not come from an upstream.
    pub responses: ResponseConfig,
}

/// Settings of responses that xps generates itself.
#[derive(Clone, Debug)]
pub struct ResponseConfig {
    /// The `Server` field. `None`: no such field.
    pub server_name: Option<String>,
    /// Fields added to every response that is not an error.
    pub fields: Vec<(String, String)>,
    /// Fields removed from error responses.
    pub without: Vec<String>,
    /// Fields removed from all other responses: those of `without`, and those that `fields`
    /// replaces.
    pub replaced: Vec<String>,
    /// Pages that replace the built-in error pages.
    pub error_pages: ErrorPages,
    /// The value of `Access-Control-Allow-Origin`: the origin whose scripts may read the responses.
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

/// The handler of a request.
#[derive(Clone, Debug)]
pub enum HandlerConfig {
    /// Serves files.
    Files(Box<FileRouteConfig>),
    /// Forwards to upstreams.
    Forward(Box<ForwardConfig>),
    /// Redirects to another URL.
    Redirect {
        /// The status, 300 to 399.
        status: Status,
        /// The target.
        url: RedirectTemplate,
    },
    /// Serves the metrics of the server.
    Metrics,
}

impl RouterConfig {
    /// A single handler for all requests.
    pub fn of(handler: HandlerConfig, responses: ResponseConfig, access_log: Option<AccessLog>) -> Self {
        let (prefix, access) = (Vec::new(), Access::default());
        let route = RouteConfig { prefix, access, keep_alive: true, handler, responses: responses.clone() };
        let host = VirtualHostConfig { names: Vec::new(), access: Access::default(), access_log, routes: vec![route] };
        Self { responses, hosts: vec![host] }
    }
}

/// How requests are forwarded to upstreams. A time of [`Duration::ZERO`] means no limit.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// The upstreams.
    pub group: GroupConfig,
    /// Maximum number of upstreams tried for one request. 0: all.
    pub tries_max: u32,
    /// Timeout for connecting to one address.
    pub connect_timeout: Duration,
    /// Timeout while xps waits for an upstream that makes no progress.
    pub response_timeout: Duration,
    /// Idle connections kept for further requests.
    pub keep_alive: KeepAlive,
    /// Changes to the head of requests.
    pub request: RequestRules,
    /// Changes to the head of responses.
    pub response: ResponseRules,
    /// Whether upgrade requests to another protocol, such as WebSocket, are forwarded.
    pub upgrades: bool,
    /// Maximum size of a request body that is forwarded, in bytes. 0: no limit.
    pub body_bytes_max: u64,
}

impl ForwardConfig {
    /// Forwarding to these upstreams with default settings.
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

/// A route that serves files from a folder.
#[derive(Clone, Debug)]
pub struct FileRouteConfig {
    /// The folder. `None`: the built-in welcome pages.
    pub root: Option<PathBuf>,
    /// Index files. A request for a folder gets the first that exists.
    pub index: Vec<String>,
    /// Whether folders without an index file are listed.
    pub listing: bool,
    /// Format of listings.
    pub listing_style: listing::Style,
    /// Status for folders without an index file if `listing` is off.
    pub unlisted: Status,
    /// Whether files and folders whose name begins with a dot are served. `.well-known` always is.
    pub dot_files: bool,
    /// File, relative to the root, that is sent when the requested file does not exist (for
    /// single-page applications).
    pub fallback: Option<String>,
    /// How symbolic links are handled.
    pub symlinks: SymlinkPolicy,
    /// Compression of files, if the client accepts it and the result is smaller. `None`: no
    /// compression.
    pub compression: Option<Compression>,
    /// Whether `FILE.br`, `FILE.zst` or `FILE.gz` is sent instead of `FILE` to clients that accept
    /// the coding, if it is not older than `FILE`.
    pub precompressed: bool,
    /// The `charset` parameter of `Content-Type` for text.
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

/// Limits of HTTP connections. A time of [`Duration::ZERO`] means no limit.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Maximum size of a request head.
    pub head: HeadLimits,
    /// Timeout for a request head: from its first byte to its last. The first head of a connection
    /// counts from the connection's start.
    pub head_timeout: Duration,
    /// How long an idle connection waits for its next request.
    pub keep_alive_timeout: Duration,
    /// How long an idle connection waits for its next request while the server is stopping. A
    /// request that arrives in this time is served as the last one.
    pub drain_idle_timeout: Duration,
    /// Timeout while a client reads nothing of a response. Also applies to either side of a proxied
    /// connection that reads nothing of the data that the other side sent before it aborted.
    pub send_timeout: Duration,
    /// Timeout for a request body that is discarded, from the response to the end of the body. Also
    /// the timeout while a client sends nothing of a body that is forwarded.
    pub body_timeout: Duration,
    /// Minimum rate at which a client must read a response: bytes per second, averaged over
    /// `send_timeout`. 0: no minimum.
    pub send_rate_min: u64,
    /// Minimum rate at which a client must send a body that is forwarded: bytes per second,
    /// averaged over `body_timeout`. 0: no minimum.
    pub upload_rate_min: u64,
    /// Maximum number of bytes of a request body that are read and discarded to keep the connection
    /// open. Beyond it the connection is closed.
    pub discard_bytes_max: u64,
    /// Maximum number of requests per connection. 0: no limit.
    pub requests_max: u32,
    /// Maximum number of interim responses (1xx) from an upstream to one request.
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

/// Limits and timeouts of one worker and of each of its connections. A time of [`Duration::ZERO`]
/// means no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of concurrent connections per worker. At the limit, accepting pauses.
    pub connections_max: usize,
    /// Number of connections a worker serves in total. The worker ends with the last of them. 0: no
    /// limit.
    pub connections_total: u64,
    /// Number of bytes buffered per direction of a connection before reading from its source is
    /// paused. Bytes already in flight when it is paused are added to that.
    pub pipe_bytes_max: usize,
    /// Longest line that `reverse` reverses as a whole, in bytes.
    pub line_bytes_max: usize,
    /// Length of the kernel's accept queue per listener (`backlog` of `listen(2)`).
    pub backlog: i32,
    /// A connection without any traffic for this long is closed.
    pub idle_timeout: Duration,
    /// Timeout for connecting to one address of an upstream.
    pub connect_timeout: Duration,
    /// How long connections may continue after a graceful stop is requested.
    pub drain_timeout: Duration,
    /// How long a replacement process may take until it serves. After that it is killed.
    pub replace_timeout: Duration,
    /// Receive buffers of one worker.
    pub pool: PoolConfig,
    /// Limits of HTTP connections.
    pub http: HttpLimits,
    /// Limits of the file cache of one worker.
    pub store: StoreLimits,
    /// Limits of the threads for name look-ups, disk and computation, shared by all workers.
    pub offload: OffloadLimits,
}

impl Limits {
    /// How many more connections a worker may accept after `accepted` connections. `None`: no
    /// limit.
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
