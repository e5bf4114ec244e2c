//! The bounds, under the names that [`crate::config`] gives them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::buffer::PoolConfig;
use crate::config::units::{Period, Size};
use crate::{config, driver, file::store, http::HeadLimits};

/// The bounds of one worker and of each of its connections. A time of 0 means: no limit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections one worker serves at a time; more wait in the kernel.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub connections_max: usize,
    /// Bytes that one direction of a connection may hold while its receiver is slow.
    #[schemars(range(min = 1))]
    pub pipe_bytes_max: Size,
    /// The longest line that `reverse` keeps in one piece.
    #[schemars(range(min = 1))]
    pub line_bytes_max: Size,
    /// Connections that may wait to be accepted. The kernel takes at most `net.core.somaxconn`.
    #[schemars(range(min = 1))]
    pub backlog: i32,
    /// A connection on which no byte moves for so long is closed.
    pub idle_timeout: Period,
    /// How long connecting to one address of an upstream may take.
    pub connect_timeout: Period,
    /// How long connections may go on after a stop was asked for.
    pub drain_timeout: Period,
    /// How long a new process that is to take this one's place may take until it serves. Then it is killed, and this one goes
    /// on.
    pub replace_timeout: Period,
    /// Receive buffers of one worker. The memory is taken as it is needed. The more of it slow receivers hold, the less each
    /// of them may hold, down to one small buffer.
    pub pool: PoolLimits,
    /// HTTP connections.
    pub http: HttpLimits,
    /// Files that one worker has at hand.
    pub store: StoreLimits,
    /// The threads beside the workers.
    pub offload: OffloadLimits,
}

/// The receive buffers of one worker.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolLimits {
    /// Bytes of a small buffer, for messages: whole pages of 4 KiB.
    #[schemars(range(min = 4096), extend("multipleOf" = 4096))]
    pub small_bytes: Size,
    /// Bytes of a large buffer, for bulk: whole pages of 4 KiB. None is larger than `pipe_bytes_max`.
    #[schemars(range(min = 4096), extend("multipleOf" = 4096))]
    pub large_bytes: Size,
    /// The most small buffers there may be.
    #[schemars(range(min = 1, max = 65_536))]
    pub small_max: usize,
    /// The most large buffers there may be.
    #[schemars(range(min = 1, max = 65_536))]
    pub large_max: usize,
}

/// The bounds of HTTP connections.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpLimits {
    /// The largest head of a request; a larger one is refused with 431. At most 64k: positions in a head are 16 bits. Heads
    /// of upstreams' answers have the same limits; a larger one is answered with 502.
    #[schemars(range(min = 1, max = 65_536))]
    pub head_bytes_max: Size,
    /// The longest request line; a longer one is refused with 414. At most 64k, as for the head that it is in.
    #[schemars(range(min = 1, max = 65_536))]
    pub request_line_bytes_max: Size,
    /// The most fields of a head; 100 at most.
    #[schemars(range(min = 1, max = 100))]
    pub fields_max: usize,
    /// How long a head may take.
    pub head_timeout: Period,
    /// How long a connection may wait for its next request.
    pub keep_alive_timeout: Period,
    /// How long it may wait for it once the server is stopping. A request that comes within is answered, as the last.
    pub drain_idle_timeout: Period,
    /// How long a client may take nothing of an answer, and either side nothing of what the other had sent before it broke off.
    pub send_timeout: Period,
    /// How long the body of a request that nobody wants may take, and how long a client may send nothing of one that is
    /// passed on.
    pub body_timeout: Period,
    /// How much of an answer a client must take each second, on average over `send_timeout`. 0: any number of bytes.
    pub send_rate_min: Size,
    /// How much of a body that is passed on a client must send each second, on average over `body_timeout`, while that is
    /// waited for. 0: any number of bytes, as for bodies that are sent as they come about.
    pub upload_rate_min: Size,
    /// Bodies that nobody wants are read to their end up to so many bytes; beyond, the connection is closed.
    pub discard_bytes_max: Size,
    /// Requests on one connection; 0: no limit.
    pub requests_max: u32,
    /// Interim responses (1xx) of an upstream to one request; more are answered with 502.
    pub interim_responses_max: u32,
}

/// The bounds of the files that one worker has at hand.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// For how long a file is used before its path is opened again.
    pub valid_for: Period,
    /// How long after its last use a file is kept, and a served folder held open, the latter for a second at least.
    pub idle_for: Period,
    /// Files up to so many bytes are kept in memory, larger ones open.
    pub small_bytes_max: Size,
    /// The most files kept.
    pub entries_max: u32,
    /// The most files kept open that nobody is being sent.
    pub open_max: u32,
    /// The most memory that files may hold.
    pub bytes_max: Size,
    /// The most bytes of files that are being compressed at the same time; beyond that, files are sent as they are.
    pub coding_bytes_max: Size,
}

/// The threads for what would hold up connections: one lane for each kind of work, shared by all workers.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OffloadLimits {
    /// The most names that are looked up at the same time. Requests for a name that is being looked up share the answer.
    #[schemars(range(min = 1, max = 1024))]
    pub names_threads: usize,
    /// The most files and folders that are read at the same time where the system would make a worker wait.
    #[schemars(range(min = 1, max = 1024))]
    pub disk_threads: usize,
    /// The most compressions and sorts at the same time, with lower priority than everything else. All but one may be of
    /// large files. 0: as many as there are processors, at least 2.
    #[schemars(range(min = 0, max = 1024))]
    pub computation_threads: usize,
    /// Tasks that may wait for a thread of their kind; a further one fails.
    #[schemars(range(min = 1))]
    pub queue_max: usize,
    /// How long a thread without work is kept.
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
    /// Names every one of them, so that none can be forgotten here.
    fn from(limits: &config::Limits) -> Self {
        let config::Limits {
            connections_max,
            // Of servers that end by themselves; one that has a file does not.
            connections_total: _,
            pipe_bytes_max,
            line_bytes_max,
            backlog,
            idle_timeout,
            connect_timeout,
            drain_timeout,
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
            pipe_bytes_max: Size(pipe_bytes_max),
            line_bytes_max: Size(line_bytes_max),
            backlog,
            idle_timeout: Period(idle_timeout),
            connect_timeout: Period(connect_timeout),
            drain_timeout: Period(drain_timeout),
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
        let Limits { pool, http, store, offload, .. } = limits;
        Self {
            connections_max: limits.connections_max,
            connections_total: 0,
            pipe_bytes_max: limits.pipe_bytes_max.0,
            line_bytes_max: limits.line_bytes_max.0,
            backlog: limits.backlog,
            idle_timeout: limits.idle_timeout.0,
            connect_timeout: limits.connect_timeout.0,
            drain_timeout: limits.drain_timeout.0,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{FIELDS_CEILING, HEAD_BYTES_CEILING};

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
}
