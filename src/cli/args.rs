//! The command line: one definition for parsing, help, the manual page and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::units::{Header, ListenAddress, Period, Size};
use crate::config::{HttpLimits, Limits, UpstreamAddress};
use crate::driver::Feature;
use crate::driver::probe::BackendChoice;
use crate::telemetry::access::AccessFormat;
use crate::telemetry::{LogFormat, LogLevel};

/// A TCP server and reverse proxy driven by io_uring completions.
///
/// Without a command it starts a demonstration on ports 8001 to 8004 of this machine and says what to try.
#[derive(Debug, Parser)]
#[command(
    name = "xps",
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "Every option can also be set by the environment variable named with it.\n\
                  Exit codes: 0 ok, 1 failure at run time, 2 usage, 4 the demanded back-end is unavailable."
)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub server: ServerOptions,

    #[command(flatten)]
    pub log: LogOptions,

    /// Print the version, this kernel's, and the back-end that would be used
    #[arg(short = 'V', long)]
    pub version: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay each connection to an upstream
    #[command(
        after_help = "Example:\n  python3 -m http.server 3000 &\n  xps proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:3000"
    )]
    Proxy {
        /// Where to listen; may be repeated
        #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
        listen: Vec<ListenAddress>,
        /// Where to connect to: a name or an address, and a port
        #[arg(long, value_name = "HOST:PORT", env = "XPS_UPSTREAM")]
        upstream: UpstreamAddress,
    },

    /// Serve a folder's files over HTTP
    #[command(
        after_help = "Examples:\n  xps serve\n  xps serve public --listen 0.0.0.0:8080 --fallback index.html\n  xps serve /srv/www --access-log /var/log/xps.log --header 'Cache-Control: max-age=3600'"
    )]
    Serve(ServeOptions),

    /// Send back what is received
    #[command(
        after_help = "Example:\n  xps echo 127.0.0.1:8004\n  nc 127.0.0.1 8004        (or: xps connect 127.0.0.1:8004)"
    )]
    Echo {
        /// Where to listen
        #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8004")]
        listen: Vec<ListenAddress>,
    },

    /// Send each line back reversed
    #[command(after_help = "Example:\n  xps reverse 127.0.0.1:8003\n  echo stressed | nc -N 127.0.0.1 8003")]
    Reverse {
        /// Where to listen
        #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8003")]
        listen: Vec<ListenAddress>,
    },

    /// Send a file to whoever connects, then close
    #[command(after_help = "Example:\n  xps send backup.tar --listen 0.0.0.0:8005\n  nc 192.0.2.7 8005 > backup.tar")]
    Send {
        /// The file; opened anew for each connection
        file: PathBuf,
        /// Where to listen; may be repeated
        #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8005")]
        listen: Vec<ListenAddress>,
        /// The folder that FILE may not leave, not even by a link [default: the folder it is in]
        #[arg(long, value_name = "DIR", env = "XPS_ROOT")]
        root: Option<PathBuf>,
    },

    /// Connect to a server: standard input to it, its answer to standard output
    #[command(
        after_help = "The end of input is passed on (half-close), and the answer is read to its end.\n\nExample:\n  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | xps connect example.org:80"
    )]
    Connect {
        /// Where to connect to
        #[arg(value_name = "HOST:PORT")]
        upstream: UpstreamAddress,
    },

    /// Show what this kernel and this process allow, what would be chosen and why, and how to lift each limit
    Probe {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },

    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  xps completions bash > /etc/bash_completion.d/xps")]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the manual page
    #[command(after_help = "Example:\n  xps man | man -l -")]
    Man,
}

/// What `serve` serves, and how.
#[derive(Args, Debug)]
pub struct ServeOptions {
    /// The folder
    #[arg(value_name = "DIR", env = "XPS_DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where to listen; may be repeated
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8001")]
    pub listen: Vec<ListenAddress>,
    /// Files that stand for their folder, the first that exists
    #[arg(long, value_name = "NAME,…", env = "XPS_INDEX", value_delimiter = ',', default_value = "index.html")]
    pub index: Vec<String>,
    /// Do not list folders without an index file
    #[arg(long, env = "XPS_NO_LISTING")]
    pub no_listing: bool,
    /// Serve files whose name begins with a dot, too
    #[arg(long, env = "XPS_DOT_FILES")]
    pub dot_files: bool,
    /// Serve this file in place of what does not exist (single-page applications)
    #[arg(long, value_name = "FILE", env = "XPS_FALLBACK")]
    pub fallback: Option<String>,
    /// Do not compress
    #[arg(long, env = "XPS_NO_COMPRESSION")]
    pub no_compression: bool,
    /// Do not send FILE.br, FILE.zst or FILE.gz in place of FILE
    #[arg(long, env = "XPS_NO_PRECOMPRESSED")]
    pub no_precompressed: bool,
    /// The charset claimed for text; without it the document's own word holds
    #[arg(long, value_name = "NAME", env = "XPS_CHARSET")]
    pub charset: Option<String>,
    /// The origin whose scripts may read the files: `*`, or one like https://example.org
    #[arg(long, value_name = "ORIGIN", env = "XPS_CORS")]
    pub cors: Option<String>,
    /// Add a field to every answer that is not an error; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// The `Server` field; empty: none
    #[arg(long, value_name = "NAME", env = "XPS_SERVER_NAME", default_value = "xps")]
    pub server_name: String,
    /// Where requests are recorded: `-` for standard output, a file (opened anew on SIGUSR1), or `off`
    #[arg(long, value_name = "-|FILE|off", env = "XPS_ACCESS_LOG", default_value = "-")]
    pub access_log: String,
    /// How they are recorded
    #[arg(long, value_name = "FORMAT", env = "XPS_ACCESS_FORMAT", default_value = "combined")]
    pub access_format: AccessFormat,
}

/// How HTTP connections are bounded.
#[derive(Args, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpOptions {
    /// Refuse a request whose head is larger
    #[arg(long, global = true, env = "XPS_HEAD_SIZE", value_name = "SIZE", default_value_t = Size(HttpLimits::default().head.head_bytes_max))]
    pub head_size: Size,
    /// Refuse a request whose head takes longer; 0: never
    #[arg(long, global = true, env = "XPS_HEAD_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().head_timeout))]
    pub head_timeout: Period,
    /// Close a connection that asks nothing for so long; 0: never
    #[arg(long, global = true, env = "XPS_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().keep_alive_timeout))]
    pub keep_alive_timeout: Period,
    /// Cut a client off that takes nothing of its answer for so long; 0: never
    #[arg(long, global = true, env = "XPS_SEND_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().send_timeout))]
    pub send_timeout: Period,
    /// Close a connection whose request's body, which nobody reads, takes longer; 0: never
    #[arg(long, global = true, env = "XPS_BODY_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().body_timeout))]
    pub body_timeout: Period,
    /// Requests on one connection; 0: any number
    #[arg(long, global = true, env = "XPS_MAX_REQUESTS", value_name = "N", default_value_t = HttpLimits::default().requests_max)]
    pub max_requests: u32,
}

/// How a server runs.
#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// How to talk to the kernel
    #[arg(long, global = true, env = "XPS_BACKEND", value_name = "NAME", default_value = "auto")]
    pub backend: BackendName,
    /// Do without these optional io_uring features; `xps probe` lists them
    #[arg(long, global = true, env = "XPS_URING_OFF", value_name = "NAME,…", value_delimiter = ',')]
    pub uring_off: Vec<Feature>,
    /// Worker threads [default: the processors this process may use]
    #[arg(long, global = true, env = "XPS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Tie each worker to a processor
    #[arg(long, global = true, env = "XPS_PIN_WORKERS")]
    pub pin_workers: bool,
    /// Connections one worker serves at a time; more wait in the kernel
    #[arg(long, global = true, env = "XPS_MAX_CONNECTIONS", value_name = "N", default_value_t = Limits::default().connections_max)]
    pub max_connections: usize,
    /// Connections that may wait to be accepted
    #[arg(long, global = true, env = "XPS_BACKLOG", value_name = "N", default_value_t = Limits::default().backlog)]
    pub backlog: i32,
    /// Bytes one direction of a connection may hold while its receiver is slow
    #[arg(long, global = true, env = "XPS_PIPE_SIZE", value_name = "SIZE", default_value_t = Size(Limits::default().pipe_bytes_max))]
    pub pipe_size: Size,
    /// The longest line `reverse` keeps in one piece
    #[arg(long, global = true, env = "XPS_LINE_MAX", value_name = "SIZE", default_value_t = Size(Limits::default().line_bytes_max))]
    pub line_max: Size,
    /// Close a connection on which no byte moves for so long; 0: never
    #[arg(long, global = true, env = "XPS_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Period(Limits::default().idle_timeout))]
    pub idle_timeout: Period,
    /// Give up connecting to an upstream's address after so long; 0: never
    #[arg(long, global = true, env = "XPS_CONNECT_TIMEOUT", value_name = "TIME", default_value_t = Period(Limits::default().connect_timeout))]
    pub connect_timeout: Period,
    #[command(flatten)]
    pub http: HttpOptions,
    /// How long connections may go on after a stop was asked for; 0: for ever
    #[arg(long, global = true, env = "XPS_DRAIN_TIMEOUT", value_name = "TIME", default_value_t = Period(Limits::default().drain_timeout))]
    pub drain_timeout: Period,
}

/// What is written to standard error.
#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// The least important level written
    #[arg(long, global = true, env = "XPS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How it is written
    #[arg(long, global = true, env = "XPS_LOG_FORMAT", value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,
    /// No banner
    #[arg(short, long, global = true, env = "XPS_QUIET")]
    pub quiet: bool,
}

/// [`BackendChoice`], by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendName {
    /// io_uring where it is available, else epoll, saying why
    Auto,
    /// io_uring or nothing
    #[value(name = "io_uring", alias = "io-uring", alias = "uring")]
    IoUring,
    /// epoll
    Epoll,
}

impl From<BackendName> for BackendChoice {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::IoUring => Self::IoUring,
            BackendName::Epoll => Self::Epoll,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_global_option_has_its_environment_variable() {
        for argument in Arguments::command().get_arguments().filter(|argument| argument.is_global_set()) {
            let name = argument.get_long().unwrap_or_default().replace('-', "_").to_uppercase();
            let expected = format!("XPS_{name}");
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        }
    }
}
