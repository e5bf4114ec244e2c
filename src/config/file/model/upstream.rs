//! Upstream groups: the upstreams of a proxy, and how one is chosen.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::FieldValues;
use super::proxy::ProxyProtocol;
use super::text::{HostField, RequestTarget, Token, UpstreamAddressText};
use super::tls::UpstreamTls;
use crate::config::units::Period;
use crate::upstream::group::StatusRange;

/// The upstreams of an HTTP or TCP proxy, and how one is chosen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupOptions {
    /// The upstreams: each `"host:port"`, `"unix:/path"`, or an object with an `address` and
    /// options.
    pub upstreams: Vec<Upstream>,
    /// Load-balancing policy.
    pub load_balancing: LoadBalancing,
    /// For `header_hash`: the request field to hash. Requests without it are distributed
    /// round-robin.
    pub hash_header: Option<Token>,
    /// For `sticky_cookie`: the name of the cookie that identifies the upstream.
    pub cookie_name: Token,
    /// Health checks of upstreams.
    pub health_check: HealthCheck,
    /// Timeout for connecting to an upstream address. Default: `limits.connect_timeout`.
    pub connect_timeout: Option<Period>,
    /// Maximum number of upstreams tried for one request or connection, including the first.
    /// Another is tried only if no data is lost by it.
    #[schemars(range(min = 1))]
    pub tries: u32,
    /// Queue for requests while every upstream is at its `max_connections`.
    pub queue: Queue,
    /// Begin connections to upstreams with a PROXY protocol header of this version.
    pub send_proxy_protocol: Option<ProxyProtocol>,
    /// TLS of the upstreams whose address begins with `https://`.
    pub upstream_tls: UpstreamTls,
    /// How often the names of upstreams are resolved again. 0: never.
    pub resolve_interval: Period,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            load_balancing: LoadBalancing::RoundRobin,
            hash_header: None,
            cookie_name: Token("xps_upstream".into()),
            health_check: HealthCheck::default(),
            connect_timeout: None,
            tries: 3,
            queue: Queue::default(),
            send_proxy_protocol: None,
            upstream_tls: UpstreamTls::default(),
            resolve_interval: Period(Duration::from_secs(10)),
        }
    }
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "UpstreamForm")]
pub struct Upstream {
    pub address: UpstreamAddressText,
    /// Weight: the share of requests, relative to the other upstreams.
    pub weight: u32,
    /// Backup: used only when no other upstream is healthy.
    pub backup: bool,
    /// Maximum number of concurrent requests (for a TCP proxy: connections) from this route. It is
    /// divided equally among the workers, at least one each. 0: no limit.
    pub max_connections: u32,
}

/// An upstream: its address, or an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Upstream")]
pub enum UpstreamForm {
    /// `"host:port"`, with brackets around an IPv6 address, or `"unix:/path"`.
    Address(UpstreamAddressText),
    /// An address with options.
    Detailed(DetailedUpstream),
}

/// An upstream with options.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailedUpstream {
    /// Address: `"host:port"`, with brackets around an IPv6 address, or `"unix:/path"`.
    pub address: UpstreamAddressText,
    /// Weight: the share of requests, relative to the other upstreams.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub weight: u32,
    /// Backup: used only when no other upstream is healthy.
    #[serde(default)]
    pub backup: bool,
    /// Maximum number of concurrent requests (for a TCP proxy: connections) from this route. It is
    /// divided equally among the workers, at least one each. 0: no limit.
    #[serde(default)]
    pub max_connections: u32,
}

const fn one() -> u32 {
    1
}

impl From<UpstreamForm> for Upstream {
    fn from(form: UpstreamForm) -> Self {
        match form {
            UpstreamForm::Address(address) => Self { address, weight: one(), backup: false, max_connections: 0 },
            UpstreamForm::Detailed(DetailedUpstream { address, weight, backup, max_connections }) => {
                Self { address, weight, backup, max_connections }
            }
        }
    }
}

/// Load-balancing policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// Each upstream in turn. Every worker has its own rotation; the workers start at different
    /// upstreams.
    #[default]
    RoundRobin,
    /// Each upstream in turn, in proportion to its `weight`.
    WeightedRoundRobin,
    /// The upstream with the fewest connections in proportion to its `weight`.
    LeastConn,
    /// Of two upstreams chosen at random, the one with fewer connections.
    RandomTwo,
    /// Hash of the client's address. Same upstream while it is healthy.
    IpHash,
    /// Hash of the value of the field `hash_header`.
    HeaderHash,
    /// Hash of the request's path.
    PathHash,
    /// The upstream named by the cookie `cookie_name`. xps sets the cookie for clients that do not
    /// send it.
    StickyCookie,
}

/// Health checks of upstreams.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// Active checks: probes sent to upstreams, independent of requests. Default: none.
    pub active: Option<ActiveCheck>,
    /// Passive checks: based on the outcome of requests.
    pub passive: PassiveCheck,
}

/// Active health checks: probes sent to each upstream. The workers share them: an upstream gets one
/// check per `interval`, whatever the number of workers, and of routes with the same check.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActiveCheck {
    /// Type of the probe.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// For `http`: the request target.
    pub path: RequestTarget,
    /// For `http`: the method.
    pub method: CheckMethod,
    /// For `http`: the `Host` field, for an application that serves only hosts that it knows. Default:
    /// the upstream's address. The name of a certificate is set by `upstream_tls`.
    pub host: Option<HostField>,
    /// For `http`: further fields of the request. `User-Agent` replaces that of xps.
    #[schemars(extend("propertyNames" = { "format": "token" }))]
    pub headers: BTreeMap<Token, FieldValues>,
    /// For `http`: the statuses that are a success: a number, a class such as `"2xx"`, a range such as
    /// `"200-399"`, or a list of these.
    pub status: ExpectedStatus,
    /// For `http`: a text that has to occur in the first 64 KiB of the response's body. Not with
    /// `"method": "HEAD"`. Default: the body does not matter.
    #[schemars(length(min = 1, max = 256))]
    pub body: Option<String>,
    /// Time between two checks of one upstream.
    #[schemars(range(min = 0.001))]
    pub interval: Period,
    /// Timeout of one check.
    #[schemars(range(min = 0.001))]
    pub timeout: Period,
    /// Number of consecutive successful checks after which the upstream is healthy again.
    #[schemars(range(min = 1))]
    pub rise: u32,
    /// Number of consecutive failed checks after which the upstream is unhealthy.
    #[schemars(range(min = 1))]
    pub fall: u32,
}

impl Default for ActiveCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            path: RequestTarget("/".into()),
            method: CheckMethod::Get,
            host: None,
            headers: BTreeMap::new(),
            status: ExpectedStatus::Text(StatusRange::SUCCESS_OR_REDIRECT),
            body: None,
            interval: Period(Duration::from_secs(5)),
            timeout: Period(Duration::from_secs(2)),
            rise: 2,
            fall: 3,
        }
    }
}

/// Type of a health check's probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Successful if a connection is established.
    #[default]
    Tcp,
    /// Successful if a request for `path` gets a response with an expected `status`, and with the
    /// `body` if there is one.
    Http,
}

/// Method of a health check's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckMethod {
    /// The usual method.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// The response has no body.
    #[serde(rename = "HEAD")]
    Head,
}

/// Statuses: one, a class, a range, or a list of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ExpectedStatus {
    /// A status.
    Code(#[schemars(range(min = 200, max = 599))] u16),
    /// A class or a range.
    Text(StatusRange),
    /// A list.
    Several(#[schemars(length(min = 1))] Vec<StatusForm>),
}

/// A status, a class of statuses or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StatusForm {
    /// A status.
    Code(#[schemars(range(min = 200, max = 599))] u16),
    /// A class or a range.
    Text(StatusRange),
}

impl ExpectedStatus {
    /// The ranges. Numbers that are no status have been rejected, and are left out.
    pub fn ranges(&self) -> Vec<StatusRange> {
        match self {
            Self::Code(code) => StatusForm::Code(*code).range().into_iter().collect(),
            Self::Text(range) => vec![*range],
            Self::Several(several) => several.iter().filter_map(|form| form.range()).collect(),
        }
    }
}

impl StatusForm {
    const fn range(self) -> Option<StatusRange> {
        match self {
            Self::Code(code) => StatusRange::new(code, code),
            Self::Text(range) => Some(range),
        }
    }
}

/// Passive health checks: failed requests take an upstream out. They never take out all upstreams,
/// since a client may be able to make requests fail on purpose.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassiveCheck {
    /// Number of consecutive failures after which an upstream is taken out for `backoff`. A request
    /// counts as one failure, however many upstreams it fails at. If no upstream is left, those
    /// taken out are tried anyway, the least bad first; only `active` checks take out all. 0:
    /// never.
    pub failures: u32,
    /// How long an upstream is taken out. Doubles each time it fails again.
    pub backoff: Period,
    /// Slow start: time in which the share of an upstream that is back grows from a tenth of its
    /// weight to all of it. 0: all of it at once.
    pub slow_start: Period,
}

impl Default for PassiveCheck {
    fn default() -> Self {
        Self { failures: 3, backoff: Period(Duration::from_secs(1)), slow_start: Period(Duration::from_secs(10)) }
    }
}

/// Queue for requests while every upstream is at its `max_connections`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// Maximum number of waiting requests per worker. Further ones are rejected.
    pub max: u32,
    /// Maximum waiting time. After it the request is rejected.
    pub timeout: Period,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 1024, timeout: Period(Duration::from_secs(5)) }
    }
}
