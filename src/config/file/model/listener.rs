//! Where a server listens.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{FileMode, ListenHost};

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ListenerForm", into = "ListenerForm")]
pub struct Listener {
    /// Where it is.
    pub target: ListenTarget,
    /// Connections begin with a header of the PROXY protocol.
    pub accept_proxy_protocol: bool,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenTarget {
    /// An address and a TCP port; 0 lets the kernel choose.
    Tcp(IpAddr, u16),
    /// A path in the file system.
    Unix {
        /// The socket's path.
        path: PathBuf,
        /// Who may connect.
        mode: Option<FileMode>,
    },
}

/// Where a server listens: `host` and `port`, or `unix`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Listener")]
pub struct ListenerForm {
    /// The address: IPv4 or IPv6, `localhost`, or `*` for every IPv4 address. Without it: `*`.
    pub host: Option<ListenHost>,
    /// The TCP port; 0 lets the kernel choose.
    pub port: Option<u16>,
    /// The path of a unix socket, in place of `host` and `port`.
    #[schemars(length(min = 1, max = 107))]
    pub unix: Option<PathBuf>,
    /// The unix socket's permissions, in octal: `"0660"`. Without it: what the umask leaves.
    pub mode: Option<FileMode>,
    /// Connections begin with a header of the PROXY protocol, version 1 or 2, which tells the client's address. It is
    /// believed only of `trusted_proxies`.
    pub accept_proxy_protocol: bool,
}

/// The form names no place, or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a listener has either `host` and `port`, or `unix`")]
pub struct AmbiguousListenTarget;

impl TryFrom<ListenerForm> for Listener {
    type Error = AmbiguousListenTarget;

    fn try_from(form: ListenerForm) -> Result<Self, AmbiguousListenTarget> {
        let ListenerForm { host, port, unix, mode, accept_proxy_protocol } = form;
        let target = match (host, port, unix) {
            (host, Some(port), None) if mode.is_none() => {
                ListenTarget::Tcp(host.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |host| host.0), port)
            }
            (None, None, Some(path)) => ListenTarget::Unix { path, mode },
            _ => return Err(AmbiguousListenTarget),
        };
        Ok(Self { target, accept_proxy_protocol })
    }
}

impl From<Listener> for ListenerForm {
    fn from(listener: Listener) -> Self {
        let form = Self { accept_proxy_protocol: listener.accept_proxy_protocol, ..Self::default() };
        match listener.target {
            ListenTarget::Tcp(ip, port) => Self { host: Some(ListenHost(ip)), port: Some(port), ..form },
            ListenTarget::Unix { path, mode } => Self { unix: Some(path), mode, ..form },
        }
    }
}
