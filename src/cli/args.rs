//! The command line: one definition for parsing, help, the manual page and completions.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, OsStr, PossibleValuesParser, RangedU64ValueParser, Resettable};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::units::{AnswerHeader, Header, StatusPage};
use crate::admission::WhenFull;
use crate::buffer::PoolConfig;
use crate::config::file::FileMode;
use crate::config::units::{Period, Size};
use crate::config::{HttpLimits, Limits, ListenAddress, UpstreamAddress};
use crate::driver::Feature;
use crate::driver::probe::BackendChoice;
use crate::file::compress;
use crate::telemetry::access::AccessFormat;
use crate::telemetry::{LogFormat, LogLevel};
use crate::upstream::group::{HashSource, Policy};

/// The definition that parsing, help, manual pages and completions are made of. A variable of the
/// environment that is set to nothing counts as not set, as scripts and unit files expect.
pub fn definition() -> clap::Command {
    without_empty_variables(Arguments::command())
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|argument| {
        let is_empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { argument.env(Resettable::<OsStr>::Reset) } else { argument }
    });
    command.mut_subcommands(without_empty_variables)
}

/// The commands that `xps man` has a page for.
pub const DOCUMENTED: [&str; 14] = [
    "proxy",
    "serve",
    "run",
    "check",
    "explain",
    "schema",
    "reload",
    "echo",
    "reverse",
    "send",
    "connect",
    "probe",
    "completions",
    "man",
];

/// A TCP and HTTP server, reverse proxy and file server driven by io_uring completions.
///
/// Without a command it starts a demonstration on ports 8001 to 8004 of this machine and says what to try.
#[derive(Debug, Parser)]
#[command(
    name = "xps",
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "Every option can also be set by the environment variable named with it.\n\
                  Exit codes: 0 ok, 1 failure at run time, 2 usage, 4 the demanded back-end is unavailable.",
    after_long_help = "Examples:\n  \
        xps                                                          the demonstration\n  \
        xps proxy --listen 8080 --upstream 127.0.0.1:3000            relay port 8080 of every address\n  \
        xps echo 127.0.0.1:8004 --backend epoll --workers 1          one thread, without io_uring\n  \
        xps probe                                                    what is allowed here, and how to allow more\n\n\
        Sizes are numbers with k, m or g (64k, 1m); times are numbers with ms, s, m, h or d (250ms, 30s), and 0 means without limit.\n\n\
        Every option can also be set by the environment variable named with it; the command line has the last word, and an empty variable counts as not set. \
        Two variables have no option: XPS_LOG holds directives for single modules (xps::tcp=trace,info) and overrules --log-level; XPS_DEBUG=1 means --log-level debug. \
        NO_COLOR switches colours off.\n\n\
        SIGTERM or Ctrl-C stops accepting and lets connections finish within --drain-timeout; the second one ends at once.\n\n\
        Exit codes:\n  \
        0  ok\n  \
        1  failure at run time: a port is taken, a file or an upstream is not to be had\n  \
        2  usage or configuration\n  \
        4  the demanded back-end is unavailable"
)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Print the version, this kernel's, and the back-end that would be used
    #[arg(short = 'V', long)]
    pub version: bool,

    #[command(flatten)]
    pub server: ServerOptions,

    #[command(flatten)]
    pub log: LogOptions,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay connections, or HTTP requests, to upstreams
    ///
    /// Without --http, each connection is joined to a new one to an upstream, and bytes are relayed unchanged both ways.
    /// A slow receiver slows its sender down; the end of one direction is passed on while the other goes on; when one
    /// side breaks off, so does the other.
    ///
    /// With --http, each request is passed on by itself, on connections that are kept, with `X-Forwarded-For` and `Via`.
    /// Bodies stream through. Requests for WebSocket and other upgrades are passed on.
    #[command(after_help = "Examples:\n  \
        python3 -m http.server 3000 &\n  \
        xps proxy --listen 127.0.0.1:8080 --upstream 127.0.0.1:3000\n  \
        xps proxy --http --listen 8080 --upstream app1:3000 --upstream app2:3000 --balance least-conn\n  \
        xps proxy --listen 8080 --listen '[::]:8080' --upstream app.internal:3000 --connect-timeout 1s")]
    Proxy(ProxyOptions),

    /// Serve a folder's files over HTTP
    #[command(
        after_help = "Examples:\n  xps serve\n  xps serve public --listen 0.0.0.0:8080 --fallback index.html\n  xps serve /srv/www --access-log /var/log/xps.log --header 'Cache-Control: max-age=3600'"
    )]
    Serve(ServeOptions),

    /// Serve as a configuration file says
    ///
    /// SIGHUP, or `xps reload`, has the file read anew: a bad one changes nothing and says why; a good one holds from the
    /// next request on, and what is under way goes on. SIGUSR2 starts the program anew, with the same listening sockets,
    /// and ends this process once the new one serves.
    #[command(after_help = "Examples:\n  \
        xps run\n  \
        xps check site.json && xps run site.json\n  \
        xps schema > xps.schema.json")]
    Run {
        /// The file
        #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
        file: PathBuf,
    },

    /// Say what is wrong with a configuration file, if anything is; nothing is opened or contacted
    #[command(after_help = "Example:\n  xps check xps_config.json")]
    Check {
        /// The file
        #[arg(env = "XPS_CONFIG", default_value = "xps_config.json")]
        file: PathBuf,
    },

    /// Say what a configuration file would have done with a request; nothing is contacted
    ///
    /// Which listener, server and route take it, who may, and what answers: a file, upstreams with the request they
    /// would get, another URL; and the head of the answer, where it is not an upstream's. Exit code 1: the request would
    /// be refused.
    #[command(after_help = "Examples:\n  \
        xps explain xps_config.json GET http://localhost:8001/api/users\n  \
        xps explain xps_config.json GET http://example.org/ --client 203.0.113.7 --header 'Accept: text/html'")]
    Explain(ExplainOptions),

    /// Print the JSON Schema of the configuration file, for editors
    #[command(after_help = "Example:\n  xps schema > xps.schema.json")]
    Schema,

    /// Have a running `xps run` read its configuration file anew
    ///
    /// What comes of it is in that program's log.
    #[command(after_help = "Example:\n  xps check && xps reload $(pidof xps)")]
    Reload {
        /// The process's number
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        pid: i32,
    },

    /// Send back what is received
    #[command(after_help = "Examples:\n  \
        xps echo 127.0.0.1:8004\n  \
        nc 127.0.0.1 8004        (or: xps connect 127.0.0.1:8004)")]
    Echo {
        /// Where to listen. A PORT alone means every IPv4 address, unix:/PATH a unix socket
        #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8004")]
        listen: Vec<ListenAddress>,
    },

    /// Send each line back reversed
    ///
    /// The newline stays in its place. What remains at the end of input is reversed as it is; a line longer than
    /// --line-max is reversed in pieces.
    #[command(after_help = "Example:\n  \
        xps reverse 127.0.0.1:8003\n  \
        echo stressed | nc -N 127.0.0.1 8003")]
    Reverse {
        /// Where to listen. A PORT alone means every IPv4 address, unix:/PATH a unix socket
        #[arg(value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8003")]
        listen: Vec<ListenAddress>,
    },

    /// Send a file to whoever connects, then close
    ///
    /// The file is opened anew for each connection, beneath the root and nowhere else: a path or a link that leads out
    /// of it is refused.
    #[command(after_help = "Examples:\n  \
        xps send backup.tar --listen 0.0.0.0:8005\n  \
        nc 192.0.2.7 8005 > backup.tar\n  \
        xps send /srv/files/today/list.txt --root /srv/files")]
    Send {
        /// The file
        file: PathBuf,
        /// Where to listen; may be repeated. A PORT alone means every IPv4 address, unix:/PATH a unix socket
        #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8005")]
        listen: Vec<ListenAddress>,
        /// The folder that FILE may not leave, not even by a link [default: the folder it is in]
        #[arg(long, value_name = "DIR", env = "XPS_ROOT")]
        root: Option<PathBuf>,
    },

    /// Connect to a server: standard input to it, its answer to standard output
    ///
    /// The end of input is passed on (half-close), and the answer is read to its end. On a terminal the server's end
    /// is the end.
    #[command(after_help = "Examples:\n  \
        xps connect 127.0.0.1:8004\n  \
        printf 'GET / HTTP/1.0\\r\\n\\r\\n' | xps connect example.org:80")]
    Connect {
        /// Where to connect to
        #[arg(value_name = "HOST:PORT|unix:/PATH")]
        upstream: UpstreamAddress,
    },

    /// Show what this kernel and this process allow, what would be chosen and why, and how to lift each limit
    ///
    /// Everything is found out by trying, not by the kernel's version. With --uring-off it shows what would be chosen
    /// without those features. It exits with 0 also when io_uring is unavailable: that is its answer.
    #[command(after_help = "Examples:\n  \
        xps probe\n  \
        xps probe --json | python3 -m json.tool\n  \
        docker run --rm -v \"$PWD/xps:/xps\" debian /xps probe      (what a container allows)")]
    Probe {
        /// As JSON, for programs
        #[arg(long, env = "XPS_JSON", value_parser = BoolishValueParser::new())]
        json: bool,
    },

    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  \
        xps completions bash > /etc/bash_completion.d/xps\n  \
        xps completions zsh > ~/.zfunc/_xps\n  \
        xps completions fish > ~/.config/fish/completions/xps.fish")]
    Completions {
        /// The shell
        shell: Shell,
    },

    /// Print the manual page, of xps or of one command
    #[command(after_help = "Examples:\n  xps man | man -l -\n  xps man proxy | man -l -")]
    Man {
        /// The command; without it, the page of xps itself
        #[arg(value_parser = PossibleValuesParser::new(DOCUMENTED))]
        command: Option<String>,
    },
}

/// What `serve` serves, and how.
#[derive(Args, Debug)]
pub struct ServeOptions {
    /// The folder
    #[arg(value_name = "DIR", env = "XPS_DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Where to listen; may be repeated. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8001")]
    pub listen: Vec<ListenAddress>,
    /// Files that stand for their folder, the first that exists
    #[arg(long, value_name = "NAME,…", env = "XPS_INDEX", value_delimiter = ',', default_value = "index.html")]
    pub index: Vec<String>,
    /// Do not list folders without an index file
    #[arg(long, env = "XPS_NO_LISTING", value_parser = BoolishValueParser::new())]
    pub no_listing: bool,
    /// Serve files whose name begins with a dot, too
    #[arg(long, env = "XPS_DOT_FILES", value_parser = BoolishValueParser::new())]
    pub dot_files: bool,
    /// Serve this file in place of what does not exist (single-page applications)
    #[arg(long, value_name = "FILE", env = "XPS_FALLBACK")]
    pub fallback: Option<String>,
    /// Do not follow symbolic links; without this, those that stay in the folder are followed
    #[arg(long, env = "XPS_NO_SYMLINKS", value_parser = BoolishValueParser::new())]
    pub no_symlinks: bool,
    /// Do not compress
    #[arg(long, env = "XPS_NO_COMPRESSION", value_parser = BoolishValueParser::new())]
    pub no_compression: bool,
    /// How hard to compress, 1 to 9; without this, a fast level of each coding
    #[arg(long, value_name = "LEVEL", env = "XPS_COMPRESSION_LEVEL", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub compression_level: Option<u8>,
    /// Do not compress smaller files
    #[arg(long, value_name = "SIZE", env = "XPS_COMPRESSION_MIN_SIZE", default_value_t = Size(compress::SIZE_MIN as usize))]
    pub compression_min_size: Size,
    /// Do not send FILE.br, FILE.zst or FILE.gz in place of FILE
    #[arg(long, env = "XPS_NO_PRECOMPRESSED")]
    pub no_precompressed: bool,
    /// The charset claimed for text; without it the document's own word holds
    #[arg(long, value_name = "NAME", env = "XPS_CHARSET")]
    pub charset: Option<String>,
    /// The origin whose scripts may read the files: `*`, or one like https://example.org
    #[arg(long, value_name = "ORIGIN", env = "XPS_CORS")]
    pub cors: Option<String>,
    /// Add a field to every answer that is not an error, in place of the server's own; may be repeated (in the variable: one a line)
    #[arg(long, value_name = "NAME: VALUE", env = "XPS_HEADER", value_delimiter = '\n')]
    pub header: Vec<AnswerHeader>,
    /// Send this file in place of the page of an error; may be repeated
    #[arg(long, value_name = "STATUS=FILE", env = "XPS_ERROR_PAGE", value_delimiter = ',')]
    pub error_page: Vec<StatusPage>,
    /// The `Server` field; --server-name '' leaves it out
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
    /// Refuse a request whose head is larger; 64k at most
    #[arg(long, global = true, env = "XPS_HEAD_SIZE", value_name = "SIZE", default_value_t = Size(HttpLimits::default().head.head_bytes_max), value_parser = Size::parse_head)]
    pub head_size: Size,
    /// Refuse a request whose head takes longer; 0: never
    #[arg(long, global = true, env = "XPS_HEAD_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().head_timeout))]
    pub head_timeout: Period,
    /// Close a connection that asks nothing for so long; 0: never
    #[arg(long, global = true, env = "XPS_KEEP_ALIVE_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().keep_alive_timeout))]
    pub keep_alive_timeout: Period,
    /// Close a connection that asks nothing for so long while the server stops; 0: only when all the time for that is over
    #[arg(long, global = true, env = "XPS_DRAIN_IDLE_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().drain_idle_timeout))]
    pub drain_idle_timeout: Period,
    /// Cut a client off that takes nothing of its answer for so long, and either side of a tunnel when the other is gone; 0: never
    #[arg(long, global = true, env = "XPS_SEND_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().send_timeout))]
    pub send_timeout: Period,
    /// Close a connection whose request's body, which nobody reads, takes longer; 0: never
    #[arg(long, global = true, env = "XPS_BODY_TIMEOUT", value_name = "TIME", default_value_t = Period(HttpLimits::default().body_timeout))]
    pub body_timeout: Period,
    /// Cut a client off that takes less of its answer each second, on average over --send-timeout; 0: never
    #[arg(long, global = true, env = "XPS_SEND_RATE", value_name = "SIZE", default_value_t = Size(HttpLimits::default().send_rate_min as usize))]
    pub send_rate: Size,
    /// Cut a client off that sends less of a body that is passed on each second, on average over --body-timeout; 0: never
    #[arg(long, global = true, env = "XPS_UPLOAD_RATE", value_name = "SIZE", default_value_t = Size(HttpLimits::default().upload_rate_min as usize))]
    pub upload_rate: Size,
    /// Requests on one connection; 0: any number
    #[arg(long, global = true, env = "XPS_MAX_REQUESTS", value_name = "N", default_value_t = HttpLimits::default().requests_max)]
    pub max_requests: u32,
}

/// Where connections or requests are passed on to, and how.
#[derive(Args, Debug)]
pub struct ProxyOptions {
    /// Where to listen; may be repeated. A PORT alone means every IPv4 address, unix:/PATH a unix socket
    #[arg(long, value_name = "ADDR", env = "XPS_LISTEN", value_delimiter = ',', default_value = "127.0.0.1:8080")]
    pub listen: Vec<ListenAddress>,
    /// Where to connect to: a name or an address, and a port; or a unix socket; may be repeated
    #[arg(long, value_name = "HOST:PORT|unix:/PATH", env = "XPS_UPSTREAM", value_delimiter = ',', required = true)]
    pub upstream: Vec<UpstreamAddress>,
    /// How an upstream is chosen
    #[arg(long, value_name = "POLICY", env = "XPS_BALANCE", default_value = "round-robin")]
    pub balance: Balance,
    /// Pass on HTTP requests, each by itself
    #[arg(long, env = "XPS_HTTP", value_parser = BoolishValueParser::new())]
    pub http: bool,
    /// With --http: where requests are recorded: `-` for standard output, a file (opened anew on SIGUSR1), or `off`
    #[arg(long, value_name = "-|FILE|off", env = "XPS_ACCESS_LOG", default_value = "-")]
    pub access_log: String,
    /// How they are recorded
    #[arg(long, value_name = "FORMAT", env = "XPS_ACCESS_FORMAT", default_value = "combined")]
    pub access_format: AccessFormat,
    /// With --http: how long an upstream may be silent while it is waited for, or not begin its answer; 0: no limit
    #[arg(long, value_name = "TIME", env = "XPS_RESPONSE_TIMEOUT", default_value = "60s")]
    pub response_timeout: Period,
}

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Balance {
    /// In turn
    RoundRobin,
    /// The one with the fewest requests under way
    LeastConn,
    /// The less loaded of two that are drawn
    RandomTwo,
    /// By the client's address: always the same one, as long as it is well
    IpHash,
}

impl From<Balance> for Policy {
    fn from(balance: Balance) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin,
            Balance::LeastConn => Self::LeastConnections,
            Balance::RandomTwo => Self::RandomOfTwo,
            Balance::IpHash => Self::Hash(HashSource::Client),
        }
    }
}

/// How a server runs.
#[derive(Args, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// How to talk to the kernel
    #[arg(long, global = true, env = "XPS_BACKEND", value_name = "NAME", default_value = "auto")]
    pub backend: BackendName,
    /// Do without these optional io_uring features; `xps probe` lists them
    ///
    /// For measuring what each is worth, and for stepping around a kernel's bug: every one has a fallback.
    #[arg(long, global = true, env = "XPS_URING_OFF", value_name = "NAME,…", value_delimiter = ',')]
    pub uring_off: Vec<Feature>,
    /// Worker threads [default: the processors this process may use]
    ///
    /// Each has its own ring, buffers and connections; the kernel spreads new connections over them. The default counts
    /// the processors of the affinity mask, or fewer if the control group has a quota.
    #[arg(long, global = true, env = "XPS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Tie each worker to a processor
    #[arg(long, global = true, env = "XPS_PIN_WORKERS", value_parser = BoolishValueParser::new())]
    pub pin_workers: bool,
    /// Who may connect to unix sockets, as permissions of their files in octal [default: what the umask leaves]
    #[arg(long, global = true, env = "XPS_SOCKET_MODE", value_name = "MODE")]
    pub socket_mode: Option<FileMode>,

    /// Connections one worker serves at a time
    #[arg(long, global = true, env = "XPS_MAX_CONNECTIONS", value_name = "N", help_heading = "Limits",
          default_value_t = Limits::default().connections_max, value_parser = RangedU64ValueParser::<usize>::new().range(1..=CONNECTIONS_MAX))]
    pub max_connections: usize,
    /// What becomes of more
    #[arg(
        long,
        global = true,
        env = "XPS_WHEN_FULL",
        value_name = "WHAT",
        help_heading = "Limits",
        default_value = "wait"
    )]
    pub when_full: WhenFull,
    /// Connections that may wait to be accepted
    ///
    /// The kernel takes at most net.core.somaxconn; `xps probe` shows it.
    #[arg(long, global = true, env = "XPS_BACKLOG", value_name = "N", help_heading = "Limits",
          default_value_t = Limits::default().backlog, value_parser = clap::value_parser!(i32).range(1..))]
    pub backlog: i32,
    /// Bytes one direction of a connection may hold while its receiver is slow
    #[arg(long, global = true, env = "XPS_PIPE_SIZE", value_name = "SIZE", help_heading = "Limits",
          default_value_t = Size(Limits::default().pipe_bytes_max), value_parser = Size::parse_positive)]
    pub pipe_size: Size,
    /// The longest line `reverse` keeps in one piece
    #[arg(long, global = true, env = "XPS_LINE_MAX", value_name = "SIZE", help_heading = "Limits",
          default_value_t = Size(Limits::default().line_bytes_max), value_parser = Size::parse_positive)]
    pub line_max: Size,
    /// Memory for the receive buffers of one worker, at most
    ///
    /// An eighth is for large buffers, which carry bulk. It is taken as it is needed. The more of it slow receivers hold,
    /// the less each of them may hold, down to one small buffer.
    #[arg(long, global = true, env = "XPS_BUFFERS", value_name = "SIZE", help_heading = "Limits",
          default_value_t = default_buffers(), value_parser = Size::parse_buffers)]
    pub buffers: Size,

    /// Close a connection on which no byte moves for so long; 0: never
    #[arg(long, global = true, env = "XPS_IDLE_TIMEOUT", value_name = "TIME", help_heading = "Time-outs",
          default_value_t = Period(Limits::default().idle_timeout))]
    pub idle_timeout: Period,
    /// Give up connecting to an upstream's address after so long; 0: never
    #[arg(long, global = true, env = "XPS_CONNECT_TIMEOUT", value_name = "TIME", help_heading = "Time-outs",
          default_value_t = Period(Limits::default().connect_timeout))]
    pub connect_timeout: Period,
    #[command(flatten)]
    pub http: HttpOptions,
    /// How long connections may go on after a stop was asked for; 0: for ever
    #[arg(long, global = true, env = "XPS_DRAIN_TIMEOUT", value_name = "TIME", help_heading = "Time-outs",
          default_value_t = Period(Limits::default().drain_timeout))]
    pub drain_timeout: Period,
}

/// Connections are numbered in 32 bits.
const CONNECTIONS_MAX: u64 = u32::MAX as u64;

/// The pool's own bounds, in bytes.
pub fn default_buffers() -> Size {
    let pool = PoolConfig::default();
    Size(pool.small_bytes * pool.small_max + pool.large_bytes * pool.large_max)
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
}

/// What is written to standard error.
#[derive(Args, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogOptions {
    /// The least important level written [default: info, for servers]
    #[arg(long, global = true, env = "XPS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How it is written
    ///
    /// With `json`, everything that a server writes to standard error is one object a line: there is no banner, and an
    /// error that ends it is a record too.
    #[arg(long, global = true, env = "XPS_LOG_FORMAT", value_name = "FORMAT", default_value = "human")]
    pub log_format: LogFormat,
    /// No banner
    #[arg(short, long, global = true, env = "XPS_QUIET", value_parser = BoolishValueParser::new())]
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
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_environment_variable() {
        let command = Arguments::command();
        // They ask for an answer instead of a server.
        let serves = |command: &&clap::Command| command.get_name() != "explain";
        let commands = std::iter::once(&command).chain(command.get_subcommands().filter(serves));
        let options = commands.flat_map(clap::Command::get_arguments).filter_map(|argument| {
            let long = argument.get_long()?;
            (long != "version").then_some((argument, long))
        });
        for (argument, long) in options {
            let expected = format!("XPS_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(expected.as_str()));
        }
    }

    #[test]
    fn every_command_is_documented() {
        let command = Arguments::command();
        let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(names, DOCUMENTED);
    }
}
