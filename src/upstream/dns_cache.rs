//! The addresses of an upstream: fixed, or cached from the last look-up of its name.
//!
//! The resolver's result stays in use until a newer one replaces it. What starts look-ups, and when,
//! is decided elsewhere.
//!
//! ```text
//!             found               all addresses fail, last look-up 1 s ago or more
//!   Unknown ────────► Known ──────────────────────────────────────────────► Known, stale
//!                     ▲ ▲ └───┐ found: newer addresses                        │
//!                     │ └─────┘ not found: the same addresses                 │
//!                     └───────────────────────────────────────────────────────┘ found, not found
//! ```

use std::cell::RefCell;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Address, Time};
use crate::upstream::UpstreamAddress;

/// Failed connections mark the addresses stale only if the last look-up is at least this long ago.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ResolvedAddresses {
    /// Addresses, at least one.
    Known(Rc<[Address]>),
    /// No addresses, or stale ones: the name must be looked up first.
    Unresolved(Name),
}

/// Arguments of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// The addresses of one upstream.
#[derive(Debug)]
pub(super) enum DnsCache {
    /// An IP address, or the path of a unix socket.
    Fixed(Rc<[Address]>),
    Named {
        name: Name,
        known: RefCell<Option<Known>>,
    },
}

/// The result of the last successful look-up.
#[derive(Debug)]
pub(super) struct Known {
    addresses: Rc<[Address]>,
    looked_up: Time,
    /// No address accepted a connection.
    is_stale: bool,
    /// A later look-up has failed.
    is_outdated: bool,
}

impl DnsCache {
    pub(super) fn of(address: &UpstreamAddress) -> Self {
        match address {
            UpstreamAddress::Unix(path) => Self::Fixed(Rc::new([path.clone().into()])),
            UpstreamAddress::Tcp { host, port, .. } => match host.parse::<IpAddr>() {
                Ok(ip) => Self::Fixed(Rc::new([SocketAddr::new(ip, *port).into()])),
                Err(_) => {
                    let name = Name { host: Arc::clone(host), port: *port };
                    Self::Named { name, known: RefCell::default() }
                }
            },
        }
    }

    /// The name to look up, if the address is not fixed.
    pub(super) const fn name(&self) -> Option<&Name> {
        match self {
            Self::Fixed(_) => None,
            Self::Named { name, .. } => Some(name),
        }
    }

    pub(super) fn resolved_addresses(&self) -> ResolvedAddresses {
        match self {
            Self::Fixed(addresses) => ResolvedAddresses::Known(Rc::clone(addresses)),
            Self::Named { name, known } => match &*known.borrow() {
                Some(Known { addresses, is_stale: false, .. }) => ResolvedAddresses::Known(Rc::clone(addresses)),
                Some(Known { is_stale: true, .. }) | None => ResolvedAddresses::Unresolved(name.clone()),
            },
        }
    }

    /// Whether `address`, which was resolved once, is still one of the addresses. Fixed addresses
    /// always are.
    pub(super) fn includes(&self, address: &Address) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Named { known, .. } => known.borrow().as_ref().is_some_and(|known| known.addresses.contains(address)),
        }
    }

    /// Stores the result of a look-up. Returns the previous addresses if they differ.
    pub(super) fn found(&self, addresses: Rc<[Address]>, now: Time) -> Option<Rc<[Address]>> {
        let Self::Named { known, .. } = self else { return None };
        let newer = Known { addresses: Rc::clone(&addresses), looked_up: now, is_stale: false, is_outdated: false };
        let before = known.replace(Some(newer))?.addresses;
        // Name servers rotate the order; that is no change.
        let is_same = before.len() == addresses.len() && before.iter().all(|address| addresses.contains(address));
        (!is_same).then_some(before)
    }

    /// The look-up failed. Returns the addresses of the previous one, if there are any.
    pub(super) fn not_found(&self, name: &dyn Display, why: &dyn Display, now: Time) -> Option<Rc<[Address]>> {
        let Self::Named { known, .. } = self else { return None };
        let mut known = known.borrow_mut();
        let Some(known) = known.as_mut() else {
            tracing::debug!(upstream = %name, reason = %why, "the upstream's name cannot be looked up");
            return None;
        };
        if std::mem::replace(&mut known.is_outdated, true) {
            tracing::debug!(upstream = %name, reason = %why, "the upstream's name still cannot be looked up");
        } else {
            tracing::warn!(upstream = %name, reason = %why, "the upstream's name cannot be looked up: keeping the old addresses");
        }
        known.is_stale = false;
        known.looked_up = now;
        Some(Rc::clone(&known.addresses))
    }

    /// No address accepted a connection: the name may resolve to others now.
    pub(super) fn mark_stale(&self, now: Time) {
        if let Self::Named { known, .. } = self
            && let Some(known) = known.borrow_mut().as_mut()
            && known.looked_up + STALE_AFTER <= now
        {
            known.is_stale = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::UnixPath;

    fn addresses(texts: &[&str]) -> Rc<[Address]> {
        texts.iter().map(|text| Address::from(text.parse::<SocketAddr>().unwrap())).collect()
    }

    fn app() -> Name {
        Name { host: "app".into(), port: 3000 }
    }

    fn named() -> DnsCache {
        DnsCache::of(&"app:3000".parse().unwrap())
    }

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn an_address_in_text_is_known_at_once_and_never_looked_up() {
        let cache = DnsCache::of(&"[::1]:3000".parse().unwrap());
        cache.mark_stale(at(1 << 40));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(addresses(&["[::1]:3000"])));
        assert_eq!(cache.name(), None);
    }

    #[test]
    fn a_path_is_known_without_a_look_up() {
        let path = UnixPath::new("/run/app.sock").unwrap();
        let cache = DnsCache::of(&UpstreamAddress::Unix(path.clone()));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(Rc::new([path.into()])));
        assert_eq!(cache.name(), None);
    }

    #[test]
    fn what_a_name_led_to_is_used_until_it_leads_elsewhere() {
        let cache = named();
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Unresolved(app()));
        let (first, second) = (addresses(&["10.0.0.1:3000", "10.0.0.2:3000"]), addresses(&["10.0.0.3:3000"]));
        assert_eq!(cache.found(Rc::clone(&first), at(0)), None);
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(Rc::clone(&first)));
        assert_eq!(cache.found(Rc::clone(&second), at(1)), Some(Rc::clone(&first)));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(Rc::clone(&second)));
        assert!(cache.includes(&second[0]) && !cache.includes(&first[0]));
    }

    #[test]
    fn the_same_addresses_in_another_order_are_no_change() {
        let cache = named();
        cache.found(addresses(&["10.0.0.1:3000", "10.0.0.2:3000"]), at(0));
        assert_eq!(cache.found(addresses(&["10.0.0.2:3000", "10.0.0.1:3000"]), at(1)), None);
    }

    #[test]
    fn a_failed_look_up_keeps_the_old_addresses() {
        let cache = named();
        assert_eq!(cache.not_found(&"app:3000", &"no answer", at(0)), None);
        let first = addresses(&["10.0.0.1:3000"]);
        cache.found(Rc::clone(&first), at(0));
        assert_eq!(cache.not_found(&"app:3000", &"no answer", at(1)), Some(Rc::clone(&first)));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(first));
    }

    #[test]
    fn addresses_that_fail_are_looked_up_again_but_not_at_once() {
        let cache = named();
        let first = addresses(&["10.0.0.1:3000"]);
        cache.found(Rc::clone(&first), at(0));
        cache.mark_stale(at(999));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(Rc::clone(&first)));
        cache.mark_stale(at(1000));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Unresolved(app()));
        // The look-up fails: the same addresses are used again, and are not stale at once.
        cache.not_found(&"app:3000", &"no answer", at(1001));
        cache.mark_stale(at(1500));
        assert_eq!(cache.resolved_addresses(), ResolvedAddresses::Known(first));
    }
}
