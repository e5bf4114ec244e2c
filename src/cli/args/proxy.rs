//! Options of `xps proxy`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::log::LogOptions;
use super::server::{ConnectTimeout, H2cOption, HttpOptions, PipeOptions, ServerOptions, SocketOptions, UploadOptions};
use super::tls::TlsOptions;
use crate::config::file::AccessTarget;
use crate::config::units::Period;
use crate::config::{ListenAddress, UpstreamAddress};
use crate::telemetry::access_log::AccessFormat;
use crate::upstream::group::{HashSource, Policy};

#[derive(Args, Debug)]
pub struct ProxyOptions {
    /// Address to listen on; may be repeated. PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
    pub listen: Vec<ListenAddress>,
    /// Upstream: a host name or IP address with a port, the same over TLS, or a unix socket; may be repeated
    #[arg(
        long,
        value_name = "HOST:PORT|https://HOST[:PORT]|unix:/PATH",
        env = "XPS_UPSTREAM",
        value_delimiter = ',',
        required = true
    )]
    pub upstream: Vec<UpstreamAddress>,
    /// With https:// upstreams: PEM file with the authorities to trust, instead of those of the system
    #[arg(long, value_name = "FILE", env = "XPS_UPSTREAM_CA")]
    pub upstream_ca: Option<PathBuf>,
    /// With https:// upstreams: accept any certificate
    #[arg(long, env = "XPS_UPSTREAM_INSECURE", value_parser = BoolishValueParser::new(), conflicts_with = "upstream_ca")]
    pub upstream_insecure: bool,
    /// Load-balancing policy
    #[arg(long, value_name = "POLICY", env = "XPS_BALANCE", default_value = "round-robin")]
    pub balance: Balance,
    /// Forward HTTP requests separately instead of relaying whole connections
    #[arg(long, env = "XPS_HTTP", value_parser = BoolishValueParser::new())]
    pub http: bool,
    /// With --http: access log: `-` for standard output, a file (reopened on SIGUSR1), syslog:unix:/PATH or syslog:udp:HOST:PORT, or `off`
    #[arg(long, value_name = "-|FILE|syslog:…|off", env = "XPS_ACCESS_LOG", default_value = "-")]
    pub access_log: AccessTarget,
    /// With --http: format of the access log
    #[arg(long, value_name = "FORMAT", env = "XPS_ACCESS_FORMAT", default_value = "combined")]
    pub access_format: AccessFormat,
    /// With --http: give up on an upstream that makes no progress, or begins no response, for this long; 0: never
    #[arg(long, value_name = "TIME", env = "XPS_RESPONSE_TIMEOUT", default_value = "60s")]
    pub response_timeout: Period,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub tls: TlsOptions,

    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub connect: ConnectTimeout,
    #[command(flatten)]
    pub h2c: H2cOption,
    #[command(flatten)]
    pub http_limits: HttpOptions,
    #[command(flatten)]
    pub upload: UploadOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// The options that require `--http`.
pub const PROXY_HTTP: [&str; 13] = [
    "access_log",
    "access_format",
    "response_timeout",
    "h2c",
    "when_full",
    "head_size",
    "head_timeout",
    "keep_alive_timeout",
    "drain_idle_timeout",
    "body_timeout",
    "send_rate",
    "max_requests",
    "upload_rate",
];

/// Load-balancing policies, by their names on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Balance {
    /// Each upstream in turn
    RoundRobin,
    /// Upstream with the fewest requests in flight
    LeastConn,
    /// Less loaded of two upstreams chosen at random
    RandomTwo,
    /// By client address: same upstream while it is healthy
    IpHash,
}

impl From<Balance> for Policy {
    fn from(balance: Balance) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin,
            Balance::LeastConn => Self::LeastConnections,
            Balance::RandomTwo => Self::RandomOfTwo,
            Balance::IpHash => Self::Hash(HashSource::Client),
        }
    }
}
