//! The upstreams of one worker, one per address and TLS settings, so that all groups that list an address share its
//! idle connections and its resolved addresses.
//!
//! It holds weak references: an upstream is dropped with the last group or connection that uses it. What
//! the workers of a server share of their endpoints is found through it as well.

use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::shared::SharedEndpoint;
use super::{GroupConfig, SharedEndpoints, Upstream, UpstreamGroup};
use crate::tls::TlsPeer;
use crate::upstream::UpstreamAddress;

/// The upstreams of one worker, by address.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: HashMap<Identity, Weak<Upstream>>,
    shared: Arc<SharedEndpoints>,
}

/// What makes two upstreams the same: a connection made for one may carry requests for the other.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    address: UpstreamAddress,
    /// The name in its certificate, and the address of the settings in memory, which the upstream keeps
    /// alive. Settings that were loaded again are others: their files may have changed.
    tls: Option<(ServerName<'static>, usize)>,
}

impl Upstreams {
    /// The groups made from now on share their endpoints with those of other workers that have the same
    /// `shared`.
    pub fn share(&mut self, shared: Arc<SharedEndpoints>) {
        self.shared = shared;
    }

    /// What is shared of the endpoints of this group, in its order.
    pub fn shared(&self, group: &GroupConfig) -> Vec<SharedEndpoint> {
        self.shared.of(group)
    }

    /// The upstream of this address: the existing one, or a new one.
    pub fn at(&mut self, address: &UpstreamAddress, tls: Option<&TlsPeer>) -> Rc<Upstream> {
        let identity = Identity {
            address: address.clone(),
            tls: tls.map(|peer| (peer.server_name.clone(), Arc::as_ptr(&peer.config).addr())),
        };
        if let Some(known) = self.known.get(&identity).and_then(Weak::upgrade) {
            return known;
        }
        self.known.retain(|_, known| known.strong_count() > 0);
        let upstream = Upstream::new(address.clone(), tls.cloned());
        self.known.insert(identity, Rc::downgrade(&upstream));
        upstream
    }

    /// Makes these groups the active ones. Other upstreams get no new requests, and their
    /// connections do not become idle.
    pub fn put_in_force(&self, groups: &[Rc<UpstreamGroup>]) {
        for upstream in self.known.values().filter_map(Weak::upgrade) {
            upstream.is_in_force.set(false);
        }
        for group in groups {
            group.ids().for_each(|endpoint| group.upstream(endpoint).is_in_force.set(true));
        }
    }
}
