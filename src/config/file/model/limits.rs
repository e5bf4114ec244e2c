//! Limits of the configuration file, with the names they have in [`crate::config`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::buffer::PoolConfig;
use crate::config::units::{Period, Size};
use crate::{config, driver, file::store, http::HeadLimits};

/// Limits and timeouts of one worker and of each of its connections. A time of 0 means no limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum number of concurrent connections per worker. Further ones wait in the kernel's
    /// accept queue.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub connections_max: usize,
    /// Maximum number of TLS handshakes in progress per worker. With one more, the oldest is closed, so
    /// that clients that complete theirs are served.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub handshakes_max: usize,
    /// Maximum number of bytes buffered per direction of a connection while its receiver is slow.
    #[schemars(range(min = 1))]
    pub pipe_bytes_max: Size,
    /// Longest line that `reverse` reverses as a whole.
    #[schemars(range(min = 1))]
    pub line_bytes_max: Size,
    /// Length of the accept queue of a listener. The kernel limits it to `net.core.somaxconn`.
    #[schemars(range(min = 1))]
    pub backlog: i32,
    /// A connection without any traffic for this long is closed.
    pub idle_timeout: Period,
    /// Timeout for connecting to one address of an upstream.
    pub connect_timeout: Period,
    /// How long connections may continue after a graceful stop is requested.
    pub drain_timeout: Period,
    /// How long the server goes on after a graceful stop is requested, before it stops accepting.
    /// `/readyz` of the [metrics](#metrics) listener says 503 in this time, so that load balancers send
    /// no new clients. 0: it stops accepting at once.
    pub drain_delay: Period,
    /// How long a replacement process may take until it serves. After that it is killed, and this
    /// process continues.
    pub replace_timeout: Period,
    /// Receive buffers of one worker. Memory is allocated on demand. The more of it slow receivers
    /// occupy, the less each of them may occupy, down to one small buffer.
    pub pool: PoolLimits,
    /// Limits of HTTP connections.
    pub http: HttpLimits,
    /// Limits of HTTP/2 connections, in addition to those of HTTP.
    pub http2: Http2Limits,
    /// Limits of the file cache of one worker.
    pub store: StoreLimits,
    /// Limits of the offload threads.
    pub offload: OffloadLimits,
}

/// The receive buffers of one worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolLimits {
    /// Size of a small buffer, for messages. A multiple of 4 KiB.
    #[schemars(range(min = 4096), extend("multipleOf" = 4096))]
    pub small_bytes: Size,
    /// Size of a large buffer, for bulk data. A multiple of 4 KiB, limited to `pipe_bytes_max`.
    #[schemars(range(min = 4096), extend("multipleOf" = 4096))]
    pub large_bytes: Size,
    /// Maximum number of small buffers.
    #[schemars(range(min = 1, max = 65_536))]
    pub small_max: usize,
    /// Maximum number of large buffers.
    #[schemars(range(min = 1, max = 65_536))]
    pub large_max: usize,
}

/// Limits of HTTP connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpLimits {
    /// Maximum size of a request head. A larger one gets 431. At most 64k, since positions in a
    /// head are 16 bits. Response heads of upstreams have the same limit; a larger one results in
    /// 502.
    #[schemars(range(min = 1, max = 65_536))]
    pub head_bytes_max: Size,
    /// Maximum length of the request line. A longer one gets 414. At most 64k, like the head.
    #[schemars(range(min = 1, max = 65_536))]
    pub request_line_bytes_max: Size,
    /// Maximum number of fields in a head. At most 100.
    #[schemars(range(min = 1, max = 100))]
    pub fields_max: usize,
    /// Timeout for receiving a request head.
    pub head_timeout: Period,
    /// How long an idle connection waits for its next request.
    pub keep_alive_timeout: Period,
    /// How long an idle connection waits for its next request while the server is stopping. A
    /// request that arrives in this time is served as the last one.
    pub drain_idle_timeout: Period,
    /// Timeout while a client reads nothing of a response. Also applies to either side of a proxied
    /// connection that reads nothing of the data that the other side sent before it aborted.
    pub send_timeout: Period,
    /// Timeout for a request body that is discarded, from the response to the end of the body. Also
    /// the timeout while a client sends nothing of a body that is forwarded.
    pub body_timeout: Period,
    /// Minimum rate at which a client must read a response: bytes per second, averaged over
    /// `send_timeout`. 0: no minimum.
    pub send_rate_min: Size,
    /// Minimum rate at which a client must send a forwarded body: bytes per second, averaged over
    /// `body_timeout`. The time in which xps does not wait for the client is not counted. 0: no
    /// minimum, for example for clients that produce a body while they send it.
    pub upload_rate_min: Size,
    /// Maximum number of bytes of a request body that are read and discarded to keep the connection
    /// open. Beyond it the connection is closed.
    pub discard_bytes_max: Size,
    /// Maximum number of requests per connection. 0: no limit.
    pub requests_max: u32,
    /// Maximum number of interim responses (1xx) from an upstream to one request. More result in
    /// 502.
    pub interim_responses_max: u32,
}

/// Limits of one HTTP/2 connection, in addition to those of HTTP. A client that exceeds a limit gets
/// GOAWAY with ENHANCE_YOUR_CALM, unless the limit says otherwise. The defaults are far above what
/// browsers and gRPC clients do.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Limits {
    /// Maximum number of concurrent streams (RFC 9113, 5.1.2). A further request gets RST_STREAM with
    /// REFUSED_STREAM.
    #[schemars(range(min = 1, max = 10_000))]
    pub streams_max: u32,
    /// Bytes of request bodies that the streams may have in flight and unread, all together (RFC 9113,
    /// 5.2). More gets GOAWAY with FLOW_CONTROL_ERROR. At least 64k, at most 2^31-1.
    #[schemars(range(min = 65_536, max = 2_147_483_647))]
    pub connection_window: Size,
    /// The same of one stream, within `connection_window`. More gets RST_STREAM with FLOW_CONTROL_ERROR.
    /// From 16k to 16m.
    #[schemars(range(min = 16_384, max = 16_777_216))]
    pub stream_window: Size,
    /// Maximum number of streams that a client resets per second (CVE-2019-9514, CVE-2023-44487).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub resets_per_second: u32,
    /// Maximum number of streams that a client resets before their responses began (CVE-2023-44487). One
    /// more with each second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub early_resets: u32,
    /// Maximum number of streams that a client makes xps reset by errors (CVE-2025-8671). Five more with
    /// each second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub resets_emitted: u32,
    /// Maximum number of CONTINUATION frames of a head (RFC 9113, 6.10; CVE-2024-27316).
    #[schemars(range(min = 1, max = 1000))]
    pub continuations_max: u32,
    /// Maximum number of PING frames per second (CVE-2019-9512).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub pings_per_second: u32,
    /// Maximum number of SETTINGS frames per second (CVE-2019-9515).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub settings_per_second: u32,
    /// Maximum number of DATA frames per second that have no data and do not end their stream
    /// (CVE-2019-9518).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub empty_data_per_second: u32,
    /// Maximum number of frames that are useless or wrong: for closed streams, malformed heads, requests
    /// above `streams_max` or `held_heads`. One more with each second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub glitches_max: u32,
    /// Maximum number of bytes that are neither heads nor bodies, such as padding and frame heads, and
    /// eight more for every byte of heads and bodies (CVE-2019-9511, CVE-2019-9513). At least 16k.
    #[schemars(range(min = 16_384))]
    pub overhead_bytes: Size,
    /// Maximum size of request heads that wait for a file or an upstream. A further request gets RST_STREAM
    /// with REFUSED_STREAM. At least 64k, the largest `head_bytes_max`.
    #[schemars(range(min = 65_536))]
    pub held_heads: Size,
}

/// Limits of the file cache of one worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// How long a cached file is used before its path is opened again.
    pub valid_for: Period,
    /// How long after its last use a file stays cached and a served folder stays open (the folder
    /// for at least one second).
    pub idle_for: Period,
    /// Files up to this size are cached in memory. Larger ones are kept open.
    pub small_bytes_max: Size,
    /// Maximum number of cached files.
    pub entries_max: u32,
    /// Maximum number of files kept open that are not being sent.
    pub open_max: u32,
    /// Maximum memory for cached files.
    pub bytes_max: Size,
    /// Maximum total size of files that are being compressed at the same time. Further files are
    /// sent uncompressed.
    pub coding_bytes_max: Size,
}

/// Limits of the threads for work that would block a worker. Each kind of work has its own queue
/// and threads, shared by all workers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OffloadLimits {
    /// Maximum number of concurrent name look-ups. Requests for a name that is being looked up
    /// share the result.
    #[schemars(range(min = 1, max = 1024))]
    pub names_threads: usize,
    /// Maximum number of files and folders read at the same time where reading would block a
    /// worker.
    #[schemars(range(min = 1, max = 1024))]
    pub disk_threads: usize,
    /// Maximum number of concurrent compressions and sorts. They have a lower scheduling priority
    /// than everything else. One thread is reserved for small ones. 0: the number of processors, at
    /// least 2.
    #[schemars(range(min = 0, max = 1024))]
    pub computation_threads: usize,
    /// Maximum number of queued tasks of each kind. A further one fails.
    #[schemars(range(min = 1))]
    pub queue_max: usize,
    /// How long an idle thread is kept.
    pub idle_for: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&config::Limits::default())
    }
}

impl Default for PoolLimits {
    fn default() -> Self {
        Limits::default().pool
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        Limits::default().http
    }
}

impl Default for Http2Limits {
    fn default() -> Self {
        Limits::default().http2
    }
}

impl Default for StoreLimits {
    fn default() -> Self {
        Limits::default().store
    }
}

impl Default for OffloadLimits {
    fn default() -> Self {
        Limits::default().offload
    }
}

impl From<&config::Limits> for Limits {
    /// Destructures every field, so that the compiler reports a limit that is missing here.
    fn from(limits: &config::Limits) -> Self {
        let config::Limits {
            connections_max,
            handshakes_max,
            // Only for servers that end after a number of connections. One with a configuration
            // file does not.
            connections_total: _,
            pipe_bytes_max,
            line_bytes_max,
            backlog,
            idle_timeout,
            connect_timeout,
            drain_timeout,
            drain_delay,
            replace_timeout,
            pool: PoolConfig { small_bytes, large_bytes, small_max, large_max },
            http,
            store,
            offload:
                driver::OffloadLimits { names_threads, disk_threads, computation_threads, queue_max, idle_for: ends_after },
        } = *limits;
        let config::HttpLimits {
            head: HeadLimits { head_bytes_max, request_line_bytes_max, fields_max },
            head_timeout,
            keep_alive_timeout,
            drain_idle_timeout,
            send_timeout,
            body_timeout,
            send_rate_min,
            upload_rate_min,
            discard_bytes_max,
            requests_max,
            interim_responses_max,
            http2,
        } = http;
        let store::StoreLimits {
            valid_for,
            idle_for,
            small_bytes_max,
            entries_max,
            open_max,
            bytes_max,
            coding_bytes_max,
        } = store;
        Self {
            connections_max,
            handshakes_max,
            pipe_bytes_max: Size(pipe_bytes_max),
            line_bytes_max: Size(line_bytes_max),
            backlog,
            idle_timeout: Period(idle_timeout),
            connect_timeout: Period(connect_timeout),
            drain_timeout: Period(drain_timeout),
            drain_delay: Period(drain_delay),
            replace_timeout: Period(replace_timeout),
            pool: PoolLimits { small_bytes: Size(small_bytes), large_bytes: Size(large_bytes), small_max, large_max },
            http: HttpLimits {
                head_bytes_max: Size(head_bytes_max),
                request_line_bytes_max: Size(request_line_bytes_max),
                fields_max,
                head_timeout: Period(head_timeout),
                keep_alive_timeout: Period(keep_alive_timeout),
                drain_idle_timeout: Period(drain_idle_timeout),
                send_timeout: Period(send_timeout),
                body_timeout: Period(body_timeout),
                send_rate_min: Size(usize::try_from(send_rate_min).unwrap_or(usize::MAX)),
                upload_rate_min: Size(usize::try_from(upload_rate_min).unwrap_or(usize::MAX)),
                discard_bytes_max: Size(usize::try_from(discard_bytes_max).unwrap_or(usize::MAX)),
                requests_max,
                interim_responses_max,
            },
            http2: Http2Limits::from(&http2),
            store: StoreLimits {
                valid_for: Period(valid_for),
                idle_for: Period(idle_for),
                small_bytes_max: Size(usize::try_from(small_bytes_max).unwrap_or(usize::MAX)),
                entries_max,
                open_max,
                bytes_max: Size(bytes_max),
                coding_bytes_max: Size(usize::try_from(coding_bytes_max).unwrap_or(usize::MAX)),
            },
            offload: OffloadLimits {
                names_threads,
                disk_threads,
                computation_threads,
                queue_max,
                idle_for: Period(ends_after),
            },
        }
    }
}

impl From<&Limits> for config::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits { pool, http, http2, store, offload, .. } = limits;
        Self {
            connections_max: limits.connections_max,
            handshakes_max: limits.handshakes_max,
            connections_total: 0,
            pipe_bytes_max: limits.pipe_bytes_max.0,
            line_bytes_max: limits.line_bytes_max.0,
            backlog: limits.backlog,
            idle_timeout: limits.idle_timeout.0,
            connect_timeout: limits.connect_timeout.0,
            drain_timeout: limits.drain_timeout.0,
            drain_delay: limits.drain_delay.0,
            replace_timeout: limits.replace_timeout.0,
            pool: PoolConfig {
                small_bytes: pool.small_bytes.0,
                large_bytes: pool.large_bytes.0,
                small_max: pool.small_max,
                large_max: pool.large_max,
            },
            http: config::HttpLimits {
                head: HeadLimits {
                    head_bytes_max: http.head_bytes_max.0,
                    request_line_bytes_max: http.request_line_bytes_max.0,
                    fields_max: http.fields_max,
                },
                head_timeout: http.head_timeout.0,
                keep_alive_timeout: http.keep_alive_timeout.0,
                drain_idle_timeout: http.drain_idle_timeout.0,
                send_timeout: http.send_timeout.0,
                body_timeout: http.body_timeout.0,
                send_rate_min: http.send_rate_min.0 as u64,
                upload_rate_min: http.upload_rate_min.0 as u64,
                discard_bytes_max: http.discard_bytes_max.0 as u64,
                requests_max: http.requests_max,
                interim_responses_max: http.interim_responses_max,
                http2: config::Http2Limits::from(http2),
            },
            store: store::StoreLimits {
                valid_for: store.valid_for.0,
                idle_for: store.idle_for.0,
                small_bytes_max: store.small_bytes_max.0 as u64,
                entries_max: store.entries_max,
                open_max: store.open_max,
                bytes_max: store.bytes_max.0,
                coding_bytes_max: store.coding_bytes_max.0 as u64,
            },
            offload: driver::OffloadLimits {
                names_threads: offload.names_threads,
                disk_threads: offload.disk_threads,
                computation_threads: offload.computation_threads,
                queue_max: offload.queue_max,
                idle_for: offload.idle_for.0,
            },
        }
    }
}

impl From<&config::Http2Limits> for Http2Limits {
    fn from(limits: &config::Http2Limits) -> Self {
        let config::Http2Limits {
            streams_max,
            connection_window,
            stream_window,
            resets_per_second,
            early_resets,
            resets_emitted,
            continuations_max,
            pings_per_second,
            settings_per_second,
            empty_data_per_second,
            glitches_max,
            overhead_bytes,
            held_heads,
        } = *limits;
        Self {
            streams_max,
            connection_window: Size(connection_window as usize),
            stream_window: Size(stream_window as usize),
            resets_per_second,
            early_resets,
            resets_emitted,
            continuations_max,
            pings_per_second,
            settings_per_second,
            empty_data_per_second,
            glitches_max,
            overhead_bytes: Size(usize::try_from(overhead_bytes).unwrap_or(usize::MAX)),
            held_heads: Size(held_heads),
        }
    }
}

impl From<&Http2Limits> for config::Http2Limits {
    /// The schema's bounds of both windows fit.
    fn from(limits: &Http2Limits) -> Self {
        let window = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX >> 1);
        Self {
            streams_max: limits.streams_max,
            connection_window: window(limits.connection_window),
            stream_window: window(limits.stream_window),
            resets_per_second: limits.resets_per_second,
            early_resets: limits.early_resets,
            resets_emitted: limits.resets_emitted,
            continuations_max: limits.continuations_max,
            pings_per_second: limits.pings_per_second,
            settings_per_second: limits.settings_per_second,
            empty_data_per_second: limits.empty_data_per_second,
            glitches_max: limits.glitches_max,
            overhead_bytes: limits.overhead_bytes.0 as u64,
            held_heads: limits.held_heads.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{FIELDS_CEILING, HEAD_BYTES_CEILING};
    use crate::telemetry::metrics::Http2Limit;

    #[test]
    fn the_servers_own_bounds_survive_the_way_through_the_document() {
        let there = Limits::default();
        let back = config::Limits::from(&there);
        assert_eq!(format!("{back:?}"), format!("{:?}", config::Limits::default()));
    }

    #[test]
    fn the_most_that_the_schema_admits_is_what_the_parser_can_keep() {
        let http = &crate::config::file::SCHEMA["$defs"]["HttpLimits"]["properties"];
        let most = |key: &str| http[key]["maximum"].as_u64();
        assert_eq!(most("head_bytes_max"), Some(HEAD_BYTES_CEILING as u64));
        assert_eq!(most("request_line_bytes_max"), Some(HEAD_BYTES_CEILING as u64));
        assert_eq!(most("fields_max"), Some(FIELDS_CEILING as u64));
    }

    #[test]
    fn what_may_wait_of_http2_holds_the_largest_head() {
        let http2 = &crate::config::file::SCHEMA["$defs"]["Http2Limits"]["properties"];
        assert_eq!(http2["held_heads"]["minimum"].as_u64(), Some(HEAD_BYTES_CEILING as u64));
    }

    #[test]
    fn metrics_name_limits_of_http2_as_the_configuration_does() {
        let keys = crate::config::file::SCHEMA["$defs"]["Http2Limits"]["properties"].as_object().unwrap();
        let mut names = Http2Limit::ALL.map(Http2Limit::name);
        names.sort_unstable();
        let mut keys: Vec<&str> = keys.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(names.as_slice(), keys);
        assert!(Http2Limit::ALL.into_iter().enumerate().all(|(at, limit)| limit as usize == at));
    }
}
