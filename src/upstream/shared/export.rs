//! What operators have set, on its way to the process that replaces this one, as JSON.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{NamedEndpoint, OperatorSetting, OperatorState, SharedEndpoints};
use crate::telemetry::metrics::EndpointLabels;

/// What is set for one endpoint.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    group: String,
    address: String,
    state: OperatorState,
    weight: Option<u32>,
}

impl SharedEndpoints {
    /// What is set for these endpoints; empty if nothing is.
    pub fn export(&self) -> Vec<u8> {
        let all =
            self.iter().map(|NamedEndpoint { labels: EndpointLabels { group, address }, setting, .. }| Exported {
                group: group.clone(),
                address: address.clone(),
                state: setting.state(),
                weight: setting.weight(),
            });
        let set: Vec<Exported> = all.filter(|it| it.state != OperatorState::Auto || it.weight.is_some()).collect();
        // Texts and numbers only, so that this cannot fail.
        if set.is_empty() { Vec::new() } else { serde_json::to_vec(&set).unwrap_or_default() }
    }

    /// The endpoints for which a predecessor has set something, to be succeeded by those of the
    /// configuration. Whatever else it has exported is ignored.
    pub fn import(exported: &[u8]) -> Arc<Self> {
        let set: Vec<Exported> = serde_json::from_slice(exported).unwrap_or_default();
        let mut all = Self::default();
        for Exported { group, address, state, weight } in set {
            let setting = OperatorSetting::default();
            setting.set_state(state);
            setting.set_weight(weight);
            // What is configured comes from the configuration that follows.
            all.add(EndpointLabels { group, address }, Arc::new(setting), 1, false);
        }
        Arc::new(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::GroupConfig;

    #[test]
    fn what_is_set_is_imported_as_it_was_exported() {
        let addresses = ["h:1", "h:2", "h:3"].map(|address| address.parse().unwrap());
        let groups = [GroupConfig::of(addresses)];
        let before = SharedEndpoints::succeeding(&SharedEndpoints::default(), 1, &groups);
        assert!(before.export().is_empty());
        before.named("h:1").for_each(|endpoint| endpoint.setting.set_state(OperatorState::Drain));
        before.named("h:3").for_each(|endpoint| endpoint.setting.set_weight(Some(7)));
        let after = SharedEndpoints::succeeding(&SharedEndpoints::import(&before.export()), 1, &groups);
        let set: Vec<_> = after.iter().map(|endpoint| (endpoint.setting.state(), endpoint.setting.weight())).collect();
        assert_eq!(set, [(OperatorState::Drain, None), (OperatorState::Auto, None), (OperatorState::Auto, Some(7))]);
        for nonsense in ["", "{}", "[", "[{}]", r#"[{"group":"a","address":"h:1","state":"away","weight":null}]"#] {
            assert_eq!(SharedEndpoints::import(nonsense.as_bytes()).iter().count(), 0, "{nonsense}");
        }
    }
}
