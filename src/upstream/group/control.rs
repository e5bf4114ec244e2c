//! What an operator has set for endpoints. What checks have found is in [`shared`](super::super::shared).
//!
//! There is one [`EndpointControl`] for each address of each group of the configuration. Groups of the same
//! name, as those of a server with two listeners, share it, and it survives a reload as long as the
//! configuration has the endpoint. The supervisor stores what the operator sets; each worker reads it when
//! it picks an endpoint. Setting something does not end requests in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::config::GroupConfig;

/// What an operator has set for an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum OperatorState {
    /// Nothing: health checks and failed requests decide.
    #[default]
    Auto,
    /// It takes requests, whatever checks and failed requests say.
    Up,
    /// It takes no requests, as if its health checks failed.
    Down,
    /// It takes no further requests, not even those whose cookie names it.
    Drain,
}

impl OperatorState {
    const ALL: [Self; 4] = [Self::Auto, Self::Up, Self::Down, Self::Drain];

    /// Its name for operators.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Up => "up",
            Self::Down => "down",
            Self::Drain => "drain",
        }
    }

    /// Whether no request goes to the endpoint.
    pub const fn excludes(self) -> bool {
        matches!(self, Self::Down | Self::Drain)
    }
}

/// What an operator has set for an endpoint, for all workers.
#[derive(Debug)]
pub struct EndpointControl {
    state: AtomicU8,
    /// Instead of the configured weight; [`NO_WEIGHT`]: that one.
    weight: AtomicU64,
}

const NO_WEIGHT: u64 = u64::MAX;

impl Default for EndpointControl {
    /// Nothing is set.
    fn default() -> Self {
        Self { state: AtomicU8::new(0), weight: AtomicU64::new(NO_WEIGHT) }
    }
}

impl EndpointControl {
    /// What is set.
    pub fn state(&self) -> OperatorState {
        let state = self.state.load(Ordering::Relaxed);
        OperatorState::ALL.get(usize::from(state)).copied().unwrap_or_default()
    }

    /// The weight that is set instead of the configured one.
    pub fn weight(&self) -> Option<u32> {
        u32::try_from(self.weight.load(Ordering::Relaxed)).ok()
    }

    /// Sets the state.
    pub fn set_state(&self, state: OperatorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Sets the weight; `None`: the configured one.
    pub fn set_weight(&self, weight: Option<u32>) {
        self.weight.store(weight.map_or(NO_WEIGHT, u64::from), Ordering::Relaxed);
    }
}

/// The endpoints of a configuration, each once, in its order.
#[derive(Debug, Default)]
pub struct EndpointControls(Vec<NamedEndpoint>);

/// An endpoint as operators name it: `GROUP/ADDRESS`.
#[derive(Debug)]
pub struct NamedEndpoint {
    /// Its group.
    pub group: Arc<str>,
    /// Its address.
    pub address: String,
    /// Its configured weight.
    pub weight: u32,
    /// Whether it is a backup.
    pub is_backup: bool,
    /// What is set.
    pub control: Arc<EndpointControl>,
}

impl NamedEndpoint {
    /// Its name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.group, self.address)
    }

    /// Whether an operator has set anything for it that differs from the configuration.
    pub fn differs(&self) -> bool {
        self.control.state() != OperatorState::Auto || self.control.weight().is_some_and(|weight| weight != self.weight)
    }
}

impl EndpointControls {
    /// The endpoints of these groups. Those that are in `earlier` keep what is set for them.
    pub fn succeeding<'g>(earlier: &Self, groups: impl Iterator<Item = &'g GroupConfig>) -> Arc<Self> {
        let mut all = Self::default();
        for group in groups {
            for endpoint in &group.endpoints {
                let address = endpoint.address.to_string();
                if all.find(&group.name, &address).is_some() {
                    continue;
                }
                let known = earlier.find(&group.name, &address).map(|known| Arc::clone(&known.control));
                all.0.push(NamedEndpoint {
                    group: group.name.as_str().into(),
                    address,
                    weight: endpoint.weight,
                    is_backup: endpoint.is_backup,
                    control: known.unwrap_or_default(),
                });
            }
        }
        Arc::new(all)
    }

    fn find(&self, group: &str, address: &str) -> Option<&NamedEndpoint> {
        self.0.iter().find(|known| &*known.group == group && known.address == address)
    }

    /// All endpoints, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &NamedEndpoint> {
        self.0.iter()
    }

    /// The endpoints with this name: one, by group and address, or those of all groups with the address.
    pub fn named<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n NamedEndpoint> {
        self.0.iter().filter(move |endpoint| endpoint.name() == name || endpoint.address == name)
    }

    /// What the workers share of the endpoints of a group, in its order.
    pub(crate) fn of(&self, group: &GroupConfig) -> Vec<Option<Arc<EndpointControl>>> {
        let control = |address: String| self.find(&group.name, &address).map(|known| Arc::clone(&known.control));
        group.endpoints.iter().map(|endpoint| control(endpoint.address.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, addresses: &[&str]) -> GroupConfig {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        GroupConfig { name: name.to_owned(), ..GroupConfig::of(addresses) }
    }

    fn controls(earlier: &EndpointControls, groups: &[GroupConfig]) -> Arc<EndpointControls> {
        EndpointControls::succeeding(earlier, groups.iter())
    }

    #[test]
    fn what_is_set_survives_as_long_as_the_endpoint_does() {
        let groups = [group("*/a", &["h:1", "h:2"]), group("*/b", &["h:1"])];
        let first = controls(&EndpointControls::default(), &groups);
        let names = |controls: &EndpointControls, name: &str| -> Vec<String> {
            controls.named(name).map(NamedEndpoint::name).collect()
        };
        assert_eq!(names(&first, "*/a/h:1"), ["*/a/h:1"]);
        assert_eq!(names(&first, "h:1"), ["*/a/h:1", "*/b/h:1"]);
        assert_eq!(names(&first, "h:3"), [""; 0]);
        for endpoint in first.named("*/a/h:1") {
            endpoint.control.set_state(OperatorState::Drain);
            endpoint.control.set_weight(Some(0));
            assert!(endpoint.differs());
        }
        assert!(!first.named("*/b/h:1").any(NamedEndpoint::differs));
        let second = controls(&first, &[group("*/a", &["h:2", "h:1"])]);
        let kept: Vec<_> = second.iter().map(|endpoint| (endpoint.name(), endpoint.control.state())).collect();
        let expected = [("*/a/h:2", OperatorState::Auto), ("*/a/h:1", OperatorState::Drain)];
        assert_eq!(kept, expected.map(|(name, state)| (name.to_owned(), state)));
        let third = controls(&controls(&second, &[]), &groups);
        assert!(!third.iter().any(NamedEndpoint::differs), "it was gone in between");
    }
}
