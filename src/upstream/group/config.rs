//! What a group is told: plain data, filled in by the command line or a configuration file.

use std::time::Duration;

use crate::config::UpstreamAddress;
use crate::tcp::proxy_header::ProxyVersion;

/// The most endpoints of one group: what a [`EndpointId`](super::EndpointId) can name.
pub const ENDPOINTS_MAX: usize = u16::MAX as usize;

/// Several upstreams that serve the same, and how requests are spread over them.
#[derive(Clone, Debug, Default)]
pub struct GroupConfig {
    /// The upstreams; up to [`ENDPOINTS_MAX`], what is beyond is left out.
    pub endpoints: Vec<EndpointConfig>,
    /// Which endpoint takes a request.
    pub policy: Policy,
    /// When requests that fail take an endpoint out.
    pub passive: PassiveHealth,
    /// How the share of an endpoint that has come back grows.
    pub slow_start: SlowStart,
    /// Where requests wait while all endpoints are at their limit of connections.
    pub queue: QueueConfig,
    /// How endpoints are asked whether they are up; `None`: they are not asked.
    pub checks: Option<CheckConfig>,
    /// How often the names of endpoints are looked up again.
    pub resolve: ResolveInterval,
    /// Connections begin with a header of the PROXY protocol, and none carries requests of two clients.
    pub announce: Option<ProxyVersion>,
}

impl GroupConfig {
    /// Upstreams of equal weight, in turn.
    pub fn of(addresses: impl IntoIterator<Item = UpstreamAddress>) -> Self {
        Self { endpoints: addresses.into_iter().map(EndpointConfig::new).collect(), ..Self::default() }
    }
}

/// One upstream of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Where it is.
    pub address: UpstreamAddress,
    /// Its share of the requests, relative to the other endpoints' weights. Zero: it is being drained, and takes only
    /// requests that belong to it ([`BalanceKey::Sticky`](super::BalanceKey)).
    pub weight: u32,
    /// It is used only when every endpoint that is not a backup is down.
    pub is_backup: bool,
    /// Requests in flight there at a time, of one group; a server's workers have equal shares of it, at least one. 0: no
    /// limit.
    pub connections_max: usize,
}

impl EndpointConfig {
    /// An endpoint of weight 1, no backup, without a limit of connections.
    pub const fn new(address: UpstreamAddress) -> Self {
        Self { address, weight: 1, is_backup: false, connections_max: 0 }
    }
}

/// Which endpoint takes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// One after the other by weight, a heavy endpoint's turns spread evenly among the others'.
    #[default]
    RoundRobin,
    /// The endpoint with the fewest requests in flight for its weight; of equals, as in round robin.
    LeastConnections,
    /// The less loaded of two that are drawn by weight. Nearly as even as the least loaded of all, yet workers that know
    /// nothing of each other do not all run to the same endpoint.
    RandomOfTwo,
    /// Equal keys go to the same endpoint.
    Hash(HashSource),
    /// A cookie names the endpoint; a client without one gets the next as in round robin.
    Sticky {
        /// The cookie's name.
        cookie: String,
    },
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// The client's address, without its port: [`hash::of_client`](super::hash::of_client).
    Client,
    /// This field's value.
    Header(String),
    /// The path, without the query.
    Path,
}

/// When requests that fail take an endpoint out, and for how long. A group's only endpoint is never taken out so: there is
/// nobody else to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    /// So many failures in a row, and the endpoint is down; 0: never.
    pub failures: u32,
    /// How long it is left alone then, before one request may try it.
    pub back_off: Duration,
    /// The back-off doubles with each trial that fails, up to this. A trial without a verdict for so long no longer keeps
    /// others from trying.
    pub back_off_max: Duration,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { failures: 3, back_off: Duration::from_secs(1), back_off_max: Duration::from_secs(60) }
    }
}

/// How the share of an endpoint that has come back grows: from a tenth of its weight, linearly, to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart(pub Duration);

impl Default for SlowStart {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// Where requests wait while all endpoints are at their limit of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Requests of one worker that may wait at a time; beyond, they are refused.
    pub waiting_max: usize,
    /// How long a request may wait; zero: no limit. The sessions keep to it.
    pub timeout: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { waiting_max: 1024, timeout: Duration::from_secs(10) }
    }
}

/// How endpoints are asked whether they are up. Each worker asks for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckConfig {
    /// What an endpoint has to do.
    pub kind: CheckKind,
    /// From the beginning of one check to that of the next; a tenth more or less, so that checks spread.
    pub interval: Duration,
    /// How long each step of a check may take: looking the name up, connecting to an address, the answer.
    pub timeout: Duration,
    /// So many checks passed in a row bring an endpoint up that checks have taken down.
    pub rise: u32,
    /// So many failed ones in a row take it down.
    pub fall: u32,
}

/// What an endpoint has to do to pass a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// Take a connection.
    Connect,
    /// Answer a GET request with 2xx or 3xx.
    Http {
        /// The request's target, in origin form (RFC 9112, 3.2.1).
        target: String,
    },
}

/// How often the names of endpoints are looked up again; zero: never. Connections that there are go on whatever is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveInterval(pub Duration);

impl Default for ResolveInterval {
    /// 10 s: `getaddrinfo(3)` does not tell the record's own time to live, and a changed record should be noticed.
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}
