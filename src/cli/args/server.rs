//! Options of the commands that serve, in groups: a command has the groups that it uses.
//!
//! Each option corresponds to a key of the configuration file and is applied to that key: over the
//! defaults for a command without a file, over the file for `xps run`. So no option has a default of
//! its own here; [`DEFAULTS`] lists the defaults for help.

use std::sync::LazyLock;

use clap::builder::{BoolishValueParser, RangedU64ValueParser};
use clap::{Args, ValueEnum};

use crate::buffer::PoolConfig;
use crate::config::Limits;
use crate::config::file::{self, File, FileMode, UringFeature};
use crate::config::units::{Period, Size};
use crate::driver::Feature;
use crate::limit::WhenFull;

/// Options that correspond to keys of the configuration file.
pub trait Settings {
    /// Replaces values of the document by those of the options that were given.
    fn apply(&self, file: &mut File);
}

/// Replaces a value if the option was given.
fn set<T>(key: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *key = value;
    }
}

/// Options of every server.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    #[command(flatten)]
    pub backend: BackendOptions,
    /// Number of worker threads [default: the processors this process may use]
    ///
    /// Each worker has its own ring, buffers and connections; the kernel distributes new connections
    /// among the workers. The default counts the processors of the affinity mask, or fewer if the
    /// control group has a CPU quota.
    #[arg(long, env = "XPS_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Pin each worker to a processor
    #[arg(long, env = "XPS_PIN_WORKERS", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true, value_parser = BoolishValueParser::new())]
    pub pin_workers: Option<bool>,
    /// Maximum concurrent connections, of all workers together; 0: 65536 for each worker
    #[arg(long, env = "XPS_MAX_CONNECTIONS", value_name = "N", help_heading = LIMITS)]
    pub max_connections: Option<u32>,
    /// Maximum connections that wait to be accepted (listen backlog)
    ///
    /// The kernel caps it at net.core.somaxconn; `xps probe` shows that limit.
    #[arg(long, env = "XPS_BACKLOG", value_name = "N", help_heading = LIMITS,
          value_parser = RangedU64ValueParser::<i32>::new().range(1..=i32::MAX as u64))]
    pub backlog: Option<i32>,
    /// Maximum memory for the receive buffers of one worker
    ///
    /// One eighth is for large buffers, which carry bulk data. The memory is allocated when needed.
    /// The more of it slow receivers hold, the less each of them may hold, down to one small buffer.
    #[arg(long, env = "XPS_BUFFERS", value_name = "SIZE", help_heading = LIMITS, value_parser = Size::parse_buffers)]
    pub buffers: Option<Size>,

    /// Close a connection that transfers no byte for this long; 0: never
    #[arg(long, env = "XPS_IDLE_TIMEOUT", value_name = "TIME", help_heading = TIME_OUTS)]
    pub idle_timeout: Option<Period>,
    /// Let connections continue at most this long after a stop request; 0: no limit
    #[arg(long, env = "XPS_DRAIN_TIMEOUT", value_name = "TIME", help_heading = TIME_OUTS)]
    pub drain_timeout: Option<Period>,
}

const LIMITS: &str = "Limits";
const TIME_OUTS: &str = "Time-outs";

impl Settings for ServerOptions {
    fn apply(&self, file: &mut File) {
        self.backend.apply(file);
        file.workers = self.workers.or(file.workers);
        set(&mut file.pin_workers, self.pin_workers);
        if let Some(connections) = self.max_connections {
            file.max_connections = connections;
            // One worker may have all of them, unless the file limits it.
            if file.limits.connections_max == Limits::default().connections_max {
                file.limits.connections_max = file.limits.connections_max.max(connections as usize);
            }
        }
        set(&mut file.limits.backlog, self.backlog);
        if let Some(memory) = self.buffers {
            share_memory(memory, &mut file.limits.pool);
        }
        set(&mut file.limits.idle_timeout, self.idle_timeout);
        set(&mut file.limits.drain_timeout, self.drain_timeout);
    }
}

/// Unix sockets to listen on.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct SocketOptions {
    /// Octal permissions of unix socket files, which decide who may connect [default: by the umask]
    #[arg(long, env = "XPS_SOCKET_MODE", value_name = "MODE")]
    pub socket_mode: Option<FileMode>,
}

impl Settings for SocketOptions {
    /// Applies to the unix sockets of a document. A command that takes addresses as arguments sets
    /// the mode itself.
    fn apply(&self, file: &mut File) {
        for listener in file.servers.iter_mut().flat_map(|server| &mut server.listeners) {
            if let file::ListenTarget::Unix { mode, .. } = &mut listener.target {
                *mode = self.socket_mode.or(*mode);
            }
        }
    }
}

/// Choice of the driver and of its optional parts.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct BackendOptions {
    /// I/O back-end
    #[arg(long, env = "XPS_BACKEND", value_name = "NAME")]
    pub backend: Option<BackendName>,
    #[command(flatten)]
    pub uring: UringOptions,
}

impl Settings for BackendOptions {
    fn apply(&self, file: &mut File) {
        set(&mut file.backend, self.backend.map(file::Backend::from));
        let off = &self.uring.uring_off;
        set(&mut file.uring_off, off.as_ref().map(|off| off.iter().copied().map(UringFeature).collect()));
    }
}

/// Choice of io_uring features.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct UringOptions {
    /// Disable these optional io_uring features; `xps probe` lists them
    ///
    /// Use it to measure what a feature gains, or to avoid a bug in a kernel. Every feature has a
    /// fallback.
    #[arg(long, env = "XPS_URING_OFF", value_name = "NAME,…", value_delimiter = ',')]
    pub uring_off: Option<Vec<Feature>>,
}

/// The drivers, by their names on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendName {
    /// io_uring if available, else epoll with the reason in the log
    Auto,
    /// io_uring; fail if it is unavailable
    #[value(name = "io_uring", alias = "io-uring", alias = "uring")]
    IoUring,
    /// epoll
    Epoll,
}

impl From<BackendName> for file::Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::IoUring => Self::IoUring,
            BackendName::Epoll => Self::Epoll,
        }
    }
}

/// Options of services that relay in two directions.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = LIMITS)]
pub struct PipeOptions {
    /// Maximum bytes held for one direction of a connection while its receiver is slow
    #[arg(long, env = "XPS_PIPE_SIZE", value_name = "SIZE", value_parser = Size::parse_positive)]
    pub pipe_size: Option<Size>,
}

impl Settings for PipeOptions {
    fn apply(&self, file: &mut File) {
        set(&mut file.limits.pipe_bytes_max, self.pipe_size);
    }
}

/// Options of services that read lines.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = LIMITS)]
pub struct LineOptions {
    /// Longest line that `reverse` reverses in one piece
    #[arg(long, env = "XPS_LINE_MAX", value_name = "SIZE", value_parser = Size::parse_positive)]
    pub line_max: Option<Size>,
}

impl Settings for LineOptions {
    fn apply(&self, file: &mut File) {
        set(&mut file.limits.line_bytes_max, self.line_max);
    }
}

/// What clients of HTTP may speak without TLS.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct H2cOption {
    /// Also speak HTTP/2 without TLS, to clients that begin with its preface
    #[arg(long, env = "XPS_H2C", value_parser = BoolishValueParser::new())]
    pub h2c: bool,
}

/// Time limit for connecting to upstreams.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = TIME_OUTS)]
pub struct ConnectTimeout {
    /// Give up connecting to an upstream's address after this long; 0: never
    #[arg(long, env = "XPS_CONNECT_TIMEOUT", value_name = "TIME")]
    pub connect_timeout: Option<Period>,
}

impl Settings for ConnectTimeout {
    /// Also overrides the time of routes and servers that set their own.
    fn apply(&self, file: &mut File) {
        let Some(timeout) = self.connect_timeout else { return };
        file.limits.connect_timeout = timeout;
        for server in &mut file.servers {
            let routes = server.routes.iter_mut().map(|route| &mut route.proxy.group);
            routes.chain([&mut server.tcp.group]).for_each(|group| group.connect_timeout = None);
        }
    }
}

/// Limits of HTTP connections.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct HttpOptions {
    /// What to do with new connections once a limit is reached
    #[arg(long, env = "XPS_WHEN_FULL", value_name = "WHAT", help_heading = LIMITS)]
    pub when_full: Option<WhenFull>,
    /// Refuse a request whose head is larger than this; at most 64k
    #[arg(long, env = "XPS_HEAD_SIZE", value_name = "SIZE", value_parser = Size::parse_head)]
    pub head_size: Option<Size>,
    /// Refuse a request whose head takes longer than this; 0: never
    #[arg(long, env = "XPS_HEAD_TIMEOUT", value_name = "TIME")]
    pub head_timeout: Option<Period>,
    /// Close a connection that sends no request for this long; 0: never
    #[arg(long, env = "XPS_KEEP_ALIVE_TIMEOUT", value_name = "TIME")]
    pub keep_alive_timeout: Option<Period>,
    /// Close a connection that sends no request for this long while the server drains; 0: only at the end of --drain-timeout
    #[arg(long, env = "XPS_DRAIN_IDLE_TIMEOUT", value_name = "TIME")]
    pub drain_idle_timeout: Option<Period>,
    /// Close the connection when the client reads nothing for this long; without HTTP, only once the other side is gone; 0: never
    #[arg(long, env = "XPS_SEND_TIMEOUT", value_name = "TIME", help_heading = TIME_OUTS)]
    pub send_timeout: Option<Period>,
    /// Close the connection when a request body that is discarded takes longer than this, or one that is forwarded pauses for this long; 0: never
    #[arg(long, env = "XPS_BODY_TIMEOUT", value_name = "TIME")]
    pub body_timeout: Option<Period>,
    /// Close the connection when the client reads fewer bytes of a response per second, averaged over --send-timeout; 0: never
    #[arg(long, env = "XPS_SEND_RATE", value_name = "SIZE")]
    pub send_rate: Option<Size>,
    /// Maximum requests on one connection; 0: no limit
    #[arg(long, env = "XPS_MAX_REQUESTS", value_name = "N")]
    pub max_requests: Option<u32>,
}

impl Settings for HttpOptions {
    fn apply(&self, file: &mut File) {
        set(
            &mut file.when_full,
            self.when_full.map(|when_full| match when_full {
                WhenFull::Wait => file::WhenFull::Wait,
                WhenFull::Refuse => file::WhenFull::Refuse,
            }),
        );
        let http = &mut file.limits.http;
        set(&mut http.head_bytes_max, self.head_size);
        set(&mut http.head_timeout, self.head_timeout);
        set(&mut http.keep_alive_timeout, self.keep_alive_timeout);
        set(&mut http.drain_idle_timeout, self.drain_idle_timeout);
        set(&mut http.send_timeout, self.send_timeout);
        set(&mut http.body_timeout, self.body_timeout);
        set(&mut http.send_rate_min, self.send_rate);
        set(&mut http.requests_max, self.max_requests);
    }
}

/// Limits of request bodies that are forwarded.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct UploadOptions {
    /// Close the connection when the client sends fewer bytes of a forwarded body per second, averaged over --body-timeout; 0: never
    #[arg(long, env = "XPS_UPLOAD_RATE", value_name = "SIZE")]
    pub upload_rate: Option<Size>,
}

impl Settings for UploadOptions {
    fn apply(&self, file: &mut File) {
        set(&mut file.limits.http.upload_rate_min, self.upload_rate);
    }
}

/// Options of servers that can have every kind of service. The demonstration uses them, and `xps run`
/// with further groups.
#[derive(Args, Clone, Debug, Default)]
pub struct AllOptions {
    #[command(flatten)]
    pub server: ServerOptions,
    #[command(flatten)]
    pub pipe: PipeOptions,
    #[command(flatten)]
    pub line: LineOptions,
    #[command(flatten)]
    pub http: HttpOptions,
}

impl Settings for AllOptions {
    fn apply(&self, file: &mut File) {
        let Self { server, pipe, line, http } = self;
        let all: [&dyn Settings; 4] = [server, pipe, line, http];
        all.iter().for_each(|group| group.apply(file));
    }
}

/// Gives one eighth of the memory to large buffers: the server can run without large buffers, but not
/// without small ones. Large buffers get more once the number of small ones is at its maximum.
fn share_memory(memory: Size, pool: &mut file::PoolLimits) {
    let count = |memory: usize, bytes: Size| (memory / bytes.0).clamp(1, POOL_BUFFERS_MAX);
    pool.small_max = count(7 * (memory.0 / 8), pool.small_bytes);
    let rest = memory.0.saturating_sub(pool.small_max * pool.small_bytes.0);
    pool.large_max = count(rest, pool.large_bytes);
}

/// The pool numbers the buffers of a size in 16 bits.
const POOL_BUFFERS_MAX: usize = 1 << 16;

/// The pool's own bounds, in bytes.
fn default_buffers() -> Size {
    let pool = PoolConfig::default();
    Size(pool.small_bytes * pool.small_max + pool.large_bytes * pool.large_max)
}

/// Defaults of options that are not given, for commands without a file, by the option's field name.
pub static DEFAULTS: LazyLock<[(&str, String); 19]> = LazyLock::new(|| {
    let limits = Limits::default();
    let http = &limits.http;
    let time = |time| Period(time).to_string();
    [
        ("backend", "auto".to_owned()),
        ("max_connections", File::default().max_connections.to_string()),
        ("backlog", limits.backlog.to_string()),
        ("buffers", default_buffers().to_string()),
        ("idle_timeout", time(limits.idle_timeout)),
        ("drain_timeout", time(limits.drain_timeout)),
        ("pipe_size", Size(limits.pipe_bytes_max).to_string()),
        ("line_max", Size(limits.line_bytes_max).to_string()),
        ("connect_timeout", time(limits.connect_timeout)),
        ("when_full", "wait".to_owned()),
        ("head_size", Size(http.head.head_bytes_max).to_string()),
        ("head_timeout", time(http.head_timeout)),
        ("keep_alive_timeout", time(http.keep_alive_timeout)),
        ("drain_idle_timeout", time(http.drain_idle_timeout)),
        ("send_timeout", time(http.send_timeout)),
        ("body_timeout", time(http.body_timeout)),
        ("send_rate", http.send_rate_min.to_string()),
        ("upload_rate", http.upload_rate_min.to_string()),
        ("max_requests", http.requests_max.to_string()),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units::{BUFFERS_BYTES_MAX, BUFFERS_BYTES_MIN};

    fn pool_of(memory: Size) -> file::PoolLimits {
        let mut pool = file::PoolLimits::default();
        share_memory(memory, &mut pool);
        pool
    }

    #[test]
    fn the_memory_that_is_asked_for_by_default_is_the_pool_s_own() {
        let pool = pool_of(default_buffers());
        let own = PoolConfig::default();
        assert_eq!((pool.small_max, pool.large_max), (own.small_max, own.large_max));
    }

    #[test]
    fn the_least_and_the_most_memory_make_pools_within_their_bounds() {
        let least = pool_of(Size(BUFFERS_BYTES_MIN));
        assert!(least.small_max > 0 && least.large_max > 0, "{least:?}");
        let most = pool_of(Size(BUFFERS_BYTES_MAX));
        assert_eq!((most.small_max, most.large_max), (POOL_BUFFERS_MAX, POOL_BUFFERS_MAX));
        for memory in [64 << 20, 3 << 30, BUFFERS_BYTES_MAX] {
            let pool = pool_of(Size(memory));
            let unused = memory - pool.small_max * pool.small_bytes.0 - pool.large_max * pool.large_bytes.0;
            assert!(unused < pool.large_bytes.0, "{unused} of {memory} bytes are cut off");
        }
    }

    #[test]
    fn an_option_that_is_not_given_leaves_the_document_as_it_is() {
        let mut file = File::default();
        let before = format!("{file:?}");
        AllOptions::default().apply(&mut file);
        assert_eq!(format!("{file:?}"), before);
    }
}
