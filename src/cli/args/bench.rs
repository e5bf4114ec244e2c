//! Options of `xps bench`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::log::LevelOptions;
use super::server::BackendOptions;
use crate::config::UpstreamAddress;
use crate::config::units::Period;
use crate::load::TcpMode;
use crate::load::report::slo::{Slo, parse_share};

#[derive(Args, Debug)]
pub struct BenchOptions {
    /// What to ask: http://HOST[:PORT][/PATH], https://… or tcp://HOST:PORT; several are asked in turn
    #[arg(value_name = "URL", required_unless_present = "urls")]
    pub targets: Vec<String>,
    /// File with a URL on each line, or a weight and a URL; `-`: standard input
    #[arg(long, value_name = "FILE", env = "XPS_URLS")]
    pub urls: Option<PathBuf>,
    #[command(flatten)]
    pub load: LoadOptions,
    #[command(flatten)]
    pub request: RequestOptions,
    #[command(flatten)]
    pub expect: ExpectOptions,
    #[command(flatten)]
    pub tls: BenchTls,
    #[command(flatten)]
    pub output: OutputOptions,
    #[command(flatten)]
    pub verdict: VerdictOptions,
    #[command(flatten)]
    pub contest: ContestOptions,
    #[command(flatten)]
    pub backend: BackendOptions,
    #[command(flatten)]
    pub log: LevelOptions,
}

/// How much is asked.
#[derive(Args, Debug)]
#[command(next_help_heading = "Load")]
pub struct LoadOptions {
    /// Connections that send requests, of all threads
    #[arg(short, long, value_name = "N", env = "XPS_CONNECTIONS", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// How long to measure
    #[arg(short, long, value_name = "TIME", env = "XPS_DURATION", default_value = "10s", conflicts_with = "requests")]
    pub duration: Period,
    /// Measure this number of requests instead
    #[arg(short = 'n', long, value_name = "N", env = "XPS_REQUESTS", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Threads, which share the connections
    #[arg(short, long, value_name = "N", env = "XPS_THREADS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Requests a second, by the clock (open loop) [default: as many as the server answers (closed loop)]
    ///
    /// A request is due at its time whether or not a connection is free. Its response time is counted
    /// from then, so that a server that stalls does not hide the requests that it delayed.
    #[arg(short = 'R', long, value_name = "N", env = "XPS_RATE", value_parser = rate)]
    pub rate: Option<f64>,
    /// Send requests for this long before anything is counted
    #[arg(long, value_name = "TIME", env = "XPS_WARMUP", default_value = "0")]
    pub warmup: Period,
    /// Requests in progress on each connection at the same time, with HTTP/1.1
    #[arg(long, value_name = "N", env = "XPS_PIPELINE", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub pipeline: u32,
    /// Requests in progress on each connection at the same time, with HTTP/2
    #[arg(long, value_name = "N", env = "XPS_STREAMS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub streams: u32,
    /// Close each connection after one request
    #[arg(long, env = "XPS_NO_KEEPALIVE", value_parser = BoolishValueParser::new(),
          conflicts_with = "requests_per_connection")]
    pub no_keepalive: bool,
    /// Close each connection after this number of requests
    #[arg(long, value_name = "N", env = "XPS_REQUESTS_PER_CONNECTION", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests_per_connection: Option<u64>,
    /// Connections besides that stay open and send nothing
    #[arg(long, value_name = "N", env = "XPS_IDLE", default_value_t = 0)]
    pub idle: u32,
    /// Connections besides that send requests and read the responses at a trickle; they are not counted
    #[arg(long, value_name = "N", env = "XPS_SLOW", default_value_t = 0)]
    pub slow: u32,
    /// How long a response, or the making of a connection, may take
    #[arg(long, value_name = "TIME", env = "XPS_TIMEOUT", default_value = "5s", value_parser = some_time)]
    pub timeout: Period,
}

/// What is asked.
#[derive(Args, Debug)]
#[command(next_help_heading = "Request")]
pub struct RequestOptions {
    /// Field to send with each request; `Host` replaces that of the URL
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", env = "XPS_HEADER")]
    pub headers: Vec<String>,
    /// Method [default: GET, or POST with --body]
    #[arg(short = 'X', long, value_name = "METHOD", env = "XPS_METHOD")]
    pub method: Option<String>,
    /// Body to send with each request; @FILE: the content of a file. With tcp://: the bytes to send
    #[arg(long, value_name = "TEXT|@FILE", env = "XPS_BODY")]
    pub body: Option<String>,
    /// Speak HTTP/2 with http://, without asking
    #[arg(long, env = "XPS_HTTP2_PRIOR_KNOWLEDGE", value_parser = BoolishValueParser::new())]
    pub http2_prior_knowledge: bool,
    /// Do not offer HTTP/2 with https://
    #[arg(long, env = "XPS_NO_HTTP2", value_parser = BoolishValueParser::new(),
          conflicts_with = "http2_prior_knowledge")]
    pub no_http2: bool,
    /// Connect to this address instead of the one in the URL
    #[arg(long, value_name = "HOST:PORT|unix:/PATH", env = "XPS_CONNECT_TO")]
    pub connect_to: Option<UpstreamAddress>,
    /// What to do with a connection to tcp://
    #[arg(long, value_name = "MODE", env = "XPS_MODE", default_value = "echo", value_enum)]
    pub mode: TcpMode,
}

/// What a correct response is.
#[derive(Args, Debug)]
#[command(next_help_heading = "Correct responses (others count as errors)")]
pub struct ExpectOptions {
    /// Statuses [default: 200 to 399]
    #[arg(long, value_name = "STATUS,…", env = "XPS_EXPECT_STATUS", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(100..=599))]
    pub expect_status: Vec<u16>,
    /// Length of the body, in bytes
    #[arg(long, value_name = "N", env = "XPS_EXPECT_LENGTH")]
    pub expect_length: Option<u64>,
    /// SHA-256 of the body, in hexadecimal
    #[arg(long, value_name = "HASH", env = "XPS_EXPECT_SHA256", value_parser = sha256)]
    pub expect_sha256: Option<[u8; 32]>,
    /// The body of the first response to the same URL
    ///
    /// Its first 64 KiB are compared, and its length.
    #[arg(long, env = "XPS_EXPECT_SAME", value_parser = BoolishValueParser::new())]
    pub expect_same: bool,
}

/// Options of connections over TLS.
#[derive(Args, Debug)]
#[command(next_help_heading = "TLS")]
pub struct BenchTls {
    /// PEM file with the authorities to trust, instead of those of the system
    #[arg(long, value_name = "FILE", env = "XPS_CA")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long, env = "XPS_INSECURE", value_parser = BoolishValueParser::new(), conflicts_with = "ca")]
    pub insecure: bool,
    /// The name to ask for, which the certificate must have [default: HOST]
    #[arg(long, value_name = "NAME", env = "XPS_SNI")]
    pub sni: Option<String>,
}

/// What is written where, and what is compared.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Print the report as JSON; docs/bench.md describes it
    #[arg(long, env = "XPS_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Write the series as CSV: a line for each second
    #[arg(long, value_name = "FILE", env = "XPS_CSV")]
    pub csv: Option<PathBuf>,
    /// Write the times in HdrHistogram's text format
    #[arg(long, value_name = "FILE", env = "XPS_HDR")]
    pub hdr: Option<PathBuf>,
    /// Write a page with plots, which needs nothing from elsewhere
    #[arg(long, value_name = "FILE", env = "XPS_HTML")]
    pub html: Option<PathBuf>,
    /// Process of the server, on this host: its processor time for each request is reported
    #[arg(long, value_name = "PID", env = "XPS_PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Metrics listener or admin socket of an xps server: what its rings do for each request is reported
    #[arg(long, value_name = "HOST:PORT|unix:/PATH", env = "XPS_SERVER_METRICS")]
    pub server_metrics: Option<UpstreamAddress>,
}

/// What has to hold.
#[derive(Args, Debug)]
#[command(next_help_heading = "Verdict (exit code 3 if it fails)")]
pub struct VerdictOptions {
    /// Conditions, for example p99<5ms,errors<0.1%,rate>=50000
    ///
    /// Figures: p50 (any percentile), mean, max, errors and rate. Times are response times with --rate,
    /// and service times without it.
    #[arg(long, value_name = "CONDITION,…", env = "XPS_SLO")]
    pub slo: Option<Slo>,
    /// Search for the highest rate that meets --slo; each run takes --duration
    #[arg(long, env = "XPS_FIND_MAX", value_parser = BoolishValueParser::new(), requires = "slo",
          conflicts_with_all = ["requests", "baseline"])]
    pub find_max: bool,
    /// Report of an earlier run (--json), which this one is compared with
    #[arg(long, value_name = "FILE", env = "XPS_BASELINE")]
    pub baseline: Option<PathBuf>,
    /// With --baseline: how much worse a figure may be
    #[arg(long, value_name = "PERCENT", env = "XPS_MAX_REGRESSION", default_value = "5%", value_parser = share)]
    pub max_regression: f64,
    /// With --baseline: compare with a run of another environment, too
    #[arg(long, env = "XPS_ANY_ENVIRONMENT", value_parser = BoolishValueParser::new())]
    pub any_environment: bool,
}

/// Two servers in turns.
#[derive(Args, Debug)]
#[command(next_help_heading = "Comparison of two servers")]
pub struct ContestOptions {
    /// Start two servers in turns and compare them: the command of A, with that of B behind `--`
    ///
    /// Or an option that the command behind `--` is started with: NAME=X,Y, such as backend=io_uring,epoll;
    /// NAME=X: only B has it. Both servers listen at the URL. The server gets a processor of its own.
    #[arg(long, value_name = "COMMAND|NAME=X[,Y]", env = "XPS_AB", requires = "command")]
    pub ab: Option<String>,
    /// With --ab: pairs of runs, each of which takes twice --duration
    #[arg(long, value_name = "N", env = "XPS_ROUNDS", default_value_t = 11,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// With --ab: the command of B, or of both
    #[arg(last = true, value_name = "COMMAND", requires = "ab")]
    pub command: Vec<String>,
}

#[derive(Args, Debug)]
pub struct CompareOptions {
    /// Reports of runs (xps bench --json); those of one side are separated by commas
    #[arg(value_name = "FILE[,FILE…]", required = true, num_args = 2..)]
    pub sides: Vec<String>,
    /// Write a page with plots, which needs nothing from elsewhere
    #[arg(long, value_name = "FILE", env = "XPS_HTML")]
    pub html: Option<PathBuf>,
    /// Compare runs of different environments, too
    #[arg(long, env = "XPS_ANY_ENVIRONMENT", value_parser = BoolishValueParser::new())]
    pub any_environment: bool,
}

/// A part of the whole: 5% or 0.05.
fn share(text: &str) -> Result<f64, String> {
    parse_share(text).ok_or_else(|| "write a percentage, for example 5%".to_owned())
}

/// A rate that is more than nothing.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        Ok(_) | Err(_) => Err("write requests a second, for example 1000 or 0.5".to_owned()),
    }
}

/// A time that is more than nothing.
fn some_time(text: &str) -> Result<Period, String> {
    let period: Period = text.parse().map_err(|error: crate::config::units::UnitError| error.to_string())?;
    if period.0.is_zero() { Err("too short: write at least 1ms".to_owned()) } else { Ok(period) }
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| "write 64 hexadecimal digits".to_owned())
}
