//! The configuration file as Rust types. The comments are the configuration reference; the defaults
//! are the server's.
//!
//! A value returned by [`parse`](super::parse) has passed all checks, and users of these types may
//! rely on what the checks guarantee. Paths are kept as written. Relative paths start at the
//! configuration file's folder, which this module does not know.

mod access_log;
mod files;
mod limits;
mod listener;
mod operator;
mod proxy;
mod route;
pub(super) mod text;
mod tls;
mod upstream;

use std::path::PathBuf;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::access_log::{AccessLog, AccessLogForm};
pub use self::files::{FieldRules, FieldValues, FileOptions, ListingStyle, Symlinks, Unlisted};
pub use self::limits::{Http2Limits, HttpLimits, Limits, OffloadLimits, PoolLimits, StoreLimits};
pub use self::listener::{ListenTarget, Listener, ListenerForm};
pub use self::operator::{Admin, METRICS_PORT, Metrics, MetricsListener};
pub use self::proxy::{Forwarded, Keepalive, ProxyOptions, ProxyProtocol, RequestId, UnderscoreFields};
pub use self::route::{Route, RouteKind};
pub use self::text::{
    AccessTarget, AcmeDomain, AlpnProtocol, Charset, DirectoryUrl, Email, ErrorStatus, FileMode, HostField, HostRule,
    Hostname, ListenHost, LogFormat, MediaType, Network, Origin, PathBeneath, PathPrefix, RedirectUrl, RequestTarget,
    ServerName, TextError, Token, UpstreamAddressText, UringFeature, Via,
};
pub use self::tls::{
    Acme, AcmeChallenge, CertificateFiles, ClientAuth, ClientAuthKind, Hsts, HttpsRedirect, Misdirected, Tls,
    TlsVersion, UnknownName, UpstreamTls,
};
pub use self::upstream::{
    ActiveCheck, CheckKind, CheckMethod, ExpectedStatus, GroupOptions, HealthCheck, LoadBalancing, PassiveCheck, Queue,
    Upstream, UpstreamForm,
};
use crate::config::ResponseConfig;
use crate::driver::probe::BackendChoice;

/// The configuration of xps: servers, their listeners, and what they serve.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "xps configuration", extend("required" = ["servers"]))]
pub struct File {
    /// The JSON Schema of this file, for editors. xps does not read it.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The set of defaults.
    pub profile: Profile,
    /// The `Server` field of responses. Empty: no such field.
    pub server_name: ServerName,
    /// Number of worker threads. Default: the number of processors available to the process.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u16>,
    /// Pin each worker to one processor.
    pub pin_workers: bool,
    /// I/O back-end.
    pub backend: Backend,
    /// Optional io_uring features to disable. `xps probe` lists them.
    pub uring_off: Vec<UringFeature>,
    /// Maximum number of concurrent connections, of all workers together. Workers that accept at
    /// the same moment can exceed it by a few. 0: only `limits.connections_max` applies.
    pub max_connections: u32,
    /// What to do with new connections once `max_connections` or `limits.connections_max` is
    /// reached.
    pub when_full: WhenFull,
    /// Maximum number of concurrent connections from one IPv4 address or one IPv6 /64 network.
    /// Further connections are closed. Trusted proxies are exempt. 0: no limit.
    pub connections_per_address: u32,
    /// Maximum rate of HTTP requests per second from one IPv4 address or one IPv6 /64 network.
    /// Further requests get 429. 0: no limit.
    pub requests_per_second: u32,
    /// Number of requests an address may send at once before `requests_per_second` applies. 0: the
    /// same number as `requests_per_second`.
    pub burst: u32,
    /// The value of `Access-Control-Allow-Origin` in all responses: `*`, an origin such as
    /// `https://example.org`, or `off`. Scripts of that origin may read the responses. If an
    /// upstream's response has the field, it is kept. A route can override this with its own
    /// `cors`.
    pub cors: Option<Origin>,
    /// Networks of proxies that are trusted to report the client's address, by the PROXY protocol
    /// or `X-Forwarded-For`.
    pub trusted_proxies: Vec<Network>,
    /// The access log: `off`, `-` for standard output, a file, a syslog daemon, or an object with options.
    pub access_log: AccessLog,
    /// Format of access logs that name none.
    pub access_format: AccessFormat,
    /// The listener for metrics, for those who operate the server. `true`: one with the defaults.
    pub metrics: Metrics,
    /// The socket for commands, for those who operate the server: `xps ctl`. Default: none.
    pub admin: Option<Admin>,
    /// File to which the process ID is written once the server serves. It is removed at the end, unless the
    /// process that has replaced this one has written it. A reload cannot change it. Default: none.
    pub pid_file: Option<PathBuf>,
    /// Limits and timeouts. A time of 0 means no limit.
    pub limits: Limits,
    /// The servers. Several HTTP servers can share a listener, and so can several TCP proxies;
    /// `hostnames` then selects one of them.
    #[schemars(length(min = 1))]
    pub servers: Vec<Server>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            schema: None,
            profile: Profile::Xps,
            server_name: ServerName(ResponseConfig::default().server_name.unwrap_or_default()),
            workers: None,
            pin_workers: false,
            backend: Backend::Auto,
            uring_off: Vec::new(),
            max_connections: 0,
            when_full: WhenFull::Wait,
            connections_per_address: 0,
            requests_per_second: 0,
            burst: 0,
            cors: None,
            trusted_proxies: Vec::new(),
            access_log: AccessLog::default(),
            access_format: AccessFormat::Combined,
            metrics: Metrics::default(),
            admin: None,
            pid_file: None,
            limits: Limits::default(),
            servers: Vec::new(),
        }
    }
}

/// A server: its listeners, and what it does with their connections.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false, "required" = ["listeners"]))]
pub struct Server {
    /// Addresses to listen on.
    #[schemars(length(min = 1))]
    pub listeners: Vec<Listener>,
    /// Protocol of the connections.
    pub protocol: Protocol,
    /// Host names of this server (virtual host). `*.example.org` matches all names beneath
    /// `example.org`. A name with a port, such as `example.org:81`, matches only if the request
    /// names that port too. Empty: every host that no other server on the same listener names. Of TCP
    /// servers, only those with `"handler": "tcp_proxy"` can have names: TLS clients choose a server by
    /// the name that they ask for (SNI), and their bytes are relayed as they are.
    pub hostnames: Vec<Hostname>,
    /// The routes. The longest `req_path` that matches the request's path is used. If none matches,
    /// the response is 404.
    pub routes: Vec<Route>,
    /// Only clients in these networks are allowed, except those in `ip_blacklist`. Empty: all
    /// clients.
    pub ip_whitelist: Vec<Network>,
    /// Clients in these networks are denied.
    pub ip_blacklist: Vec<Network>,
    /// The access log of this server. Default: the top-level `access_log`.
    pub access_log: Option<AccessLog>,
    /// Format of this server's access log. Default: the top-level `access_format`.
    pub access_format: Option<AccessFormat>,
    /// Send `Strict-Transport-Security` in all responses over TLS, unless an upstream's response has
    /// the field. Default: it is not sent.
    pub hsts: Option<Hsts>,
    /// Options for `"protocol": "tcp"`.
    #[serde(flatten)]
    pub tcp: TcpOptions,
}

/// Options of a server with `"protocol": "tcp"`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpOptions {
    /// What the server does with its connections. Required with `"protocol": "tcp"`, and allowed
    /// only then.
    pub handler: Option<Handler>,
    /// For `send_file`: the root folder. The file must be inside it, also after symbolic links are
    /// resolved. Default: the folder of the file.
    pub root: Option<PathBuf>,
    /// For `send_file`: the file to send.
    pub file: Option<PathBuf>,
    /// For `send_file`: what to do if the file is missing or is outside `root`.
    pub on_missing: OnMissing,
    /// For `tcp_proxy`: the upstreams.
    #[serde(flatten)]
    pub group: GroupOptions,
}

/// The set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The defaults of xps.
    #[default]
    #[value(help = "xps's own")]
    Xps,
    /// The behaviour of eXpServer, see [the profile `expserver`](#the-profile-expserver).
    #[value(help = "eXpServer's, see docs/configuration.md")]
    Expserver,
}

/// What to do if the file cannot be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// The server does not start.
    #[default]
    Refuse,
    /// The server starts, and closes each connection without sending anything.
    Close,
}

impl From<OnMissing> for crate::config::OnMissing {
    fn from(on_missing: OnMissing) -> Self {
        match on_missing {
            OnMissing::Refuse => Self::Refuse,
            OnMissing::Close => Self::Close,
        }
    }
}

/// Protocol of a server's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP. `routes` decides how each request is handled.
    #[default]
    Http,
    /// Raw TCP. `handler` decides what happens with each connection.
    Tcp,
}

/// What a server does with a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// Send back the bytes received.
    Echo,
    /// Send each line back reversed.
    Reverse,
    /// Relay to one of `upstreams`.
    TcpProxy,
    /// Send `file`, then close.
    SendFile,
}

/// I/O back-end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// io_uring if it is available, otherwise epoll.
    #[default]
    Auto,
    /// io_uring only. Without it the server does not start.
    IoUring,
    /// epoll only.
    Epoll,
}

impl From<Backend> for BackendChoice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::IoUring => Self::IoUring,
            Backend::Epoll => Self::Epoll,
        }
    }
}

/// What to do with new connections once the limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// They wait in the kernel's accept queue until another connection ends.
    #[default]
    Wait,
    /// On HTTP listeners they get 503 and are closed. On other listeners they wait.
    Refuse,
}

impl From<WhenFull> for crate::limit::WhenFull {
    fn from(when_full: WhenFull) -> Self {
        match when_full {
            WhenFull::Wait => Self::Wait,
            WhenFull::Refuse => Self::Refuse,
        }
    }
}

/// Format of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// The combined log format of Apache and nginx, followed by the duration in milliseconds.
    #[default]
    Combined,
    /// One JSON object per line.
    Json,
}

impl From<AccessFormat> for crate::telemetry::access_log::AccessFormat {
    fn from(format: AccessFormat) -> Self {
        match format {
            AccessFormat::Combined => Self::Combined,
            AccessFormat::Json => Self::Json,
        }
    }
}
