//! The commands that serve nothing.

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LevelOptions;
use super::server::{BackendOptions, ConnectTimeout, PipeOptions, UringOptions};
use crate::config::UpstreamAddress;

/// Where to connect to, and how.
#[derive(Args, Debug)]
pub struct ConnectOptions {
    /// Where to connect to
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

/// What to find out, and how to say it.
#[derive(Args, Debug)]
pub struct ProbeOptions {
    /// As JSON, for programs
    #[arg(long, env = "XPS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Worker threads that are to have a ring each [default: one for each processor this process may use]
    #[arg(long, env = "XPS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    #[command(flatten)]
    pub uring: UringOptions,
}
