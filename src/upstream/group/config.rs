//! Configuration of a group: plain data from the command line or the configuration file.

use std::time::Duration;

use super::checks::CheckConfig;
use crate::tcp::proxy_header::ProxyVersion;
use crate::telemetry::metrics::EndpointLabels;
use crate::tls::ClientSettings;
use crate::upstream::UpstreamAddress;

/// Maximum of endpoints per group: the range of [`EndpointId`](super::EndpointId).
pub const ENDPOINTS_MAX: usize = u16::MAX as usize;

/// Interchangeable upstreams, and how requests are balanced over them.
#[derive(Clone, Debug, Default)]
pub struct GroupConfig {
    /// The endpoints. Those beyond [`ENDPOINTS_MAX`] are ignored.
    pub endpoints: Vec<EndpointConfig>,
    /// How an endpoint is picked for a request.
    pub policy: Policy,
    /// When failed requests take an endpoint out.
    pub passive: PassiveHealth,
    /// How the share of an endpoint grows after it comes back up.
    pub slow_start: SlowStart,
    /// The queue for requests while every endpoint is at its connection limit.
    pub queue: QueueConfig,
    /// Active health checks; `None`: none.
    pub checks: Option<CheckConfig>,
    /// How often the names of endpoints are looked up.
    pub resolve: ResolveInterval,
    /// Each connection begins with a PROXY protocol header of this version, and carries requests of
    /// one client only. `None`: no header.
    pub announce: Option<ProxyVersion>,
    /// TLS of the endpoints whose address is over TLS.
    pub tls: ClientSettings,
    /// Its name for operators and in metrics. Groups of the same name share what an operator sets, and what
    /// is counted.
    pub name: String,
}

impl GroupConfig {
    /// Endpoints of equal weight, round robin. The group is named `upstreams`.
    pub fn of(addresses: impl IntoIterator<Item = UpstreamAddress>) -> Self {
        let endpoints = addresses.into_iter().map(EndpointConfig::new).collect();
        Self { endpoints, name: "upstreams".to_owned(), ..Self::default() }
    }

    /// What names the series of its endpoints, in their order.
    pub fn labels(&self) -> impl Iterator<Item = EndpointLabels> + '_ {
        let of = |endpoint: &EndpointConfig| EndpointLabels {
            group: self.name.clone(),
            address: endpoint.address.to_string(),
        };
        self.endpoints.iter().map(of)
    }
}

/// One endpoint of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Its address.
    pub address: UpstreamAddress,
    /// Its share of the requests, relative to the weights of the other endpoints. Zero: it is being
    /// drained, and takes only requests whose cookie names it
    /// ([`BalanceKey::Sticky`](super::BalanceKey)).
    pub weight: u32,
    /// A backup is used only when every endpoint that is not a backup is down.
    pub is_backup: bool,
    /// Maximum of requests in flight, per group. The server's workers have equal shares of it, at
    /// least one each. 0: no limit.
    pub connections_max: usize,
}

impl EndpointConfig {
    /// An endpoint of weight 1, no backup, without a connection limit.
    pub const fn new(address: UpstreamAddress) -> Self {
        Self { address, weight: 1, is_backup: false, connections_max: 0 }
    }
}

/// How an endpoint is picked for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Weighted round robin; the turns of a heavy endpoint are spread evenly among the others'.
    #[default]
    RoundRobin,
    /// The endpoint with the fewest requests in flight for its weight; among equals, round robin.
    LeastConnections,
    /// The less loaded of two endpoints drawn at random by weight. Nearly as even as least
    /// connections, but workers, which do not know each other's load, do not all pick the same
    /// endpoint.
    RandomOfTwo,
    /// Equal keys go to the same endpoint.
    Hash(HashSource),
    /// A cookie names the endpoint. A client without one gets the next endpoint in round robin.
    Sticky {
        /// The cookie's name.
        cookie: String,
    },
}

/// The part of a request that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashSource {
    /// The client's address, without its port: [`hash::of_client`](super::hash::of_client).
    Client,
    /// The value of this header field.
    Header(String),
    /// The path, without the query.
    Path,
}

/// Passive health checks: when failed requests take an endpoint out, and for how long. The only
/// endpoint of a group is never taken out, since no other could take its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    /// Failures in a row that take the endpoint down; 0: never.
    pub failures: u32,
    /// Time without requests before one request may try the endpoint.
    pub back_off: Duration,
    /// Upper limit of the back-off, which doubles with each failed trial. A trial without a verdict
    /// for this long no longer keeps other requests from trying.
    pub back_off_max: Duration,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { failures: 3, back_off: Duration::from_secs(1), back_off_max: Duration::from_secs(60) }
    }
}

/// Slow start: the share of an endpoint that has come back up grows linearly from a tenth of its
/// weight to all of it in this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowStart(pub Duration);

impl Default for SlowStart {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// The queue for requests while every endpoint is at its connection limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Maximum of waiting requests per worker; further ones fail.
    pub waiting_max: usize,
    /// Queue timeout; zero: no limit. The sessions enforce it.
    pub timeout: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { waiting_max: 1024, timeout: Duration::from_secs(10) }
    }
}

/// Interval of the look-ups of endpoint names; zero: never. Open connections are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolveInterval(pub Duration);

impl Default for ResolveInterval {
    /// 10 s: `getaddrinfo(3)` does not return the record's TTL, and a changed record should be
    /// noticed.
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}
