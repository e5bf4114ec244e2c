//! The upstreams of one worker: one for each address, so that all who use it share its idle connections and what its name
//! led to.
//!
//! It does not keep them: an upstream is there for as long as somebody uses it.

use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::{Upstream, UpstreamGroup};
use crate::config::UpstreamAddress;

/// The upstreams of one worker.
#[derive(Debug, Default)]
pub struct Upstreams {
    known: HashMap<UpstreamAddress, Weak<Upstream>>,
}

impl Upstreams {
    /// The upstream there, which may be in use already.
    pub fn at(&mut self, address: &UpstreamAddress) -> Rc<Upstream> {
        if let Some(known) = self.known.get(address).and_then(Weak::upgrade) {
            return known;
        }
        self.known.retain(|_, known| known.strong_count() > 0);
        let upstream = Upstream::new(address.clone());
        self.known.insert(address.clone(), Rc::downgrade(&upstream));
        upstream
    }

    /// Only the upstreams of these groups get new requests from now on. Connections to others do not wait to be used again.
    pub fn put_in_force(&self, groups: &[Rc<UpstreamGroup>]) {
        for upstream in self.known.values().filter_map(Weak::upgrade) {
            upstream.is_in_force.set(false);
        }
        for group in groups {
            group.ids().for_each(|endpoint| group.upstream(endpoint).is_in_force.set(true));
        }
    }
}
