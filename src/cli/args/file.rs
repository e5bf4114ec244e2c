//! The commands of a configuration file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LogOptions;
use super::server::{AllOptions, ConnectTimeout, Settings, SocketOptions, UploadOptions};
use crate::cli::units::Header;
use crate::config::file::{File, Profile};

/// What to serve by, and what holds in place of the file's word.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// The file
    #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
    pub file: PathBuf,
    /// Whose behaviour the defaults follow, where the file names no profile [default: xps]
    #[arg(long, value_name = "NAME", env = "XPS_PROFILE", overrides_with = "profile")]
    pub profile: Option<Profile>,
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
        let Self { settings, socket, connect, upload, file: _, profile: _, log: _ } = self;
        let all: [&dyn Settings; 4] = [settings, socket, connect, upload];
        all.iter().for_each(|group| group.apply(file));
    }
}

/// What to check.
#[derive(Args, Debug)]
pub struct CheckOptions {
    /// The file
    #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
    pub file: PathBuf,
    /// Look at the file alone, not for the folders, files and addresses that it names
    #[arg(long, env = "XPS_NO_FS", value_parser = BoolishValueParser::new())]
    pub no_fs: bool,
}

/// A request to explain.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// The configuration file
    pub file: PathBuf,
    /// The request's method
    #[arg(value_name = "METHOD")]
    pub method: String,
    /// What is asked for: http://HOST:PORT/PATH
    #[arg(value_name = "URL")]
    pub url: String,
    /// The address that the connection comes from
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub client: IpAddr,
    /// A field of the request; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// As for `run`: whose behaviour the defaults follow, where the file names no profile [default: xps]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

/// Whom to ask.
#[derive(Args, Debug)]
pub struct ReloadOptions {
    /// The process's number
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,
    /// Send the signal without a look at what the process is
    #[arg(long)]
    pub force: bool,
}
