//! Options of `xps echo`, `xps reverse`, `xps send` and `xps receive`: one TCP service each.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LogOptions;
use super::server::{LineOptions, PipeOptions, ServerOptions, SocketOptions};
use crate::config::ListenAddress;

#[derive(Args, Debug)]
pub struct EchoOptions {
    /// Address to listen on. PORT alone means every IPv4 address, unix:/PATH a unix socket
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

#[derive(Args, Debug)]
pub struct ReverseOptions {
    /// Address to listen on. PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8003")]
    pub listen: Vec<ListenAddress>,
    /// Serve one client, then exit with code 1 when it leaves, as the first stage of eXpServer does
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

#[derive(Args, Debug)]
pub struct SendOptions {
    /// File to send
    pub file: PathBuf,
    /// Address to listen on; may be repeated. PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8005")]
    pub listen: Vec<ListenAddress>,
    /// Folder that FILE must be in, also after following symbolic links [default: the folder of FILE]
    #[arg(long, value_name = "DIR", env = "XPS_ROOT")]
    pub root: Option<PathBuf>,
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

#[derive(Args, Debug)]
pub struct ReceiveOptions {
    /// File to write
    pub file: PathBuf,
    /// Address to listen on. PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8006")]
    pub listen: Vec<ListenAddress>,
    /// Continue after the first connection: write FILE, then FILE.1, FILE.2 and so on, in order of completion
    #[arg(long, env = "XPS_KEEP", value_parser = BoolishValueParser::new())]
    pub keep: bool,
    /// Replace existing files; without this, FILE must not exist, and --keep skips names that exist
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
