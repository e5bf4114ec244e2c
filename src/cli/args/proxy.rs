//! `xps proxy`.

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::log::LogOptions;
use super::server::{ConnectTimeout, HttpOptions, PipeOptions, ServerOptions, SocketOptions, UploadOptions};
use crate::config::units::Period;
use crate::config::{ListenAddress, UpstreamAddress};
use crate::telemetry::access_log::AccessFormat;
use crate::upstream::group::{HashSource, Policy};

/// Where connections or requests are passed on to, and how.
#[derive(Args, Debug)]
pub struct ProxyOptions {
    /// Where to listen; may be repeated. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
    pub listen: Vec<ListenAddress>,
    /// Where to connect to: a name or an address, and a port; or a unix socket; may be repeated
    #[arg(long, value_name = "HOST:PORT|unix:/PATH", env = "XPS_UPSTREAM", value_delimiter = ',', required = true)]
    pub upstream: Vec<UpstreamAddress>,
    /// How an upstream is chosen
    #[arg(long, value_name = "POLICY", env = "XPS_BALANCE", default_value = "round-robin")]
    pub balance: Balance,
    /// Pass on HTTP requests, each by itself
    #[arg(long, env = "XPS_HTTP", value_parser = BoolishValueParser::new())]
    pub http: bool,
    /// With --http: where requests are recorded: `-` for standard output, a file (opened anew on SIGUSR1), or `off`
    #[arg(long, value_name = "-|FILE|off", env = "XPS_ACCESS_LOG", default_value = "-")]
    pub access_log: String,
    /// With --http: how they are recorded
    #[arg(long, value_name = "FORMAT", env = "XPS_ACCESS_FORMAT", default_value = "combined")]
    pub access_format: AccessFormat,
    /// With --http: how long an upstream may be silent while it is waited for, or not begin its answer; 0: no limit
    #[arg(long, value_name = "TIME", env = "XPS_RESPONSE_TIMEOUT", default_value = "60s")]
    pub response_timeout: Period,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub connect: ConnectTimeout,
    #[command(flatten)]
    pub http_limits: HttpOptions,
    #[command(flatten)]
    pub upload: UploadOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// Of these options, those that mean something only with `--http`.
pub const PROXY_HTTP: [&str; 12] = [
    "access_log",
    "access_format",
    "response_timeout",
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

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Balance {
    /// In turn
    RoundRobin,
    /// The one with the fewest requests under way
    LeastConn,
    /// The less loaded of two that are drawn
    RandomTwo,
    /// By the client's address: always the same one, as long as it is well
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
