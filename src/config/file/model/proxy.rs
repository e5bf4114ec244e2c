//! How requests are passed on over HTTP.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::FieldRules;
use super::text::{HostRule, PathPrefix, Token, Via};
use super::upstream::GroupOptions;
use crate::config::units::{Period, Size};

/// How requests are passed on to upstreams.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxyOptions {
    /// Which upstreams there are, and how one is chosen.
    #[serde(flatten)]
    pub group: GroupOptions,
    /// Idle connections to upstreams that are kept for further requests.
    pub keepalive: Keepalive,
    /// How long an upstream may take nothing of a request, not begin its answer, or send nothing of it. Interim answers (1xx)
    /// do not begin it. 0: no limit.
    pub response_timeout: Period,
    /// The largest body of a request; a larger one is refused with 413. 0: no limit.
    pub max_body_size: Size,
    /// The `Host` field that upstreams see: `keep` for the client's, `upstream` for the upstream's address, or any other
    /// host.
    pub host: HostRule,
    /// This is taken away from the path's begin. What follows stays as it came, but where the request spells the begin
    /// otherwise the whole path is decoded, normalised and escaped anew.
    pub strip_prefix: Option<PathPrefix>,
    /// This is put in the place of `strip_prefix`, or, without that, of `req_path`.
    pub replace_prefix: Option<PathPrefix>,
    /// What becomes of `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`.
    pub forwarded: Forwarded,
    /// `Forwarded` (RFC 7239) tells of the client, too, unless `forwarded` is `off`.
    pub forwarded_field: bool,
    /// What becomes of fields with `_` in their name. Applications behind CGI, FastCGI or WSGI cannot tell `X_Real_IP` from
    /// `X-Real-IP`. So one that they would take for a field of the connection or the framing, for one of those that tell of
    /// the client (unless `forwarded` is `off`), or for one that `request_headers` sets or removes, is never passed on.
    pub underscore_fields: UnderscoreFields,
    /// The name under which xps adds itself to `Via`, or `off`.
    pub via: Via,
    /// Connections may change to another protocol, such as WebSocket.
    pub upgrade: bool,
    /// Changes to the fields of requests.
    pub request_headers: FieldRules,
    /// Changes to the fields of answers.
    pub response_headers: FieldRules,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            group: GroupOptions::default(),
            keepalive: Keepalive::default(),
            response_timeout: Period(Duration::from_secs(60)),
            max_body_size: Size(0),
            host: HostRule::Keep,
            strip_prefix: None,
            replace_prefix: None,
            forwarded: Forwarded::Append,
            forwarded_field: false,
            underscore_fields: UnderscoreFields::Pass,
            via: Via::As(Token("xps".into())),
            upgrade: true,
            request_headers: FieldRules::default(),
            response_headers: FieldRules::default(),
        }
    }
}

/// Idle connections to upstreams that are kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// How many to one address, of one worker. 0: none.
    pub idle_max: u32,
    /// How long. 0: until the upstream closes them.
    pub idle_timeout: Period,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle_max: 64, idle_timeout: Period(Duration::from_secs(60)) }
    }
}

/// What becomes of the fields that tell where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    /// The client's address is added, to what `trusted_proxies` said; what others said is left out.
    #[default]
    Append,
    /// They tell of the client alone.
    Replace,
    /// They are passed on as they are.
    Off,
}

/// What becomes of the other fields with `_` in their name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreFields {
    /// All others are passed on.
    #[default]
    Pass,
    /// No field with `_` in its name is passed on.
    Drop,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}
