//! What new sessions of one listener are made from.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use super::Task;
use super::deliver::{Content, Deliver};
use super::echo::Echo;
use super::http::{Door, Http};
use super::proxy::Proxy;
use super::receive::{Destination, Receive};
use super::reverse::Reverse;
use crate::config::Limits;
use crate::driver::{Peer, Time};
use crate::table::Key;
use crate::tcp::proxy_header;
use crate::upstream::{Group, Rules};

/// What the sessions of one listener are for, with what they share.
#[derive(Clone, Debug)]
pub enum Template {
    /// Sends back what it receives.
    Echo,
    /// Sends each line back reversed.
    Reverse,
    /// Joins the client to a connection to an upstream.
    Proxy(Rc<Group>, Rules),
    /// Sends something, then closes.
    Deliver(Content),
    /// Writes what comes to files.
    Receive(Arc<Destination>),
    /// Speaks HTTP/1.1: files, and requests passed on to upstreams.
    Http(Rc<Door>),
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

impl Template {
    /// Puts `newer` in its place, for sessions to come and, where they look it up anew, for those that are there.
    pub fn replaced_by(&self, newer: Self) -> Self {
        match (self, newer) {
            (Self::Http(door), Self::Http(newer)) => {
                door.replace(newer.front());
                Self::Http(Rc::clone(door))
            }
            (_, newer) => newer,
        }
    }

    /// Whether upstreams are told to which address a connection came.
    pub fn wants_local_address(&self) -> bool {
        match self {
            Self::Proxy(group, _) => group.announces().is_some(),
            Self::Http(door) => door.front().announces(),
            Self::Echo | Self::Reverse | Self::Deliver(_) | Self::Receive(_) => false,
        }
    }

    /// Whether who comes can be told in its own protocol that there is no room.
    pub const fn can_refuse(&self) -> bool {
        match self {
            Self::Http(_) => true,
            Self::Echo | Self::Reverse | Self::Proxy(..) | Self::Deliver(_) | Self::Receive(_) => false,
        }
    }

    pub(super) fn task(&self, session: Key, ends: Ends, is_surplus: bool, now: Time, limits: &Limits) -> Box<dyn Task> {
        match self {
            Self::Echo => Box::new(Echo::new()),
            Self::Reverse => Box::new(Reverse::new(limits)),
            Self::Proxy(group, rules) => Box::new(Proxy::new(session, Rc::clone(group), *rules, ends)),
            Self::Http(door) => Box::new(Http::new(Rc::clone(door), is_surplus, now)),
            Self::Receive(destination) => Box::new(Receive::new(session, Arc::clone(destination))),
            Self::Deliver(content) => Box::new(Deliver::new(session, content.clone())),
        }
    }
}
