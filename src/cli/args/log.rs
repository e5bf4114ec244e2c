//! What is written to standard error.

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::telemetry::LogLevel;

/// Of commands that serve.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    #[command(flatten)]
    pub level: LevelOptions,
    /// No banner
    #[arg(short, long, env = "XPS_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
}

/// Of commands that have a log.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Log")]
pub struct LevelOptions {
    /// The least important level written [default: info for servers, error for clients]
    #[arg(long, env = "XPS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}
