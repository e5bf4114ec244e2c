//! In which order endpoints come into question for a request.
//!
//! It does not choose among endpoints of one rank: that is the policy's.

use super::endpoint::{Availability, Endpoint};
use super::{EndpointId, ExcludedEndpoints};
use crate::driver::Time;

/// The ranks, the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Primary,
    Backup,
    ExcludedPrimary,
    ExcludedBackup,
}

impl Tier {
    const ALL: [Self; 4] = [Self::Primary, Self::Backup, Self::ExcludedPrimary, Self::ExcludedBackup];

    /// The endpoint's rank for a request that has tried these; `None`: it is being drained.
    pub(super) fn of(id: EndpointId, endpoint: &Endpoint, excluded: &ExcludedEndpoints) -> Option<Self> {
        let tier = match (endpoint.is_backup, excluded.contains(id)) {
            (false, false) => Self::Primary,
            (true, false) => Self::Backup,
            (false, true) => Self::ExcludedPrimary,
            (true, true) => Self::ExcludedBackup,
        };
        (!endpoint.is_draining()).then_some(tier)
    }

    /// Whether the endpoint is of this rank and has a place for the request.
    pub(super) fn is_open(self, id: EndpointId, endpoint: &Endpoint, excluded: &ExcludedEndpoints, now: Time) -> bool {
        Self::of(id, endpoint, excluded) == Some(self) && endpoint.availability(now) == Availability::Open
    }
}

/// Of each rank, whether an endpoint is up, and whether one of them has a place.
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

    /// The rank that the request should go to, if there is a place for it.
    pub(super) fn tier(&self) -> Option<Tier> {
        let is_up = |tier: Tier| self.is_up[tier as usize];
        let is_allowed = |tier: &Tier| match tier {
            Tier::Primary | Tier::ExcludedPrimary => true,
            Tier::Backup => !is_up(Tier::Primary),
            Tier::ExcludedBackup => !is_up(Tier::Primary) && !is_up(Tier::ExcludedPrimary),
        };
        Tier::ALL.into_iter().filter(is_allowed).find(|tier| self.is_open[*tier as usize])
    }

    /// Whether the request can hope for a place.
    pub(super) fn is_any_up(&self) -> bool {
        self.is_up.contains(&true)
    }
}
