//! The order in which endpoints are considered for a request.
//!
//! It does not choose among endpoints of one tier: the policy does.

use super::endpoint::{Availability, Endpoint};
use super::{EndpointId, ExcludedEndpoints};
use crate::driver::Time;

/// The tiers, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Primary,
    Backup,
    ExcludedPrimary,
    ExcludedBackup,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Primary, Self::Backup, Self::ExcludedPrimary, Self::ExcludedBackup];

    /// The endpoint's tier for a request that has tried `excluded`; `None`: the endpoint is being
    /// drained.
    pub(super) fn of(id: EndpointId, endpoint: &Endpoint, excluded: &ExcludedEndpoints) -> Option<Self> {
        let tier = match (endpoint.is_backup, excluded.contains(id)) {
            (false, false) => Self::Primary,
            (true, false) => Self::Backup,
            (false, true) => Self::ExcludedPrimary,
            (true, true) => Self::ExcludedBackup,
        };
        (!endpoint.is_draining()).then_some(tier)
    }

    /// Whether the endpoint is of this tier and has a free slot.
    pub(super) fn is_open(self, id: EndpointId, endpoint: &Endpoint, excluded: &ExcludedEndpoints, now: Time) -> bool {
        Self::of(id, endpoint, excluded) == Some(self) && endpoint.availability(now) == Availability::Open
    }
}

/// For each tier, whether an endpoint is up, and whether one has a free slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TierSummary {
    is_up: [bool; Tier::ALL.len()],
    is_open: [bool; Tier::ALL.len()],
}

impl TierSummary {
    pub(super) fn new<'a>(
        endpoints: impl Iterator<Item = (EndpointId, &'a Endpoint)>,
        excluded: &ExcludedEndpoints,
        now: Time,
    ) -> Self {
        let mut summary = Self::default();
        for (id, endpoint) in endpoints {
            let Some(tier) = Tier::of(id, endpoint, excluded) else { continue };
            let availability = endpoint.availability(now);
            summary.is_up[tier as usize] |= availability != Availability::Down;
            summary.is_open[tier as usize] |= availability == Availability::Open;
        }
        summary
    }

    /// The tier that takes the request, if one with a free slot may.
    pub(super) fn tier(&self) -> Option<Tier> {
        let is_up = |tier: Tier| self.is_up[tier as usize];
        let is_allowed = |tier: &Tier| match tier {
            Tier::Primary | Tier::ExcludedPrimary => true,
            Tier::Backup => !is_up(Tier::Primary),
            Tier::ExcludedBackup => !is_up(Tier::Primary) && !is_up(Tier::ExcludedPrimary),
        };
        Tier::ALL.into_iter().filter(is_allowed).find(|tier| self.is_open[*tier as usize])
    }

    /// Whether any endpoint is up, so that a slot may become free.
    pub(super) fn is_any_up(&self) -> bool {
        self.is_up.contains(&true)
    }
}
