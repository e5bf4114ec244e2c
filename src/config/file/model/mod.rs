//! The document, as Rust types. Its comments are the configuration reference, its defaults those of the server.
//!
//! A document that [`parse`](super::parse) gave is consistent: what the checks promise, users of these types may rely
//! upon. Paths are as they were written; relative ones begin at the file's folder, which this module does not know.

mod files;
mod limits;
mod listener;
mod proxy;
mod route;
pub(super) mod text;
mod upstream;

use std::path::PathBuf;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::files::{FieldRules, FieldValues, FileOptions, ListingStyle, Symlinks, Unlisted};
pub use self::limits::{HttpLimits, Limits, OffloadLimits, PoolLimits, StoreLimits};
pub use self::listener::{ListenTarget, Listener, ListenerForm};
pub use self::proxy::{Forwarded, Keepalive, ProxyOptions, ProxyProtocol, UnderscoreFields};
pub use self::route::{Route, RouteKind};
pub use self::text::{
    AccessTarget, Charset, ErrorStatus, FileMode, HostRule, Hostname, ListenHost, MediaType, Network, Origin,
    PathBeneath, PathPrefix, RedirectUrl, RequestTarget, ServerName, TextError, Token, UpstreamAddressText,
    UringFeature, Via,
};
pub use self::upstream::{
    ActiveCheck, CheckKind, GroupOptions, HealthCheck, LoadBalancing, PassiveCheck, Queue, Upstream, UpstreamForm,
};
use crate::config::ResponseConfig;
use crate::driver::probe::BackendChoice;

/// What xps does with each of its ports: servers, their listeners, and what is behind them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "xps configuration", extend("required" = ["servers"]))]
pub struct File {
    /// Where the JSON Schema of this file is, for editors. It is not read.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// Which server's behaviour the defaults follow.
    pub profile: Profile,
    /// The `Server` field of answers; empty: none.
    pub server_name: ServerName,
    /// Worker threads. Without it: as many as the process may use processors.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u16>,
    /// Ties each worker to a processor.
    pub pin_workers: bool,
    /// How the kernel is talked to.
    pub backend: Backend,
    /// Optional io_uring features to do without; `xps probe` lists them.
    pub uring_off: Vec<UringFeature>,
    /// Connections at a time, of all workers together, and a few that come in at the very moment when the last place is
    /// taken. 0: only `limits.connections_max` holds.
    pub max_connections: u32,
    /// What becomes of those who come when `max_connections` or `limits.connections_max` are there.
    pub when_full: WhenFull,
    /// Connections at a time from one address, or from one /64 network of IPv6; more are closed. Proxies that are trusted
    /// may have any number. 0: no limit.
    pub connections_per_address: u32,
    /// HTTP requests a second from one address, or from one /64 network of IPv6; more are answered with 429. 0: no limit.
    pub requests_per_second: u32,
    /// Requests that an address may make at once before `requests_per_second` holds. 0: as many as that.
    pub burst: u32,
    /// The origin whose scripts may read answers, all of them: `*`, one like `https://example.org`, or `off`. Of an
    /// upstream's answer its own word holds. A route may have a `cors` of its own.
    pub cors: Option<Origin>,
    /// Networks of proxies whose word on the client's address is taken: by the PROXY protocol or `X-Forwarded-For`.
    pub trusted_proxies: Vec<Network>,
    /// Where requests are recorded: `off`, `-` for standard output, or a file.
    pub access_log: AccessTarget,
    /// How they are recorded.
    pub access_format: AccessFormat,
    /// The bounds of everything. A time of 0 means: no limit.
    pub limits: Limits,
    /// The servers. Several may share a listener; then `hostnames` tell them apart.
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
            access_log: AccessTarget::Stdout,
            access_format: AccessFormat::Combined,
            limits: Limits::default(),
            servers: Vec::new(),
        }
    }
}

/// Listeners, and what connections to them are for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false, "required" = ["listeners"]))]
pub struct Server {
    /// Where it listens.
    #[schemars(length(min = 1))]
    pub listeners: Vec<Listener>,
    /// What its connections speak.
    pub protocol: Protocol,
    /// The hosts that it answers for, `*.example.org` for all beneath one; with a port, as in `example.org:81`, only if the
    /// request names that port, too. None: every host that no other server on the same listener names.
    pub hostnames: Vec<Hostname>,
    /// What is behind which path. The longest `req_path` that fits decides; what fits none is answered with 404.
    pub routes: Vec<Route>,
    /// Only these networks are let in, without those of `ip_blacklist`. None: all.
    pub ip_whitelist: Vec<Network>,
    /// These networks are not let in.
    pub ip_blacklist: Vec<Network>,
    /// Where this server's requests are recorded. Without it: as the file's `access_log` says.
    pub access_log: Option<AccessTarget>,
    /// How they are recorded. Without it: as the file's `access_format` says.
    pub access_format: Option<AccessFormat>,
    /// Options for `"protocol": "tcp"`.
    #[serde(flatten)]
    pub tcp: TcpOptions,
}

/// What a server with `"protocol": "tcp"` does.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TcpOptions {
    /// What its connections are for. Demanded with, and only with, `"protocol": "tcp"`.
    pub handler: Option<Handler>,
    /// For `send_file`: the folder that the file may not leave, not even by a link. Without it: the one the file is in.
    pub root: Option<PathBuf>,
    /// For `send_file`: the file.
    pub file: Option<PathBuf>,
    /// For `send_file`: what becomes of a file that is missing, or leads out of `root`.
    pub on_missing: OnMissing,
    /// For `tcp_proxy`: where connections are relayed to.
    #[serde(flatten)]
    pub group: GroupOptions,
}

/// Which server's behaviour the defaults follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Its own.
    #[default]
    #[value(help = "xps's own")]
    Xps,
    /// eXpServer's, see [the profile `expserver`](#the-profile-expserver).
    #[value(help = "eXpServer's, see docs/configuration.md")]
    Expserver,
}

/// What becomes of a file that cannot be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// The server does not start.
    #[default]
    Refuse,
    /// The server listens, and closes each connection without a byte.
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

/// What is spoken on a server's connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP; `routes` say what is behind which path.
    #[default]
    Http,
    /// Bytes; `handler` says what becomes of them.
    Tcp,
}

/// What a TCP connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    /// Sends back what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Relays to one of `upstreams`.
    TcpProxy,
    /// Sends `file`, then closes.
    SendFile,
}

/// How the kernel is talked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// io_uring where it is available, else epoll.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
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

/// What becomes of those who come when there are as many connections as there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// They wait in the kernel until there is room.
    #[default]
    Wait,
    /// Over HTTP they are answered with 503, and the connection is closed; others wait.
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

/// How requests are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// The combined format of other servers, and the milliseconds at the end.
    #[default]
    Combined,
    /// One JSON object a line.
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
