//! Options of the commands that serve nothing: `xps connect` and `xps probe`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LevelOptions;
use super::server::{BackendOptions, ConnectTimeout, PipeOptions, UringOptions};
use crate::config::UpstreamAddress;

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
