//! Options for what is written to standard error: log and banner.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::telemetry::{LogLevel, LogTarget};

/// Log options of commands that serve.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    #[command(flatten)]
    pub level: LevelOptions,
    /// Where the log goes: `-` for standard error, syslog:unix:/PATH or syslog:udp:HOST:PORT, optionally with ,facility=NAME,tag=TEXT
    #[arg(long, env = "XPS_LOG_TARGET", value_name = "-|syslog:…", default_value = "-")]
    pub log_target: LogTarget,
    /// Print no banner
    #[arg(short, long, env = "XPS_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
}

/// Log options of every command that has a log.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LevelOptions {
    /// Least severe level to log [default: info for servers, error for clients]
    #[arg(long, env = "XPS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}
