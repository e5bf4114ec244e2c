//! Options of `xps ctl`.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand};

#[derive(Args, Debug)]
pub struct CtlOptions {
    /// Admin socket of the server [default: that of --config, or /run/xps/admin.sock]
    #[arg(long, value_name = "PATH", env = "XPS_SOCKET", global = true)]
    pub socket: Option<PathBuf>,
    /// Configuration file of the server, which names the socket (`admin.unix`)
    #[arg(long, value_name = "FILE", env = "XPS_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "XPS_JSON", value_parser = BoolishValueParser::new(), global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: CtlCommand,
}

/// What to ask or tell the server.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CtlCommand {
    /// Show what runs, since when, how it is, and the last reload
    Status,
    /// Have the configuration file read again, and show what changes, or why it is refused
    Reload,
    /// Show the limits in force
    Limits,
    /// Show the level of the log, or set it until the server ends
    LogLevel {
        /// A level (off, error, warn, info, debug, trace), or levels of targets: xps::tcp=trace,info
        filter: Option<String>,
    },
    /// Have the files of logs reopened, as SIGUSR1 does
    RotateLogs,
    /// List the endpoints of upstream groups: their health, what is set for them, requests in flight
    Endpoints,
    /// Let an endpoint take no further requests; those in progress go on
    Drain {
        /// GROUP/ADDRESS as `xps ctl endpoints` shows it, or ADDRESS alone for all groups that have it
        #[arg(value_name = "GROUP/ADDRESS")]
        endpoint: String,
    },
    /// Let an endpoint take requests, whatever health checks and failed requests say
    Up {
        /// GROUP/ADDRESS as `xps ctl endpoints` shows it, or ADDRESS alone for all groups that have it
        #[arg(value_name = "GROUP/ADDRESS")]
        endpoint: String,
    },
    /// Let an endpoint take no requests, as if its health checks failed
    Down {
        /// GROUP/ADDRESS as `xps ctl endpoints` shows it, or ADDRESS alone for all groups that have it
        #[arg(value_name = "GROUP/ADDRESS")]
        endpoint: String,
    },
    /// Take back what was set for an endpoint: its health and its weight in the file decide again
    Auto {
        /// GROUP/ADDRESS as `xps ctl endpoints` shows it, or ADDRESS alone for all groups that have it
        #[arg(value_name = "GROUP/ADDRESS")]
        endpoint: String,
    },
    /// Set the weight of an endpoint; 0: it takes only requests whose cookie names it
    Weight {
        /// GROUP/ADDRESS as `xps ctl endpoints` shows it, or ADDRESS alone for all groups that have it
        #[arg(value_name = "GROUP/ADDRESS")]
        endpoint: String,
        /// The weight
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(0..=65_535))]
        weight: u32,
    },
}
