//! Limits and timeouts of one worker and of each of its connections.

use std::time::Duration;

use crate::buffer::PoolConfig;
use crate::driver::OffloadLimits;
use crate::file::store::StoreLimits;
use crate::http::HeadLimits;

/// Limits and timeouts of one worker and of each of its connections. A time of [`Duration::ZERO`]
/// means no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of concurrent connections per worker. At the limit, accepting pauses.
    pub connections_max: usize,
    /// Maximum number of TLS handshakes in progress per worker. With one more, the oldest is closed.
    /// 0 is taken for 1.
    pub handshakes_max: usize,
    /// Number of connections a worker serves in total. The worker ends with the last of them. 0: no
    /// limit.
    pub connections_total: u64,
    /// Number of bytes buffered per direction of a connection before reading from its source is
    /// paused. Bytes already in flight when it is paused are added to that.
    pub pipe_bytes_max: usize,
    /// Longest line that `reverse` reverses as a whole, in bytes.
    pub line_bytes_max: usize,
    /// Length of the kernel's accept queue per listener (`backlog` of `listen(2)`).
    pub backlog: i32,
    /// A connection without any traffic for this long is closed.
    pub idle_timeout: Duration,
    /// Timeout for connecting to one address of an upstream.
    pub connect_timeout: Duration,
    /// How long connections may continue after a graceful stop is requested.
    pub drain_timeout: Duration,
    /// How long the server goes on after a graceful stop is requested, while it says that it is not ready,
    /// before it stops accepting. Zero: it stops at once.
    pub drain_delay: Duration,
    /// How long a replacement process may take until it serves. After that it is killed.
    pub replace_timeout: Duration,
    /// Receive buffers of one worker.
    pub pool: PoolConfig,
    /// Limits of HTTP connections.
    pub http: HttpLimits,
    /// Limits of the file cache of one worker.
    pub store: StoreLimits,
    /// Limits of the threads for name look-ups, disk and computation, shared by all workers.
    pub offload: OffloadLimits,
}

impl Limits {
    /// How many more connections a worker may accept after `accepted` connections. `None`: no
    /// limit.
    pub const fn connections_left(&self, accepted: u64) -> Option<u64> {
        match self.connections_total {
            0 => None,
            total => Some(total.saturating_sub(accepted)),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            handshakes_max: 4096,
            connections_total: 0,
            pipe_bytes_max: 256 << 10,
            line_bytes_max: 64 << 10,
            backlog: 4096,
            idle_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            replace_timeout: Duration::from_secs(60),
            pool: PoolConfig::default(),
            http: HttpLimits::default(),
            store: StoreLimits::default(),
            offload: OffloadLimits::default(),
        }
    }
}

/// Limits of HTTP connections. A time of [`Duration::ZERO`] means no limit.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Maximum size of a request head.
    pub head: HeadLimits,
    /// Timeout for a request head: from its first byte to its last. The first head of a connection
    /// counts from the connection's start.
    pub head_timeout: Duration,
    /// How long an idle connection waits for its next request.
    pub keep_alive_timeout: Duration,
    /// How long an idle connection waits for its next request while the server is stopping. A
    /// request that arrives in this time is served as the last one.
    pub drain_idle_timeout: Duration,
    /// Timeout while a client reads nothing of a response. Also applies to either side of a proxied
    /// connection that reads nothing of the data that the other side sent before it aborted.
    pub send_timeout: Duration,
    /// Timeout for a request body that is discarded, from the response to the end of the body. Also
    /// the timeout while a client sends nothing of a body that is forwarded.
    pub body_timeout: Duration,
    /// Minimum rate at which a client must read a response: bytes per second, averaged over
    /// `send_timeout`. 0: no minimum.
    pub send_rate_min: u64,
    /// Minimum rate at which a client must send a body that is forwarded: bytes per second,
    /// averaged over `body_timeout`. 0: no minimum.
    pub upload_rate_min: u64,
    /// Maximum number of bytes of a request body that are read and discarded to keep the connection
    /// open. Beyond it the connection is closed.
    pub discard_bytes_max: u64,
    /// Maximum number of requests per connection. 0: no limit.
    pub requests_max: u32,
    /// Maximum number of interim responses (1xx) from an upstream to one request.
    pub interim_responses_max: u32,
    /// Limits of HTTP/2 connections.
    pub http2: Http2Limits,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_timeout: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(75),
            drain_idle_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_rate_min: 240,
            upload_rate_min: 240,
            discard_bytes_max: 256 << 10,
            requests_max: 0,
            interim_responses_max: 100,
            http2: Http2Limits::default(),
        }
    }
}

/// Limits of one HTTP/2 connection, in addition to those of [`HttpLimits`]. A client that exceeds one is
/// refused a stream or gets GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 7 and 10.5).
///
/// None of them can be switched off: each bounds work or memory that costs a client next to nothing to
/// ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Maximum number of concurrent streams (RFC 9113, 5.1.2), 1 to 10,000. A further request gets
    /// RST_STREAM with REFUSED_STREAM. A stream that is reset makes room at once: `early_resets` bounds
    /// how often (CVE-2023-44487, rapid reset).
    pub streams_max: u32,
    /// Bytes of request bodies that the streams of a connection may have in flight and unread, all
    /// together (RFC 9113, 5.2): 64 KiB to 2 GiB - 1. It bounds the memory for bodies that wait for a slow
    /// upstream.
    pub connection_window: u32,
    /// The part of it for one stream, in bytes: 16 KiB to 16 MiB. A connection keeps the one that it began with.
    pub stream_window: u32,
    /// Maximum number of RST_STREAM frames from the client per second (CVE-2019-9514, CVE-2023-44487).
    pub resets_per_second: u32,
    /// How many streams a client may reset before their responses began. One more is allowed with each
    /// second (CVE-2023-44487).
    pub early_resets: u32,
    /// How many streams a client may make the server reset by frames that are errors. Five more are
    /// allowed with each second (CVE-2025-8671, MadeYouReset).
    pub resets_emitted: u32,
    /// Maximum number of CONTINUATION frames of one header block (RFC 9113, 6.10; CVE-2024-27316).
    pub continuations_max: u32,
    /// Maximum number of PING frames per second (CVE-2019-9512).
    pub pings_per_second: u32,
    /// Maximum number of SETTINGS frames per second (CVE-2019-9515).
    pub settings_per_second: u32,
    /// Maximum number of DATA frames without data and without END_STREAM per second (CVE-2019-9518).
    pub empty_data_per_second: u32,
    /// How many other frames may be useless or wrong: for closed streams, malformed heads, requests above
    /// `streams_max` or `held_heads`. One more is allowed with each second.
    pub glitches_max: u32,
    /// Bytes of frames that are neither heads nor bodies, at least 16 KiB: frame heads, padding (RFC 9113,
    /// 6.1), PRIORITY and WINDOW_UPDATE. In addition eight bytes for every byte of heads and bodies, both ways (CVE-2019-9511,
    /// CVE-2019-9513).
    pub overhead_bytes: u64,
    /// Bytes of request heads that wait for a look-up or an upstream, at least 64 KiB, the largest head.
    /// A further request gets RST_STREAM with REFUSED_STREAM.
    pub held_heads: usize,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            streams_max: 100,
            connection_window: 256 << 10,
            stream_window: 64 << 10,
            resets_per_second: 100,
            early_resets: 50,
            resets_emitted: 500,
            continuations_max: 20,
            pings_per_second: 100,
            settings_per_second: 50,
            empty_data_per_second: 100,
            glitches_max: 100,
            overhead_bytes: 1 << 20,
            held_heads: 256 << 10,
        }
    }
}
