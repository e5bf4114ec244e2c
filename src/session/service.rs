//! What new sessions of one listener are made from.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::echo::Echo;
use super::file_sender::{Content, FileSender};
use super::http::{Http, RouterCell};
use super::proxy::Proxy;
use super::receive::{Destination, Receive};
use super::reverse::Reverse;
use crate::config::Limits;
use crate::driver::{Peer, Time};
use crate::table::Key;
use crate::tcp::proxy_header;
use crate::upstream::{ConnectPolicy, UpstreamGroup};

/// What the sessions of one listener are for, with what they share.
#[derive(Clone, Debug)]
pub enum Service {
    /// Sends back what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Joins the client to a connection to an upstream.
    Proxy(Rc<UpstreamGroup>, ConnectPolicy),
    /// Sends something, then closes.
    Send(Content),
    /// Writes what comes to files.
    Receive(Arc<Destination>),
    /// Speaks HTTP/1.1: files, and requests passed on to upstreams.
    Http(Rc<RouterCell>),
}

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) peer: Peer,
    /// The address at this end, if it was asked for.
    pub(super) local: Option<SocketAddr>,
}

impl Ends {
    /// What an upstream is told of them. A local address that nobody asked for is left open.
    pub(super) fn announced(self) -> Option<proxy_header::Ends> {
        match self.peer {
            Peer::Inet(client) => {
                let server = self.local.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
                Some(proxy_header::Ends { client, server })
            }
            Peer::Local | Peer::Gone => None,
        }
    }
}

impl Service {
    /// Puts `newer` in its place, for sessions to come and, where they look it up anew, for those that are there.
    pub fn replaced_by(&self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Http(router_cell), Self::Http(newer)) => {
                router_cell.replace(newer.router());
                Self::Http(Rc::clone(router_cell))
            }
            (_, newer) => newer,
        }
    }

    /// Whether upstreams are told to which address a connection came.
    pub fn wants_local_address(&self) -> bool {
        match self {
            Self::Proxy(group, _) => group.announces().is_some(),
            Self::Http(router_cell) => router_cell.router().announces(),
            Self::Echo | Self::Reverse | Self::Send(_) | Self::Receive(_) => false,
        }
    }

    /// Whether who comes can be told in its own protocol that there is no room.
    pub const fn can_refuse(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Echo | Self::Reverse | Self::Proxy(..) | Self::Send(_) | Self::Receive(_) => false,
        }
    }

    pub(super) fn task(
        &self,
        session: Key,
        ends: Ends,
        is_over_limit: bool,
        now: Time,
        limits: &Limits,
    ) -> Box<dyn Task> {
        match self {
            Self::Echo => Box::new(Echo::new()),
            Self::Reverse => Box::new(Reverse::new(limits)),
            Self::Proxy(group, connect_policy) => {
                Box::new(Proxy::new(session, Rc::clone(group), *connect_policy, ends))
            }
            Self::Http(router_cell) => Box::new(Http::new(Rc::clone(router_cell), is_over_limit, now)),
            Self::Receive(destination) => Box::new(Receive::new(session, Arc::clone(destination))),
            Self::Send(content) => Box::new(FileSender::new(session, content.clone())),
        }
    }
}
