//! Options of the commands that serve nothing: `xps connect` and `xps probe`.

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LevelOptions;
use super::server::{BackendOptions, ConnectTimeout, PipeOptions, UringOptions};
use crate::config::UpstreamAddress;

#[derive(Args, Debug)]
pub struct ConnectOptions {
    /// Server to connect to
    #[arg(value_name = "HOST:PORT|unix:/PATH")]
    pub upstream: UpstreamAddress,
    #[command(flatten)]
    pub backend: BackendOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub timeout: ConnectTimeout,
    #[command(flatten)]
    pub log: LevelOptions,
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
