//! The balancing policies: which of several endpoints takes a request. They do not allocate.
//!
//! A policy gets only endpoints that may be used, with their effective weights, all above zero. It
//! does not know why others are missing.

use std::cmp::Ordering;

use super::EndpointId;
use super::endpoint::Endpoint;
use super::hash;

/// An endpoint that may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: EndpointId,
    pub(super) endpoint: &'a Endpoint,
    /// In thousandths; above zero.
    pub(super) weight: u64,
}

impl Candidate<'_> {
    /// Compares the requests in flight per unit of weight.
    fn by_load(&self, other: &Self) -> Ordering {
        let load = |one: &Self, weight: u64| one.endpoint.in_flight.get() as u128 * u128::from(weight);
        load(self, other.weight).cmp(&load(other, self.weight))
    }
}

/// The endpoint whose turn is most overdue (smooth weighted round robin). At each pick the credit
/// of each candidate grows by its weight, and the picked one pays the sum of all weights. So a
/// heavy endpoint's turns are spread evenly, and an endpoint that is left out for a while neither
/// gains nor loses turns.
pub(super) fn round_robin<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<EndpointId> {
    let mut total = 0;
    let mut best: Option<Candidate<'a>> = None;
    for candidate in candidates {
        let weight = i64::try_from(candidate.weight).unwrap_or(i64::MAX);
        let credit = &candidate.endpoint.credit;
        credit.set(credit.get().saturating_add(weight));
        total += weight;
        if best.is_none_or(|best| credit.get() > best.endpoint.credit.get()) {
            best = Some(candidate);
        }
    }
    let best = best?;
    best.endpoint.credit.set(best.endpoint.credit.get().saturating_sub(total));
    Some(best.id)
}

/// Advances the round robin of worker `number` by an offset, so that the workers start at points
/// evenly spread over a round. So a few requests are balanced too, even if each worker gets only
/// one of them.
pub(super) fn start_apart<'a>(candidates: impl Iterator<Item = Candidate<'a>> + Clone, number: u64, workers: u64) {
    /// Limit of the work for a long round: endpoints times turns.
    const STEPS_MAX: u64 = 1 << 20;
    let (mut count, mut total, mut divisor) = (0, 0, 0);
    for Candidate { weight, .. } in candidates.clone() {
        (count, total, divisor) = (count + 1, total + weight, greatest_common_divisor(divisor, weight));
    }
    let Some(round) = total.checked_div(divisor) else { return };
    let workers = workers.max(1);
    let stride = (round / workers).min(STEPS_MAX / count / workers).max(1);
    for _ in 0..number * stride % round {
        round_robin(candidates.clone());
    }
}

const fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while let Some(rest) = one.checked_rem(other) {
        (one, other) = (other, rest);
    }
    one
}

/// The least loaded endpoint; among equals, round robin.
pub(super) fn least_connections<'a>(candidates: impl Iterator<Item = Candidate<'a>> + Clone) -> Option<EndpointId> {
    let least = candidates.clone().min_by(Candidate::by_load)?;
    round_robin(candidates.filter(|candidate| candidate.by_load(&least).is_eq()))
}

/// The less loaded of two endpoints drawn by weight; among equals, the first drawn.
pub(super) fn random_of_two<'a>(
    candidates: impl Iterator<Item = Candidate<'a>> + Clone,
    chance: &mut Chance,
) -> Option<EndpointId> {
    let first = chance.draw(candidates.clone())?;
    let others = candidates.filter(|candidate| candidate.id != first.id);
    match chance.draw(others) {
        Some(second) if second.by_load(&first).is_lt() => Some(second.id),
        Some(_) | None => Some(first.id),
    }
}

/// The endpoint with the least draw for the key.
pub(super) fn rendezvous<'a>(candidates: impl Iterator<Item = Candidate<'a>>, key: u64) -> Option<EndpointId> {
    candidates
        .map(|candidate| (hash::draw(key, candidate.endpoint.seed, candidate.weight), candidate.id))
        .min_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, id)| id)
}

/// The random number generator: the splitmix64 sequence, determined by its seed.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(hash::mix(seed ^ 0x6a09_e667_f3bc_c908))
    }

    /// A random candidate; the probability is proportional to its weight.
    fn draw<'a>(&mut self, candidates: impl Iterator<Item = Candidate<'a>> + Clone) -> Option<Candidate<'a>> {
        let total = candidates.clone().map(|candidate| candidate.weight).sum();
        let mut left = self.below(total);
        for candidate in candidates {
            if left < candidate.weight {
                return Some(candidate);
            }
            left -= candidate.weight;
        }
        None
    }

    /// A number below `end`; zero if `end` is zero.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // The product's upper half: no division, and a negligible bias.
        ((hash::mix(self.0) as u128 * end as u128) >> 64) as u64
    }
}
