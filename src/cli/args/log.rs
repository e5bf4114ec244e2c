//! Options for what is written to standard error: log and banner.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::telemetry::LogLevel;

/// Log options of commands that serve.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    #[command(flatten)]
    pub level: LevelOptions,
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
