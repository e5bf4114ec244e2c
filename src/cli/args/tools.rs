//! Options of the commands that serve nothing: `xps connect`, `xps probe` and `xps top`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LevelOptions;
use super::server::{BackendOptions, ConnectTimeout, PipeOptions, UringOptions};
use crate::config::UpstreamAddress;
use crate::config::units::{Period, UnitError};
use crate::upstream::InvalidUpstreamAddress;

#[derive(Args, Debug)]
pub struct ConnectOptions {
    /// Server to connect to; tls://HOST:PORT over TLS
    #[arg(value_name = "HOST:PORT|tls://HOST:PORT|unix:/PATH")]
    pub upstream: UpstreamAddress,
    #[command(flatten)]
    pub tls: ConnectTls,
    #[command(flatten)]
    pub backend: BackendOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub timeout: ConnectTimeout,
    #[command(flatten)]
    pub log: LevelOptions,
}

/// Options of a connection over TLS.
#[derive(Args, Debug)]
pub struct ConnectTls {
    /// With tls://: PEM file with the authorities to trust, instead of those of the system
    #[arg(long, value_name = "FILE", env = "XPS_CA")]
    pub ca: Option<PathBuf>,
    /// With tls://: accept any certificate
    #[arg(long, env = "XPS_INSECURE", value_parser = BoolishValueParser::new(), conflicts_with = "ca")]
    pub insecure: bool,
    /// With tls://: the name to ask for, which the certificate must have [default: HOST]
    #[arg(long, value_name = "NAME", env = "XPS_SNI")]
    pub sni: Option<String>,
    /// With tls://: application protocols to offer, the preferred one first
    #[arg(long, value_name = "PROTOCOL", env = "XPS_ALPN", value_delimiter = ',')]
    pub alpn: Vec<String>,
}

#[derive(Args, Debug)]
pub struct ProbeOptions {
    /// Print JSON
    #[arg(long, env = "XPS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Number of worker threads, each with its own ring [default: the processors this process may use]
    #[arg(long, env = "XPS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    #[command(flatten)]
    pub uring: UringOptions,
}

#[derive(Args, Debug)]
pub struct TopOptions {
    /// Metrics listener or admin socket of the server
    #[arg(value_name = "HOST:PORT|unix:/PATH", default_value = "127.0.0.1:8004", value_parser = source)]
    pub server: UpstreamAddress,
    /// Time between two readings
    #[arg(long, value_name = "TIME", env = "XPS_INTERVAL", default_value = "1s", value_parser = interval)]
    pub interval: Period,
    /// Write this number of lines, one for each reading, also on a terminal
    #[arg(long, value_name = "N", env = "XPS_COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// An address; a path is that of a unix socket.
fn source(text: &str) -> Result<UpstreamAddress, InvalidUpstreamAddress> {
    if text.starts_with('/') { format!("unix:{text}").parse() } else { text.parse() }
}

/// A time of at least 100 ms: a reading costs the server some of its own time.
fn interval(text: &str) -> Result<Period, String> {
    const SHORTEST: Period = Period(Duration::from_millis(100));
    let period: Period = text.parse().map_err(|error: UnitError| error.to_string())?;
    if period < SHORTEST { Err("too short: write at least 100ms".to_owned()) } else { Ok(period) }
}
