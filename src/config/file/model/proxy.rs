//! Options of proxy routes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::FieldRules;
use super::text::{HostRule, PathPrefix, Token, Via};
use super::upstream::GroupOptions;
use crate::config::units::{Period, Size};

/// Options of proxy routes: how requests are forwarded to upstreams.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProxyOptions {
    /// The upstreams, and how one is chosen.
    #[serde(flatten)]
    pub group: GroupOptions,
    /// Idle upstream connections kept for further requests.
    pub keepalive: Keepalive,
    /// Timeout while an upstream reads nothing of the request, has not begun its response, or sends
    /// nothing of it. An interim response (1xx) does not count as its beginning. 0: no limit.
    pub response_timeout: Period,
    /// Maximum size of a request body. A larger one gets 413. 0: no limit.
    pub max_body_size: Size,
    /// The `Host` field sent to upstreams: `keep` for the client's, `upstream` for the upstream's
    /// address, or a fixed host.
    pub host: HostRule,
    /// Prefix to remove from the path. The rest is forwarded unchanged. Exception: if the request
    /// spells the prefix differently, for example percent-encoded, the whole path is decoded,
    /// normalised and encoded again.
    pub strip_prefix: Option<PathPrefix>,
    /// Prefix that replaces `strip_prefix`, or `req_path` if `strip_prefix` is not set.
    pub replace_prefix: Option<PathPrefix>,
    /// Handling of `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host` and `Forwarded`.
    pub forwarded: Forwarded,
    /// Also send `Forwarded` (RFC 7239), unless `forwarded` is `off`.
    pub forwarded_field: bool,
    /// Handling of request fields with `_` in their name. CGI, FastCGI and WSGI applications cannot
    /// distinguish `X_Real_IP` from `X-Real-IP`. A field with `_` is therefore never forwarded if
    /// its name with `-` is a connection or framing field, a field about the client (unless
    /// `forwarded` is `off`), or a field that `request_headers` sets or removes.
    pub underscore_fields: UnderscoreFields,
    /// Handling of `X-Request-Id`, by which a request can be found in the logs of several servers. The
    /// access log has the id that the upstream gets.
    pub request_id: RequestId,
    /// The request field with the subject of the client's certificate (RFC 4514, as `CN=client,O=Example`).
    /// A client's own field of this name is removed, also if it shows no certificate or does not use TLS.
    /// Certificates need `client_auth` of `tls`.
    pub client_cert_header: Option<Token>,
    /// The name that xps adds to `Via`, or `off`.
    pub via: Via,
    /// Allow upgrades to another protocol, such as WebSocket.
    pub upgrade: bool,
    /// Changes to the fields of requests.
    pub request_headers: FieldRules,
    /// Changes to the fields of responses.
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
            request_id: RequestId::Keep,
            client_cert_header: None,
            via: Via::As(Token("xps".into())),
            upgrade: true,
            request_headers: FieldRules::default(),
            response_headers: FieldRules::default(),
        }
    }
}

/// Idle upstream connections that are kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keepalive {
    /// Maximum number per upstream address and worker. 0: none.
    pub idle_max: u32,
    /// How long an idle connection is kept. 0: until the upstream closes it.
    pub idle_timeout: Period,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle_max: 64, idle_timeout: Period(Duration::from_secs(60)) }
    }
}

/// Handling of the fields that say where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forwarded {
    /// The client's address is appended to values from `trusted_proxies`. Values from other clients
    /// are removed.
    #[default]
    Append,
    /// Existing values are replaced by those of the client.
    Replace,
    /// The fields are forwarded unchanged.
    Off,
}

/// Handling of the other fields with `_` in their name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnderscoreFields {
    /// All others are forwarded.
    #[default]
    Pass,
    /// No field with `_` in its name is forwarded.
    Drop,
}

/// Handling of `X-Request-Id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestId {
    /// The client's field is forwarded, if there is one.
    #[default]
    Keep,
    /// A request gets an id of 32 hexadecimal digits if its client sent none, or one that is longer than
    /// 128 bytes or has other than visible characters.
    Add,
    /// Every request gets such an id. The client's is removed.
    Replace,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary. Of clients over TLS, it also says what they have agreed on: version, cipher
    /// suite, server name, ALPN, and the common name of their certificate.
    V2,
}
