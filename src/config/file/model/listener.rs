//! Listeners of the configuration file.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{FileMode, ListenHost};
use super::tls::{HttpsRedirect, Tls};

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ListenerForm", into = "ListenerForm")]
pub struct Listener {
    pub target: ListenTarget,
    /// Whether connections begin with a PROXY protocol header.
    pub accept_proxy_protocol: bool,
    pub tls: Option<Tls>,
    /// Whether clients without TLS may speak HTTP/2.
    pub h2c: bool,
    /// Whether its requests are redirected to `https`.
    pub redirect_to_https: HttpsRedirect,
}

/// Address of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTarget {
    /// An IP address and a TCP port. 0: the kernel chooses the port.
    Tcp(IpAddr, u16),
    /// A unix socket.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Permissions of the socket's file. To connect, a client needs write permission.
        mode: Option<FileMode>,
    },
}

/// An address to listen on: `host` and `port`, or `unix`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub struct ListenerForm {
    /// IPv4 or IPv6 address, `localhost`, or `*` for all IPv4 addresses. Default: `*`.
    pub host: Option<ListenHost>,
    /// TCP port. 0: the kernel chooses one.
    pub port: Option<u16>,
    /// Path of a unix socket, instead of `host` and `port`.
    #[schemars(length(min = 1, max = 107))]
    pub unix: Option<PathBuf>,
    /// Permissions of the unix socket, in octal, for example `"0660"`. Default: set by the umask.
    pub mode: Option<FileMode>,
    /// Connections begin with a PROXY protocol header, version 1 or 2, which contains the client's
    /// address and, in version 2, what it has agreed on with the proxy over TLS. They are used only if the
    /// sender is in `trusted_proxies`.
    pub accept_proxy_protocol: bool,
    /// TLS on this listener. An HTTP server on it serves `https`. Default: plain text.
    pub tls: Option<Tls>,
    /// HTTP/2 without TLS, beside HTTP/1.1: a client that begins with the preface of HTTP/2 speaks it
    /// (RFC 9113, 3.3). `Upgrade: h2c` is ignored. Over TLS, `alpn` chooses instead.
    pub h2c: bool,
    /// Redirect all requests of an HTTP server to `https`, on this listener only (308). `true`: to
    /// port 443; a number: to that port.
    pub redirect_to_https: HttpsRedirect,
}

/// The listener has neither an address nor a path, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a listener has either `host` and `port`, or `unix`")]
pub struct AmbiguousListenTarget;

impl TryFrom<ListenerForm> for Listener {
    type Error = AmbiguousListenTarget;

    fn try_from(form: ListenerForm) -> Result<Self, AmbiguousListenTarget> {
        let ListenerForm { host, port, unix, mode, accept_proxy_protocol, tls, h2c, redirect_to_https } = form;
        let target = match (host, port, unix) {
            (host, Some(port), None) if mode.is_none() => {
                ListenTarget::Tcp(host.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |host| host.0), port)
            }
            (None, None, Some(path)) => ListenTarget::Unix { path, mode },
            _ => return Err(AmbiguousListenTarget),
        };
        Ok(Self { target, accept_proxy_protocol, tls, h2c, redirect_to_https })
    }
}

impl From<Listener> for ListenerForm {
    fn from(listener: Listener) -> Self {
        let Listener { target, accept_proxy_protocol, tls, h2c, redirect_to_https } = listener;
        let form = Self { accept_proxy_protocol, tls, h2c, redirect_to_https, ..Self::default() };
        match target {
            ListenTarget::Tcp(ip, port) => Self { host: Some(ListenHost(ip)), port: Some(port), ..form },
            ListenTarget::Unix { path, mode } => Self { unix: Some(path), mode, ..form },
        }
    }
}
