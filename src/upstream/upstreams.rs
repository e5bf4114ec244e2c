//! The upstreams of one worker, one per address, so that all groups that list an address share its
//! idle connections and its resolved addresses.
//!
//! It holds weak references: an upstream is dropped with the last group or connection that uses it.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::{Upstream, UpstreamGroup};
use crate::upstream::UpstreamAddress;

/// The upstreams of one worker, by address.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: HashMap<UpstreamAddress, Weak<Upstream>>,
}

impl Upstreams {
    /// The upstream of this address: the existing one, or a new one.
    pub fn at(&mut self, address: &UpstreamAddress) -> Rc<Upstream> {
        if let Some(known) = self.known.get(address).and_then(Weak::upgrade) {
            return known;
        }
        self.known.retain(|_, known| known.strong_count() > 0);
        let upstream = Upstream::new(address.clone());
        self.known.insert(address.clone(), Rc::downgrade(&upstream));
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
