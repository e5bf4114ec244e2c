//! The servers behind a proxy, and how one of them is chosen.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy::ProxyProtocol;
use super::text::{RequestTarget, Token, UpstreamAddressText};
use crate::config::units::Period;

/// The servers behind a proxy, of HTTP or of TCP, and how one of them is chosen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupOptions {
    /// Where to: `"host:port"`, `"unix:/path"`, or an object with an `address` and more.
    pub upstreams: Vec<Upstream>,
    /// How an upstream is chosen.
    pub load_balancing: LoadBalancing,
    /// For `header_hash`: the field whose value decides. Requests without it are sent to each in turn.
    pub hash_header: Option<Token>,
    /// For `sticky_cookie`: the cookie that names the upstream.
    pub cookie_name: Token,
    /// How it is found out which upstreams are well.
    pub health_check: HealthCheck,
    /// How long connecting may take. Without it: `limits.connect_timeout`.
    pub connect_timeout: Option<Period>,
    /// How many upstreams are tried for one request or connection, the first included, where nothing is lost by that.
    #[schemars(range(min = 1))]
    pub tries: u32,
    /// Who waits when every upstream has its `max_connections`.
    pub queue: Queue,
    /// Connections to upstreams begin with a header of the PROXY protocol.
    pub send_proxy_protocol: Option<ProxyProtocol>,
    /// How often the names of upstreams are looked up again. 0: never.
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
            resolve_interval: Period(Duration::from_secs(10)),
        }
    }
}

/// One of the servers behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "UpstreamForm")]
pub struct Upstream {
    /// Where it is.
    pub address: UpstreamAddressText,
    /// Its share, in proportion to the others'.
    pub weight: u32,
    /// It is used only when no other is well.
    pub backup: bool,
    /// Requests (of a TCP proxy: connections) there at a time, of this route; each worker has an equal share, at least one.
    /// 0: no limit.
    pub max_connections: u32,
}

/// An upstream: its address alone, or an object.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Upstream")]
pub enum UpstreamForm {
    /// `"host:port"`, with brackets around an IPv6 address, or `"unix:/path"`.
    Address(UpstreamAddressText),
    /// With more to say about it.
    Detailed(DetailedUpstream),
}

/// An upstream with more than an address.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetailedUpstream {
    /// Where it is: `"host:port"`, with brackets around an IPv6 address, or `"unix:/path"`.
    pub address: UpstreamAddressText,
    /// Its share, in proportion to the others'.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65_535))]
    pub weight: u32,
    /// It is used only when no other is well.
    #[serde(default)]
    pub backup: bool,
    /// Requests (of a TCP proxy: connections) there at a time, of this route; each worker has an equal share, at least one.
    /// 0: no limit.
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

/// How an upstream is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// In turn, each as often as the others. Each worker has turns of its own; they begin at different upstreams.
    #[default]
    RoundRobin,
    /// In turn, each as often as its `weight` says.
    WeightedRoundRobin,
    /// The one with the fewest connections for its `weight`.
    LeastConn,
    /// The one with fewer connections of two that are drawn.
    RandomTwo,
    /// By the client's address: always the same one, as long as it is well.
    IpHash,
    /// By the value of the field `hash_header`.
    HeaderHash,
    /// By the request's path.
    PathHash,
    /// By a cookie, `cookie_name`, that xps gives to those who come without.
    StickyCookie,
}

/// How it is found out which upstreams are well.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// By asking them, whether or not there are requests. Without it: they are not asked.
    pub active: Option<ActiveCheck>,
    /// By what becomes of requests.
    pub passive: PassiveCheck,
}

/// How upstreams are asked whether they are well.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ActiveCheck {
    /// What counts as an answer.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// For `http`: what is asked for.
    pub path: RequestTarget,
    /// From one check to the next.
    #[schemars(range(min = 0.001))]
    pub interval: Period,
    /// How long an answer may take.
    #[schemars(range(min = 0.001))]
    pub timeout: Period,
    /// After so many good answers in a row it is well again.
    #[schemars(range(min = 1))]
    pub rise: u32,
    /// After so many bad ones in a row it no longer is.
    #[schemars(range(min = 1))]
    pub fall: u32,
}

impl Default for ActiveCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            path: RequestTarget("/".into()),
            interval: Period(Duration::from_secs(5)),
            timeout: Period(Duration::from_secs(2)),
            rise: 2,
            fall: 3,
        }
    }
}

/// What counts as an answer to a health check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// The connection comes about.
    #[default]
    Tcp,
    /// A GET request for `path` is answered with 2xx or 3xx.
    Http,
}

/// What is concluded from failed requests. Clients may know requests that fail at will, so these never take out all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PassiveCheck {
    /// After so many failures in a row an upstream is left alone. A request counts once, at however many upstreams it fails.
    /// While no other is up, those that were left alone are tried all the same, the least bad first: only `active` checks
    /// take out all. 0: never.
    pub failures: u32,
    /// For how long; doubled each time that it fails again.
    pub backoff: Period,
    /// For how long after that its share grows from little to all. 0: it has all at once.
    pub slow_start: Period,
}

impl Default for PassiveCheck {
    fn default() -> Self {
        Self { failures: 3, backoff: Period(Duration::from_secs(1)), slow_start: Period(Duration::from_secs(10)) }
    }
}

/// Who waits when every upstream has its `max_connections`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// How many, of one worker; more are refused.
    pub max: u32,
    /// How long; then they are refused.
    pub timeout: Period,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max: 1024, timeout: Period(Duration::from_secs(5)) }
    }
}
