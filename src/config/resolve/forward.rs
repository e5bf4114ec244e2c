//! The configuration of proxies and upstream groups.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ResolveError, Resolver, refused};
use crate::config::file::{
    ActiveCheck, CheckKind as Asked, CheckMethod as Method, FieldRules, FieldValues, Forwarded, GroupOptions,
    HostField, HostRule, LoadBalancing, ProxyOptions, ProxyProtocol, RequestId, Route, Token, UnderscoreFields,
    UpstreamAddressText, Via,
};
use crate::config::{ForwardConfig, Limits, UPSTREAM_HTTP_PROTOCOLS, UpstreamAddress};
use crate::http::forward::{
    Authority, FieldLine, FieldName, ForwardedRule, PathRule, Pseudonym, RequestIdRule, RequestRules, ResponseRules,
    UnderscoreRule,
};
use crate::http::forward::{FieldRules as ForwardFields, HostRule as ForwardHost};
use crate::tcp::proxy_header::ProxyVersion;
use crate::upstream::group::{
    CheckConfig, CheckKind, CheckMethod, EndpointConfig, GroupConfig, HashSource, HttpCheck, PassiveHealth, Policy,
    QueueConfig, ResolveInterval, SlowStart,
};
use crate::upstream::{ConnectPolicy, KeepAlive};

impl Resolver<'_> {
    /// Configuration of a proxy route.
    pub(super) fn forward(
        self,
        options: &ProxyOptions,
        route: &Route,
        limits: &Limits,
    ) -> Result<ForwardConfig, ResolveError> {
        let path = match (&options.strip_prefix, &options.replace_prefix) {
            (None, None) => PathRule::Keep,
            (Some(strip), None) => PathRule::Strip(strip.0.clone()),
            (strip, Some(with)) => {
                PathRule::Replace { prefix: strip.as_ref().unwrap_or(&route.req_path).0.clone(), with: with.0.clone() }
            }
        };
        let host = match &options.host {
            HostRule::Keep => ForwardHost::Keep,
            HostRule::Upstream => ForwardHost::Upstream,
            HostRule::Literal(host) => ForwardHost::Literal(Authority::new(host).map_err(|bad| refused(host, bad))?),
        };
        let via = match &options.via {
            Via::Off => None,
            Via::As(name) => Some(Pseudonym::new(&name.0).map_err(|bad| refused(&name.0, bad))?),
        };
        let ConnectPolicy { tries_max, connect_timeout } = connect_policy(&options.group, limits);
        Ok(ForwardConfig {
            group: self.group(&options.group, &UPSTREAM_HTTP_PROTOCOLS)?,
            tries_max,
            connect_timeout,
            response_timeout: options.response_timeout.0,
            keep_alive: KeepAlive {
                idle_max: options.keepalive.idle_max as usize,
                idle_timeout: match options.keepalive.idle_timeout.0 {
                    // Kept until the upstream closes them.
                    Duration::ZERO => Duration::from_secs(365 * 24 * 3600),
                    timeout => timeout,
                },
            },
            request: RequestRules {
                host,
                forwarded: match options.forwarded {
                    Forwarded::Append => ForwardedRule::Append,
                    Forwarded::Replace => ForwardedRule::Replace,
                    Forwarded::Off => ForwardedRule::Off,
                },
                forwarded_field: options.forwarded_field,
                via,
                client_subject: match &options.client_cert_header {
                    Some(name) => Some(FieldName::new(&name.0).map_err(|bad| refused(&name.0, bad))?),
                    None => None,
                },
                fields: field_rules(&options.request_headers)?,
                underscores: match options.underscore_fields {
                    UnderscoreFields::Pass => UnderscoreRule::Pass,
                    UnderscoreFields::Drop => UnderscoreRule::Drop,
                },
                request_id: match options.request_id {
                    RequestId::Keep => RequestIdRule::Keep,
                    RequestId::Add => RequestIdRule::Add,
                    RequestId::Replace => RequestIdRule::Replace,
                },
                path,
            },
            response: ResponseRules { fields: field_rules(&options.response_headers)?, ..ResponseRules::default() },
            upgrades: options.upgrade,
            body_bytes_max: options.max_body_size.0 as u64,
        })
    }

    /// Configuration of an upstream group.
    /// `alpn`: the application protocol that is spoken over TLS.
    pub(super) fn group(self, options: &GroupOptions, alpn: &[&str]) -> Result<GroupConfig, ResolveError> {
        let text = |token: &Option<Token>| token.as_ref().map(|token| token.0.clone()).unwrap_or_default();
        let endpoints = options.upstreams.iter().map(|upstream| {
            Ok(EndpointConfig {
                address: self.upstream(&upstream.address)?,
                weight: upstream.weight,
                is_backup: upstream.backup,
                connections_max: upstream.max_connections as usize,
            })
        });
        Ok(GroupConfig {
            // The caller knows where it is.
            name: String::new(),
            endpoints: endpoints.collect::<Result<_, ResolveError>>()?,
            policy: match options.load_balancing {
                LoadBalancing::RoundRobin | LoadBalancing::WeightedRoundRobin => Policy::RoundRobin,
                LoadBalancing::LeastConn => Policy::LeastConnections,
                LoadBalancing::RandomTwo => Policy::RandomOfTwo,
                LoadBalancing::IpHash => Policy::Hash(HashSource::Client),
                LoadBalancing::HeaderHash => Policy::Hash(HashSource::Header(text(&options.hash_header))),
                LoadBalancing::PathHash => Policy::Hash(HashSource::Path),
                LoadBalancing::StickyCookie => Policy::Sticky { cookie: options.cookie_name.0.clone() },
            },
            passive: PassiveHealth {
                failures: options.health_check.passive.failures,
                back_off: options.health_check.passive.backoff.0,
                ..PassiveHealth::default()
            },
            slow_start: SlowStart(options.health_check.passive.slow_start.0),
            queue: QueueConfig { waiting_max: options.queue.max as usize, timeout: options.queue.timeout.0 },
            checks: options.health_check.active.as_ref().map(checks).transpose()?,
            resolve: ResolveInterval(options.resolve_interval.0),
            tls: self.upstream_tls(&options.upstream_tls, alpn),
            announce: options.send_proxy_protocol.map(|version| match version {
                ProxyProtocol::V1 => ProxyVersion::V1,
                ProxyProtocol::V2 => ProxyVersion::V2,
            }),
        })
    }

    fn upstream(self, UpstreamAddressText(address): &UpstreamAddressText) -> Result<UpstreamAddress, ResolveError> {
        Ok(match address {
            UpstreamAddress::Tcp { .. } => address.clone(),
            UpstreamAddress::Unix(path) => UpstreamAddress::Unix(self.socket(path.as_ref())?),
        })
    }
}

/// How many upstreams are tried, and the timeout of each.
pub(super) fn connect_policy(options: &GroupOptions, limits: &Limits) -> ConnectPolicy {
    ConnectPolicy {
        tries_max: options.tries,
        connect_timeout: options.connect_timeout.map_or(limits.connect_timeout, |period| period.0),
    }
}

fn checks(active: &ActiveCheck) -> Result<CheckConfig, ResolveError> {
    Ok(CheckConfig {
        kind: match active.kind {
            Asked::Tcp => CheckKind::Connect,
            Asked::Http => CheckKind::Http(Box::new(http_check(active)?)),
        },
        interval: active.interval.0,
        timeout: active.timeout.0,
        rise: active.rise,
        fall: active.fall,
    })
}

fn http_check(active: &ActiveCheck) -> Result<HttpCheck, ResolveError> {
    let authority = |host: &HostField| Authority::new(&host.0).map_err(|bad| refused(&host.0, bad));
    Ok(HttpCheck {
        target: active.path.0.clone(),
        method: match active.method {
            Method::Get => CheckMethod::Get,
            Method::Head => CheckMethod::Head,
        },
        host: active.host.as_ref().map(authority).transpose()?,
        fields: field_lines(&active.headers)?,
        status: active.status.ranges(),
        body: active.body.clone(),
    })
}

fn field_rules(rules: &FieldRules) -> Result<ForwardFields, ResolveError> {
    let names = rules.remove.iter().map(|name| FieldName::new(&name.0).map_err(|bad| refused(&name.0, bad)));
    let (set, add) = (field_lines(&rules.set)?, field_lines(&rules.add)?);
    Ok(ForwardFields { set, add, remove: names.collect::<Result<_, _>>()? })
}

fn field_lines(fields: &BTreeMap<Token, FieldValues>) -> Result<Vec<FieldLine>, ResolveError> {
    let each = fields.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    each.map(|(name, value)| FieldLine::new(&name.0, value).map_err(|bad| refused(&name.0, bad))).collect()
}
