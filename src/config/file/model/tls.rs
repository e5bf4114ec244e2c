//! TLS options in the configuration file: of listeners, and what belongs to `https` in HTTP servers.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text::{AcmeDomain, AlpnProtocol, DirectoryUrl, Email, Hostname};
use crate::config::units::Period;
use crate::tls::{ChallengeKind, ClientAuthMode, MinVersion, ServerSettings};

/// TLS on a listener, with `certificates`, `acme` or both. Servers that share a listener have the same
/// options, except these two: the certificates of all servers are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The certificates. A client gets the first one that has the host name it asks for (SNI). The
    /// first in the list is the default, see `unknown_name`.
    #[schemars(length(min = 1))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateFiles>,
    /// Obtain certificates from an authority, and renew them.
    pub acme: Option<Acme>,
    /// The lowest version of TLS.
    pub min_version: TlsVersion,
    /// Certificates of clients. Default: clients are not asked for one.
    pub client_auth: Option<ClientAuth>,
    /// Application protocols (ALPN), the preferred one first. A client that offers only others is
    /// refused. HTTP servers speak `h2` (HTTP/2), `http/1.1` and `http/1.0`; `["http/1.1"]` switches HTTP/2
    /// off. Default: `["h2", "http/1.1", "http/1.0"]` in HTTP servers, none in TCP servers, which ignore
    /// what clients offer.
    pub alpn: Option<Vec<AlpnProtocol>>,
    /// Let clients resume sessions with tickets, which need no memory on the server. Each key
    /// encrypts tickets for 6 hours, and a ticket is accepted for 12 hours.
    pub tickets: bool,
    /// Number of sessions kept in memory for clients that resume without tickets. 0: none.
    pub session_cache: u32,
    /// What to do with clients that ask for no host name, or for one that no certificate has.
    pub unknown_name: UnknownName,
    /// What to do with requests for a host that the certificate which the client's name has selected
    /// does not have. With `client_auth`, requests for another server than that of the name get 421
    /// in any case.
    pub misdirected: Misdirected,
}

impl Default for Tls {
    fn default() -> Self {
        let ServerSettings { tickets, session_cache, .. } = ServerSettings::new(Vec::new());
        Self {
            certificates: Vec::new(),
            acme: None,
            min_version: TlsVersion::default(),
            client_auth: None,
            alpn: None,
            tickets,
            session_cache: u32::try_from(session_cache).unwrap_or(u32::MAX),
            unknown_name: UnknownName::default(),
            misdirected: Misdirected::default(),
        }
    }
}

/// A certificate and its private key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// File of the certificate, followed by those of its authorities (`fullchain.pem`).
    #[schemars(length(min = 1))]
    pub cert: PathBuf,
    /// File of the private key (PKCS#8, PKCS#1 or SEC1, not encrypted). Only the server should be
    /// able to read it. Default: the file `cert`, which then contains both.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub key: Option<PathBuf>,
}

/// Certificates that are obtained from an authority by ACME, and renewed: one for each host name. The
/// authority checks that each name leads here: by a request to port 80, which every HTTP server of this
/// process answers, or by a handshake on port 443. Setting this means that you agree to the terms of service of the
/// authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Acme {
    /// The host names. Default: the `hostnames` of the server.
    #[schemars(length(min = 1))]
    pub domains: Option<Vec<AcmeDomain>>,
    /// Where the authority may write to.
    pub email: Option<Email>,
    /// The authority's directory. Default: that of Let's Encrypt. For tests:
    /// `https://acme-staging-v02.api.letsencrypt.org/directory`, which has higher limits, and whose
    /// certificates no browser trusts.
    pub directory: DirectoryUrl,
    /// The folder of the account's key, the certificates and their keys. Several processes may share it.
    /// Default: `acme` in `$STATE_DIRECTORY`, which systemd sets, else `xps/acme` in `$XDG_STATE_HOME` or
    /// `~/.local/state`.
    #[schemars(length(min = 1))]
    pub storage: Option<PathBuf>,
    /// PEM file with the authorities that the server of the directory is trusted by. Default: those of the
    /// system.
    #[schemars(length(min = 1))]
    pub ca: Option<PathBuf>,
    /// How the authority checks the names. Default: `http-01` if there is an HTTP server without TLS, else
    /// `tls-alpn-01`; if both are possible, the other one after each failure.
    pub challenge: Option<AcmeChallenge>,
}

/// How an authority checks that a host name leads here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    /// By a request over HTTP on port 80.
    #[serde(rename = "http-01")]
    Http,
    /// By a handshake on port 443. The listener needs `alpn`, which HTTP servers have by default, and must
    /// not require certificates of clients.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

impl From<AcmeChallenge> for ChallengeKind {
    fn from(challenge: AcmeChallenge) -> Self {
        match challenge {
            AcmeChallenge::Http => Self::Http,
            AcmeChallenge::TlsAlpn => Self::TlsAlpn,
        }
    }
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// PEM file with the authorities whose certificates are accepted.
    #[schemars(length(min = 1))]
    pub ca: PathBuf,
    /// What happens to clients without a certificate. One with a certificate that is not accepted is
    /// always refused.
    #[serde(default)]
    pub mode: ClientAuthKind,
}

/// What happens to clients without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthKind {
    /// They are served.
    Request,
    /// They are refused.
    #[default]
    Require,
}

impl From<ClientAuthKind> for ClientAuthMode {
    fn from(kind: ClientAuthKind) -> Self {
        match kind {
            ClientAuthKind::Request => Self::Request,
            ClientAuthKind::Require => Self::Require,
        }
    }
}

/// The lowest version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// 1.3 only.
    #[serde(rename = "1.3")]
    Tls13,
}

impl From<TlsVersion> for MinVersion {
    fn from(version: TlsVersion) -> Self {
        match version {
            TlsVersion::Tls12 => Self::Tls12,
            TlsVersion::Tls13 => Self::Tls13,
        }
    }
}

/// What to do with clients that ask for no host name, or for one that no certificate has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownName {
    /// They get the first certificate. Clients that connect to an IP address ask for no name.
    #[default]
    Default,
    /// The handshake fails.
    Refuse,
}

impl From<UnknownName> for crate::tls::UnknownName {
    fn from(unknown_name: UnknownName) -> Self {
        match unknown_name {
            UnknownName::Default => Self::Default,
            UnknownName::Refuse => Self::Refuse,
        }
    }
}

/// What to do with requests for a host that the certificate of their connection does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misdirected {
    /// They get 421 (Misdirected Request), unless the client is in `trusted_proxies`.
    #[default]
    Refuse,
    /// They are served.
    Serve,
}

impl From<Misdirected> for crate::tls::Misdirected {
    fn from(misdirected: Misdirected) -> Self {
        match misdirected {
            Misdirected::Refuse => Self::Refuse,
            Misdirected::Serve => Self::Serve,
        }
    }
}

/// TLS of connections to upstreams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// Verify the certificates of upstreams. Without it, an attacker in the path can read and change
    /// everything.
    pub verify: bool,
    /// PEM file with the authorities that are trusted. Default: those of the system, or, if it has
    /// none, those of Mozilla.
    #[schemars(length(min = 1))]
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that the certificate must have. Default: the host of the
    /// upstream's address.
    pub server_name: Option<Hostname>,
    /// The certificate that is shown to upstreams that ask for one.
    pub certificate: Option<CertificateFiles>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { verify: true, ca: None, server_name: None, certificate: None }
    }
}

/// `Strict-Transport-Security` (RFC 6797): browsers use only `https` for this host, and do not let
/// their user ignore a certificate error.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsts {
    /// How long browsers remember it. 0: they forget it at once.
    pub max_age: Period,
    /// It applies to all host names beneath, too.
    pub include_subdomains: bool,
    /// The host may be in the lists that browsers come with.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        Self { max_age: Period(YEAR), include_subdomains: false, preload: false }
    }
}

impl Hsts {
    /// The value of the field.
    pub fn field(&self) -> String {
        let mut field = format!("max-age={}", self.max_age.0.as_secs());
        for (directive, is_set) in [("; includeSubDomains", self.include_subdomains), ("; preload", self.preload)] {
            field.push_str(if is_set { directive } else { "" });
        }
        field
    }
}

/// Whether the requests of a listener are redirected to `https`, and to which port: a boolean, or a
/// number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpsRedirect {
    /// They are served.
    #[default]
    Off,
    /// To port 443, which a URL need not name.
    Standard,
    /// To this port.
    Port(NonZeroU16),
}

impl HttpsRedirect {
    /// The URL of the redirect. `None`: there is none.
    pub fn url(self) -> Option<String> {
        match self {
            Self::Off => None,
            Self::Standard => Some("https://$host$path?$query".to_owned()),
            Self::Port(port) if port.get() == 443 => Self::Standard.url(),
            Self::Port(port) => Some(format!("https://$host:{port}$path?$query")),
        }
    }
}

impl JsonSchema for HttpsRedirect {
    fn schema_name() -> Cow<'static, str> {
        "HttpsRedirect".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "integer"], "minimum": 1, "maximum": 65535 })
    }
}

impl Serialize for HttpsRedirect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::Standard => serializer.serialize_bool(true),
            Self::Port(port) => serializer.serialize_u16(port.get()),
        }
    }
}

impl<'de> Deserialize<'de> for HttpsRedirect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RedirectVisitor)
    }
}

struct RedirectVisitor;

impl Visitor<'_> for RedirectVisitor {
    type Value = HttpsRedirect;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or a port")
    }

    fn visit_bool<E: Error>(self, is_on: bool) -> Result<HttpsRedirect, E> {
        Ok(if is_on { HttpsRedirect::Standard } else { HttpsRedirect::Off })
    }

    fn visit_u64<E: Error>(self, port: u64) -> Result<HttpsRedirect, E> {
        let port = u16::try_from(port).ok().and_then(NonZeroU16::new);
        port.map(HttpsRedirect::Port).ok_or_else(|| E::custom("not a port"))
    }
}
