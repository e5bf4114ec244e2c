//! `xps echo`, `xps reverse`, `xps send` and `xps receive`: one service over TCP each.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LogOptions;
use super::server::{LineOptions, PipeOptions, ServerOptions, SocketOptions};
use crate::config::ListenAddress;

/// Where to echo, and how.
#[derive(Args, Debug)]
pub struct EchoOptions {
    /// Where to listen. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8004")]
    pub listen: Vec<ListenAddress>,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// Where to reverse lines, and how.
#[derive(Args, Debug)]
pub struct ReverseOptions {
    /// Where to listen. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8003")]
    pub listen: Vec<ListenAddress>,
    /// Serve one client, and exit with code 1 when it leaves, as the first stage of eXpServer does
    #[arg(long, env = "XPS_ONCE", value_parser = BoolishValueParser::new())]
    pub once: bool,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub line: LineOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// What to send, and where.
#[derive(Args, Debug)]
pub struct SendOptions {
    /// The file
    pub file: PathBuf,
    /// Where to listen; may be repeated. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8005")]
    pub listen: Vec<ListenAddress>,
    /// The folder that FILE may not leave, not even by a link [default: the folder it is in]
    #[arg(long, value_name = "DIR", env = "XPS_ROOT")]
    pub root: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

/// Where to write what comes, and from where.
#[derive(Args, Debug)]
pub struct ReceiveOptions {
    /// The file
    pub file: PathBuf,
    /// Where to listen. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8006")]
    pub listen: Vec<ListenAddress>,
    /// Go on after the first connection: FILE, then FILE.1, FILE.2 and so on, in the order in which they are complete
    #[arg(long, env = "XPS_KEEP", value_parser = BoolishValueParser::new())]
    pub keep: bool,
    /// Replace what is there; without this, FILE may not be there, and with --keep names that are taken are passed over
    #[arg(long, env = "XPS_FORCE", value_parser = BoolishValueParser::new())]
    pub force: bool,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub log: LogOptions,
}
