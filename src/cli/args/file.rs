//! Options of the commands that take a configuration file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LogOptions;
use super::server::{AllOptions, ConnectTimeout, Settings, SocketOptions, UploadOptions};
use crate::cli::units::Header;
use crate::config::file::{File, Profile};
use crate::config::start::absolute;

/// Options of `xps run`: the configuration file, and what overrides it.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// Configuration file
    #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
    pub file: PathBuf,
    /// Profile that the defaults follow if the file names none [default: xps]
    #[arg(long, value_name = "NAME", env = "XPS_PROFILE", overrides_with = "profile")]
    pub profile: Option<Profile>,
    /// Write the process ID to this file once it serves, and remove the file at the end
    #[arg(long, value_name = "FILE", env = "XPS_PID_FILE")]
    pub pid_file: Option<PathBuf>,
    #[command(flatten)]
    pub settings: AllOptions,
    #[command(flatten)]
    pub socket: SocketOptions,
    #[command(flatten)]
    pub connect: ConnectTimeout,
    #[command(flatten)]
    pub upload: UploadOptions,
    #[command(flatten)]
    pub log: LogOptions,
}

impl Settings for RunOptions {
    fn apply(&self, file: &mut File) {
        let Self { settings, socket, connect, upload, pid_file, file: _, profile: _, log: _ } = self;
        // A path of the command line starts in the folder of the process.
        let pid_file = pid_file.as_deref().map(|path| absolute(path).unwrap_or_else(|_| path.to_owned()));
        file.pid_file = pid_file.or(file.pid_file.take());
        let all: [&dyn Settings; 4] = [settings, socket, connect, upload];
        all.iter().for_each(|group| group.apply(file));
    }
}

#[derive(Args, Debug)]
pub struct CheckOptions {
    /// Configuration file
    #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
    pub file: PathBuf,
    /// Check the file alone, not the folders, files and addresses that it names
    #[arg(long, env = "XPS_NO_FS", value_parser = BoolishValueParser::new())]
    pub no_fs: bool,
}

/// Options of `xps explain`: the configuration file and the request.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// Configuration file
    pub file: PathBuf,
    /// Method of the request
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// URL of the request: http://HOST:PORT/PATH or https://HOST:PORT/PATH
    #[arg(value_name = "URL")]
    pub url: String,
    /// Address that the connection comes from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub client: IpAddr,
    /// Header field of the request; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// Send the request over HTTP/2, and show the response as HTTP/2 has it
    #[arg(long)]
    pub http2: bool,
    /// Profile that the defaults follow if the file names none, as for `run` [default: xps]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

#[derive(Args, Debug)]
pub struct ReloadOptions {
    /// Process ID, to send it SIGHUP
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// Admin socket of the server [default: that of --config; without PID, /run/xps/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Configuration file of the server, which names the socket (`admin.unix`) or the file with the process ID (`pid_file`)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Send the signal without checking what the process is
    #[arg(long)]
    pub force: bool,
}
