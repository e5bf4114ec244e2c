//! Configuration of a server.
//!
//! It has two shapes: the document as it was written ([`file`](mod@file)), and [`ServerConfig`], plain data in
//! which paths are absolute and texts are parsed. The command line makes a [`ServerConfig`], too.
//! Nothing here opens a file: that is the server's part.

pub mod file;
mod listen_address;
pub mod resolve;
pub mod start;
pub mod units;

use std::path::PathBuf;
use std::time::Duration;

pub use self::listen_address::{ListenAddress, overlap};
use crate::driver::FeatureSet;
pub use crate::driver::probe::BackendChoice;
use crate::http::forward::{Pseudonym, RequestRules, ResponseRules};
use crate::http::redirect::RedirectTemplate;
use crate::http::{Scheme, Status};
use crate::limit::{Access, AdmissionConfig};
use crate::session::Naming;
pub use crate::session::http::{FileRouteConfig, ResponseConfig};
pub use crate::session::{Http2Limits, HttpLimits, Limits};
use crate::telemetry::access_log::AccessLogConfig;
use crate::tls::ServerSettings;
use crate::upstream::{ConnectPolicy, GroupConfig, KeepAlive};
pub use crate::upstream::{InvalidUpstreamAddress, UpstreamAddress};

/// The application protocols (ALPN) that HTTP servers speak, the preferred one first: those that a listener
/// offers if its configuration names none. `http/1.0` is the name of RFC 1945 in the registry of these
/// protocols, and some clients offer nothing else.
pub const HTTP_PROTOCOLS: [&str; 3] = ["h2", "http/1.1", "http/1.0"];

/// The application protocols that forwarded requests are sent with.
pub const UPSTREAM_HTTP_PROTOCOLS: [&str; 1] = ["http/1.1"];

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
    /// What those who operate the server use.
    pub operator: OperatorConfig,
}

impl ServerConfig {
    /// The groups of upstreams, in the order of the configuration.
    pub fn groups(&self) -> impl Iterator<Item = &GroupConfig> {
        self.listeners.iter().flat_map(|listener| {
            let groups: Vec<&GroupConfig> = match &listener.service {
                ServiceConfig::TcpProxy(group, _) => vec![group],
                ServiceConfig::TcpProxyByName(routes) => routes.iter().map(|route| &route.group).collect(),
                ServiceConfig::Http(router) => {
                    let routes = router.hosts.iter().flat_map(|host| &host.routes);
                    let forwards = routes.filter_map(|route| match &route.handler {
                        HandlerConfig::Forward(forward) => Some(&forward.group),
                        HandlerConfig::Files(_)
                        | HandlerConfig::Redirect { .. }
                        | HandlerConfig::Metrics
                        | HandlerConfig::Api
                        | HandlerConfig::Operator { .. } => None,
                    });
                    forwards.collect()
                }
                ServiceConfig::Echo
                | ServiceConfig::Reverse
                | ServiceConfig::SendText(_)
                | ServiceConfig::SendFile { .. }
                | ServiceConfig::Receive { .. } => Vec::new(),
            };
            groups
        })
    }
}

/// The listeners for those who operate the server. They have a worker of their own, which outlives the
/// drain, and no connection limit of the server applies to them.
#[derive(Clone, Debug, Default)]
pub struct OperatorConfig {
    /// Metrics, and whether the server lives and is ready: see [`ListenerConfig::metrics`].
    pub metrics: Option<ListenerConfig>,
    /// The same, and commands: see [`ListenerConfig::admin`].
    pub admin: Option<ListenerConfig>,
    /// The file with the process ID: written once the server serves, and removed at the end.
    pub pid_file: Option<PathBuf>,
    /// The file that the configuration was read from, for operators who ask.
    pub file: Option<PathBuf>,
}

impl OperatorConfig {
    /// The listeners, each with its name for logs.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, &ListenerConfig)> + Clone {
        let metrics = self.metrics.iter().map(|listener| ("metrics", listener));
        metrics.chain(self.admin.iter().map(|listener| ("admin", listener)))
    }
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
    /// The TLS settings. `None`: plain text. With settings, the scheme of an HTTP service is `https`.
    pub tls: Option<ServerSettings>,
    /// Whether an HTTP service without TLS also speaks HTTP/2, to clients that begin with its preface.
    pub h2c: bool,
    /// The service for its connections.
    pub service: ServiceConfig,
}

impl ListenerConfig {
    /// A listener without access restrictions, PROXY protocol, TLS and HTTP/2.
    pub fn new(address: ListenAddress, service: ServiceConfig) -> Self {
        Self { address, access: Access::default(), expects_proxy_header: false, tls: None, h2c: false, service }
    }

    /// A listener for metrics: `/metrics`, `/livez`, `/readyz`, and a page at `/`.
    pub fn metrics(address: ListenAddress, access: Access, responses: ResponseConfig) -> Self {
        Self { access, ..Self::operator(address, false, responses) }
    }

    /// A listener for commands, with what one for metrics has. Clients that reach it may do all that the
    /// commands can, so it belongs on a unix socket.
    pub fn admin(address: ListenAddress, responses: ResponseConfig) -> Self {
        Self::operator(address, true, responses)
    }

    fn operator(address: ListenAddress, commands: bool, responses: ResponseConfig) -> Self {
        let route = |prefix: &str, handler| RouteConfig {
            prefix: prefix.as_bytes().to_vec(),
            access: Access::default(),
            keep_alive: true,
            handler,
            responses: responses.clone(),
            name: None,
        };
        let routes = vec![
            route("metrics", HandlerConfig::Metrics),
            route("api", HandlerConfig::Api),
            route("", HandlerConfig::Operator { commands }),
        ];
        let host = VirtualHostConfig { names: Vec::new(), access: Access::default(), access_log: None, routes };
        let router = RouterConfig { scheme: Scheme::Http, responses, hosts: vec![host] };
        Self::new(address, ServiceConfig::Http(router))
    }

    /// The same listener over TLS.
    #[must_use]
    pub fn over_tls(mut self, settings: ServerSettings) -> Self {
        if let ServiceConfig::Http(router) = &mut self.service {
            router.scheme = Scheme::Https;
        }
        Self { tls: Some(settings), ..self }
    }

    /// The name of the service, as a URL names it or with its transport, for banners and logs.
    pub const fn service_name(&self) -> &'static str {
        match (&self.service, &self.tls) {
            (service, None) => service.name(),
            (ServiceConfig::Echo, Some(_)) => "echo over TLS",
            (ServiceConfig::Reverse, Some(_)) => "reverse over TLS",
            (ServiceConfig::TcpProxy(..) | ServiceConfig::TcpProxyByName(_), Some(_)) => "tcp_proxy over TLS",
            (ServiceConfig::Http(_), Some(_)) => "https",
            (ServiceConfig::SendText(_), Some(_)) => "send_text over TLS",
            (ServiceConfig::SendFile { .. }, Some(_)) => "send_file over TLS",
            (ServiceConfig::Receive { .. }, Some(_)) => "receive over TLS",
        }
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
    /// Relays TLS connections, as they are, to the upstream of the name that the client asks for (SNI).
    /// Not with TLS settings of the listener.
    TcpProxyByName(Vec<NameRouteConfig>),
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
            Self::TcpProxyByName(_) => "tcp_proxy by server name",
            Self::Http(_) => "http",
            Self::SendText(_) => "send_text",
            Self::SendFile { .. } => "send_file",
            Self::Receive { .. } => "receive",
        }
    }
}

/// Where TLS connections to some names are relayed to.
#[derive(Clone, Debug)]
pub struct NameRouteConfig {
    /// Names in lower case. `*.example.org` matches any name beneath `example.org`. Empty: all names that
    /// no other route has, and clients that ask for none. If there is no such route, they get the alert
    /// `unrecognized_name`.
    pub names: Vec<String>,
    /// Networks that may use this route.
    pub access: Access,
    /// The upstreams.
    pub group: GroupConfig,
    /// How an upstream is connected to.
    pub connect_policy: ConnectPolicy,
}

/// Configuration of an HTTP listener.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// The scheme by which clients reach the listener.
    pub scheme: Scheme,
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
    pub access_log: Option<AccessLogConfig>,
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
    /// Its name in the metrics; `None`: its prefix.
    pub name: Option<String>,
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
    /// Serves the metrics of the server as eXpServer's JSON object.
    Api,
    /// Answers those who operate the server: whether it lives, and whether it is ready for connections.
    Operator {
        /// Whether it also executes commands.
        commands: bool,
    },
}

impl RouterConfig {
    /// A single handler for all requests.
    pub fn of(handler: HandlerConfig, responses: ResponseConfig, access_log: Option<AccessLogConfig>) -> Self {
        let (prefix, access) = (Vec::new(), Access::default());
        let responses_of_route = responses.clone();
        let route =
            RouteConfig { prefix, access, keep_alive: true, handler, responses: responses_of_route, name: None };
        let host = VirtualHostConfig { names: Vec::new(), access: Access::default(), access_log, routes: vec![route] };
        Self { scheme: Scheme::Http, responses, hosts: vec![host] }
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
