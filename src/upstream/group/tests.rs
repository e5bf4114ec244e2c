//! A group as sessions use it.

mod invariants;

use std::time::Duration;

use super::*;
use crate::table::RawKey;

/// One endpoint for each weight.
fn config(weights: &[u32]) -> GroupConfig {
    let endpoint = |(index, weight): (usize, &u32)| EndpointConfig {
        weight: *weight,
        ..EndpointConfig::new(format!("10.0.{}.{}:80", index / 256, index % 256).parse().unwrap())
    };
    GroupConfig { endpoints: weights.iter().enumerate().map(endpoint).collect(), ..GroupConfig::default() }
}

fn group(weights: &[u32], policy: Policy) -> Rc<UpstreamGroup> {
    UpstreamGroup::new(GroupConfig { policy, ..config(weights) }, 7)
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn id(index: u16) -> EndpointId {
    EndpointId(index)
}

fn excluded(indices: &[u16]) -> ExcludedEndpoints {
    let mut excluded = ExcludedEndpoints::new();
    for index in indices {
        excluded.insert(id(*index));
    }
    excluded
}

const NONE: ExcludedEndpoints = ExcludedEndpoints::new();

/// The endpoint of a request that stays in flight.
fn take(group: &UpstreamGroup, balance_key: BalanceKey, now: Time) -> u16 {
    match group.pick(balance_key, &NONE, now) {
        Pick::Endpoint(EndpointId(index)) => index,
        other => panic!("{other:?}"),
    }
}

/// The endpoint of a request that succeeds at once.
fn visit(group: &UpstreamGroup, balance_key: BalanceKey, now: Time) -> u16 {
    let index = take(group, balance_key, now);
    group.end(id(index), HealthVerdict::Success, now);
    index
}

/// Number of requests each endpoint gets.
fn shares(group: &UpstreamGroup, balance_keys: impl Iterator<Item = BalanceKey>, now: Time) -> Vec<usize> {
    let mut shares = vec![0; group.endpoints.len()];
    for balance_key in balance_keys {
        shares[usize::from(visit(group, balance_key, now))] += 1;
    }
    shares
}

fn requests(count: usize) -> impl Iterator<Item = BalanceKey> {
    std::iter::repeat_n(BalanceKey::Any, count)
}

fn keys(count: u64) -> impl Iterator<Item = BalanceKey> + Clone {
    (0..count).map(|number| BalanceKey::Hash(hash::of_bytes(&number.to_be_bytes())))
}

/// Takes an endpoint down by failed requests.
fn fail(group: &UpstreamGroup, index: u16, now: Time) {
    for _ in 0..PassiveHealth::default().failures {
        assert_eq!(group.pick(BalanceKey::Sticky(id(index)), &NONE, now), Pick::Endpoint(id(index)));
        group.end(id(index), HealthVerdict::Failure, now);
    }
    assert!(!group.status(id(index), now).unwrap().is_up);
}

#[test]
fn a_heavy_endpoints_turns_are_spread_evenly() {
    let group = group(&[5, 1, 1], Policy::RoundRobin);
    let turns: Vec<u16> = (0..14).map(|_| visit(&group, BalanceKey::Any, at(0))).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn workers_begin_at_places_that_are_spread_over_a_round() {
    let firsts = |weights: &[u32], policy: Policy, workers: usize| -> Vec<u16> {
        let first = |number| {
            let group = group(weights, policy.clone());
            group.start_apart(number, workers);
            visit(&group, BalanceKey::Any, at(0))
        };
        (0..workers).map(first).collect()
    };
    for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::Sticky { cookie: "to".into() }] {
        assert_eq!(firsts(&[1; 4], policy.clone(), 4), [0, 1, 2, 3], "{policy:?}");
        assert_eq!(firsts(&[1; 3], policy.clone(), 5), [0, 1, 2, 0, 1], "{policy:?}");
        assert_eq!(firsts(&[7; 8], policy.clone(), 2), [0, 4], "{policy:?}");
    }
    // The same as the first seven requests of one worker.
    assert_eq!(firsts(&[5, 1, 1], Policy::RoundRobin, 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(firsts(&[5, 1, 1, 0], Policy::RoundRobin, 4), [0, 0, 1, 0]);
    assert_eq!(firsts(&[65535, 1], Policy::RoundRobin, 2), [0, 1]);
    assert_eq!(group(&[], Policy::RoundRobin).pick(BalanceKey::Any, &NONE, at(0)), Pick::Down);
}

#[test]
fn a_place_to_begin_at_is_found_soon_whatever_the_weights() {
    let weights: Vec<u32> = (0..5000).map(|index| 60_000 + index).collect();
    group(&weights, Policy::RoundRobin).start_apart(63, 64);
    group(&[], Policy::RoundRobin).start_apart(1, 2);
    group(&[0, 0], Policy::RoundRobin).start_apart(1, 2);
}

#[test]
fn the_policies_that_weigh_all_spread_by_weight() {
    let hashed = Policy::Hash(HashSource::Path);
    for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::RandomOfTwo] {
        let shares = shares(&group(&[1, 2, 5], policy.clone()), requests(8000), at(0));
        assert_near(&shares, &[1000, 2000, 5000], &policy);
    }
    assert_near(&shares(&group(&[1, 2, 5], hashed.clone()), keys(8000), at(0)), &[1000, 2000, 5000], &hashed);
}

fn assert_near(shares: &[usize], wanted: &[usize], what: &dyn std::fmt::Debug) {
    let is_near = |(share, wanted): (&usize, &usize)| share.abs_diff(*wanted) * 10 <= *wanted;
    assert!(shares.iter().zip(wanted).all(is_near), "{what:?}: {shares:?}, not {wanted:?}");
}

#[test]
fn least_connections_fills_up_to_the_weights() {
    let group = group(&[1, 3], Policy::LeastConnections);
    for _ in 0..40 {
        take(&group, BalanceKey::Any, at(0));
    }
    let in_flight = |index| group.status(id(index), at(0)).unwrap().in_flight;
    assert_eq!((in_flight(0), in_flight(1)), (10, 30));
}

#[test]
fn of_two_endpoints_random_of_two_takes_the_less_loaded() {
    let group = group(&[1, 1], Policy::RandomOfTwo);
    for _ in 0..5 {
        assert_eq!(group.pick(BalanceKey::Sticky(id(0)), &NONE, at(0)), Pick::Endpoint(id(0)));
    }
    assert!((0..5).all(|_| take(&group, BalanceKey::Any, at(0)) == 1));
}

#[test]
fn random_of_two_avoids_an_endpoint_that_hangs_yet_not_as_all_do_at_once() {
    let group = group(&[1; 10], Policy::RandomOfTwo);
    for _ in 0..100 {
        assert_eq!(group.pick(BalanceKey::Sticky(id(3)), &NONE, at(0)), Pick::Endpoint(id(3)));
    }
    let shares = shares(&group, requests(900), at(0));
    assert_eq!(shares[3], 0);
    assert!(shares.iter().enumerate().all(|(index, share)| index == 3 || *share > 50), "{shares:?}");
}

#[test]
fn chance_follows_from_the_seed() {
    let run = |seed| -> Vec<u16> {
        let group = UpstreamGroup::new(GroupConfig { policy: Policy::RandomOfTwo, ..config(&[1; 10]) }, seed);
        (0..50).map(|_| visit(&group, BalanceKey::Any, at(0))).collect()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn the_same_key_goes_to_the_same_endpoint_in_every_worker_run_and_order_of_the_configuration() {
    let pinned = [2, 0, 1, 2, 1, 2, 1, 2];
    let group = group(&[1, 1, 1], Policy::Hash(HashSource::Client));
    let found: Vec<u16> = keys(8).map(|key| visit(&group, key, at(0))).collect();
    assert_eq!(found, pinned, "every key of every installation would move");

    let mut reversed = config(&[1, 1, 1]);
    reversed.endpoints.reverse();
    let reversed = UpstreamGroup::new(reversed, 8);
    assert!(keys(8).map(|key| 2 - visit(&reversed, key, at(0))).eq(pinned));
}

#[test]
fn an_endpoint_that_is_removed_gives_away_only_its_own_keys() {
    let all = group(&[1, 2, 3, 4], Policy::Hash(HashSource::Path));
    let mut without = config(&[1, 2, 3, 4]);
    without.endpoints.remove(2);
    let without = UpstreamGroup::new(without, 7);
    for key in keys(2000) {
        let (before, after) = (visit(&all, key, at(0)), visit(&without, key, at(0)));
        let after = if after >= 2 { after + 1 } else { after };
        assert!(before == after || before == 2, "{key:?} moved from {before} to {after}");
    }
}

#[test]
fn the_keys_of_an_endpoint_that_is_down_are_spread_over_the_others_and_come_back() {
    let group = group(&[1; 4], Policy::Hash(HashSource::Path));
    let before: Vec<u16> = keys(1000).map(|key| visit(&group, key, at(0))).collect();
    group.set_checked(id(2), false, at(0));
    let during: Vec<u16> = keys(1000).map(|key| visit(&group, key, at(0))).collect();
    assert!(before.iter().zip(&during).all(|(before, during)| before == during || *before == 2));
    let adopted = |by| before.iter().zip(&during).filter(|(before, during)| **before == 2 && **during == by).count();
    assert!([0, 1, 3].into_iter().all(|index| adopted(index) > 50));

    group.set_checked(id(2), true, at(0));
    let early = keys(1000).filter(|key| visit(&group, *key, at(0)) == 2).count();
    assert!((1..100).contains(&early), "{early} keys came back at once");
    assert!(keys(1000).map(|key| visit(&group, key, at(10))).eq(before));
}

#[test]
fn a_cookie_leads_to_its_endpoint_and_from_an_endpoint_that_is_down_to_all_the_others() {
    let group = group(&[1, 1, 1], Policy::Sticky { cookie: "to".into() });
    assert!((0..9).all(|_| visit(&group, BalanceKey::Sticky(id(1)), at(0)) == 1));
    group.set_checked(id(1), false, at(0));
    assert_eq!(shares(&group, std::iter::repeat_n(BalanceKey::Sticky(id(1)), 10), at(0)), [5, 0, 5]);
    assert_eq!(group.pick(BalanceKey::Sticky(id(0)), &excluded(&[0]), at(0)), Pick::Endpoint(id(2)));
    assert_eq!(shares(&group, std::iter::repeat_n(BalanceKey::Sticky(id(999)), 10), at(0)), [5, 0, 5]);
}

#[test]
fn tags_are_stable_distinct_and_hide_the_address() {
    let mut twins = config(&[1; 100]);
    twins.endpoints.push(twins.endpoints[0].clone());
    let group = UpstreamGroup::new(twins, 0);
    assert_eq!(group.tag(id(0)), "a7afda93345e034a", "every cookie of every installation would be void");
    for endpoint in group.ids() {
        assert_eq!(group.endpoint_of_tag(group.tag(endpoint).as_bytes()), Some(endpoint));
    }
    assert_eq!(group.endpoint_of_tag(b""), None);
    assert_eq!(group.endpoint_of_tag(b"10.0.0.0:80"), None);
}

#[test]
fn an_endpoint_being_drained_takes_only_what_belongs_to_it() {
    let group = group(&[0, 1], Policy::RoundRobin);
    assert!((0..9).all(|_| visit(&group, BalanceKey::Any, at(0)) == 1));
    assert_eq!(visit(&group, BalanceKey::Sticky(id(0)), at(0)), 0);
    group.set_checked(id(1), false, at(0));
    assert_eq!(group.pick(BalanceKey::Any, &NONE, at(0)), Pick::Down);
}

#[test]
fn tried_endpoints_are_avoided_while_another_is_there() {
    for policy in [Policy::RoundRobin, Policy::LeastConnections, Policy::RandomOfTwo] {
        let group = group(&[100, 100, 1], policy);
        assert!((0..9).all(|_| group.pick(BalanceKey::Any, &excluded(&[0, 1]), at(0)) == Pick::Endpoint(id(2))));
        assert!(matches!(group.pick(BalanceKey::Any, &excluded(&[0, 1, 2]), at(0)), Pick::Endpoint(_)));
    }
    let many = group(&[1; 200], Policy::Hash(HashSource::Path));
    let but_one: Vec<u16> = (0..200).filter(|index| *index != 170).collect();
    assert_eq!(many.pick(BalanceKey::Hash(5), &excluded(&but_one), at(0)), Pick::Endpoint(id(170)));
}

#[test]
fn failures_in_a_row_take_an_endpoint_out_and_exactly_one_request_tries_it_afterwards() {
    let group = group(&[1, 1], Policy::RoundRobin);
    fail(&group, 0, at(0));
    assert_eq!(shares(&group, requests(10), at(0)), [0, 10]);
    let turns: Vec<u16> = (0..10).map(|_| take(&group, BalanceKey::Any, at(1))).collect();
    assert_eq!(turns.iter().filter(|index| **index == 0).count(), 1, "{turns:?}");
}

#[test]
fn an_endpoint_that_has_come_back_starts_slowly() {
    let group = group(&[1, 1], Policy::RoundRobin);
    fail(&group, 0, at(0));
    while visit(&group, BalanceKey::Any, at(1)) != 0 {}
    assert_near(&shares(&group, requests(1100), at(1)), &[100, 1000], &"at once");
    assert_near(&shares(&group, requests(1550), at(6)), &[550, 1000], &"half-way");
    assert_near(&shares(&group, requests(2000), at(11)), &[1000, 1000], &"at the end");
}

#[test]
fn a_long_request_can_vouch_for_its_endpoint_before_it_ends() {
    let group = group(&[1, 1], Policy::RoundRobin);
    fail(&group, 0, at(0));
    assert_eq!(take(&group, BalanceKey::Sticky(id(0)), at(1)), 0);
    group.note(id(0), HealthVerdict::Success, at(1));
    assert_eq!(group.status(id(0), at(1)), Some(EndpointStatus { is_up: true, in_flight: 1, weight_permille: 100 }));
}

#[test]
fn the_only_endpoint_is_never_taken_out_by_failures_but_by_checks() {
    let group = group(&[1], Policy::RoundRobin);
    for _ in 0..100 {
        assert_eq!(take(&group, BalanceKey::Any, at(0)), 0);
        group.end(id(0), HealthVerdict::Failure, at(0));
    }
    group.set_checked(id(0), false, at(0));
    assert_eq!(group.pick(BalanceKey::Any, &NONE, at(0)), Pick::Down);
}

/// Takes all endpoints down by failed requests, one after the other.
fn fail_all(group: &UpstreamGroup) {
    for index in 0..group.endpoints.len() as u16 {
        fail(group, index, at(0));
    }
}

#[test]
fn failures_never_take_out_all_and_the_least_bad_is_tried() {
    let group = group(&[1, 1, 1], Policy::RoundRobin);
    let millis = |millis| at(0) + Duration::from_millis(millis);
    for index in [1, 0, 2] {
        fail(&group, index, millis(u64::from(index != 1) * 10 + u64::from(index == 2) * 10));
    }
    // First the one whose back-off ends first; then the others, since that one has failed again.
    let turns: Vec<u16> = (0..6)
        .map(|step| {
            let now = millis(100 + step);
            let index = take(&group, BalanceKey::Any, now);
            group.end(id(index), HealthVerdict::Failure, now);
            index
        })
        .collect();
    assert_eq!(turns, [1, 0, 2, 1, 0, 2]);
    assert_eq!(
        group.pick(BalanceKey::Any, &excluded(&[0, 1]), millis(200)),
        Pick::Endpoint(id(2)),
        "the one that was not tried yet"
    );
    // Concurrent requests are spread.
    let taken: Vec<u16> = (0..5).map(|_| take(&group, BalanceKey::Any, millis(200))).collect();
    assert_eq!(taken, [1, 0, 1, 0, 2]);
    // One response brings it up.
    group.end(id(0), HealthVerdict::Success, millis(200));
    assert!(group.status(id(0), millis(200)).unwrap().is_up);
    assert!((0..5).all(|_| take(&group, BalanceKey::Any, millis(200)) == 0));
}

#[test]
fn what_checks_or_the_operator_have_taken_out_is_not_tried() {
    let group = group(&[1, 1, 0], Policy::RoundRobin);
    fail_all(&group);
    group.set_checked(id(0), false, at(0));
    assert!((0..5).all(|_| take(&group, BalanceKey::Any, at(0)) == 1));
    group.set_checked(id(1), false, at(0));
    assert_eq!(group.pick(BalanceKey::Any, &NONE, at(0)), Pick::Down);
}

#[test]
fn limits_hold_also_where_all_have_failed() {
    let mut config = config(&[1, 1]);
    config.endpoints.iter_mut().for_each(|endpoint| endpoint.connections_max = 1);
    let group = UpstreamGroup::new(config, 0);
    fail_all(&group);
    assert_eq!((take(&group, BalanceKey::Any, at(0)), take(&group, BalanceKey::Any, at(0))), (0, 1));
    assert_eq!(group.pick(BalanceKey::Any, &NONE, at(0)), Pick::Busy);
    assert!(group.wait(waiter(7), at(0)));
    group.end(id(1), HealthVerdict::Failure, at(0));
    assert_eq!(woken(&group), [7]);
    assert_eq!(group.pick_again(waiter(7), BalanceKey::Any, &NONE, at(0)), Pick::Endpoint(id(1)));
}

#[test]
fn a_group_without_endpoints_is_down() {
    assert_eq!(group(&[], Policy::RandomOfTwo).pick(BalanceKey::Hash(1), &NONE, at(0)), Pick::Down);
}

#[test]
fn backups_are_used_when_every_other_endpoint_is_down() {
    let mut config = config(&[1, 1, 1, 1]);
    config.endpoints[2].is_backup = true;
    config.endpoints[3].is_backup = true;
    let group = UpstreamGroup::new(config, 0);
    assert_eq!(shares(&group, requests(10), at(0)), [5, 5, 0, 0]);
    fail(&group, 0, at(0));
    assert_eq!(shares(&group, requests(10), at(0)), [0, 10, 0, 0]);
    fail(&group, 1, at(0));
    assert_eq!(shares(&group, requests(10), at(0)), [0, 0, 5, 5]);
    fail(&group, 2, at(0));
    group.set_checked(id(3), false, at(0));
    // The primary endpoints get their trials first.
    assert!(take(&group, BalanceKey::Any, at(1)) < 2);
}

#[test]
fn a_request_that_all_others_have_failed_goes_to_a_backup() {
    let mut config = config(&[1, 1, 1]);
    config.endpoints[2].is_backup = true;
    let group = UpstreamGroup::new(config, 0);
    assert_eq!(group.pick(BalanceKey::Any, &excluded(&[0]), at(0)), Pick::Endpoint(id(1)));
    assert_eq!(group.pick(BalanceKey::Any, &excluded(&[0, 1]), at(0)), Pick::Endpoint(id(2)));
    assert!(matches!(group.pick(BalanceKey::Any, &excluded(&[0, 1, 2]), at(0)), Pick::Endpoint(EndpointId(0 | 1))));
}

/// Two endpoints with one slot each, both taken, and a backup without a limit.
fn full(waiting_max: usize) -> Rc<UpstreamGroup> {
    let mut config = config(&[1, 1, 1]);
    config.endpoints[0].connections_max = 1;
    config.endpoints[1].connections_max = 1;
    config.endpoints[2].is_backup = true;
    config.queue.waiting_max = waiting_max;
    let group = UpstreamGroup::new(config, 0);
    assert_eq!((take(&group, BalanceKey::Any, at(0)), take(&group, BalanceKey::Any, at(0))), (0, 1));
    group
}

const fn waiter(index: u32) -> Waiter {
    Waiter::only_stream_of(RawKey::from_parts(index, 0).typed())
}

fn woken(group: &UpstreamGroup) -> Vec<u32> {
    std::iter::from_fn(|| group.take_woken()).map(|waiter| waiter.session.index()).collect()
}

#[test]
fn at_the_limit_of_connections_requests_wait_rather_than_go_to_a_backup() {
    let group = full(9);
    for balance_key in [BalanceKey::Any, BalanceKey::Hash(1), BalanceKey::Sticky(id(1))] {
        assert_eq!(group.pick(balance_key, &NONE, at(0)), Pick::Busy);
    }
    group.end(id(1), HealthVerdict::Success, at(0));
    assert!([BalanceKey::Hash(1), BalanceKey::Hash(2)].into_iter().all(|balance_key| visit(
        &group,
        balance_key,
        at(0)
    ) == 1));
}

#[test]
fn a_place_that_becomes_free_wakes_the_oldest() {
    let group = full(2);
    assert!(group.wait(waiter(7), at(0)) && group.wait(waiter(8), at(1)));
    assert!(!group.wait(waiter(9), at(2)));
    assert!(woken(&group).is_empty());
    group.end(id(0), HealthVerdict::Neutral, at(3));
    assert_eq!(woken(&group), [7]);
    assert_eq!(group.waiting(), 1);
}

#[test]
fn a_place_is_kept_for_the_one_that_was_woken_for_it() {
    let group = full(9);
    assert!(group.wait(waiter(7), at(0)) && group.wait(waiter(8), at(1)));
    group.end(id(0), HealthVerdict::Success, at(2));
    assert_eq!(woken(&group), [7]);
    // A new request has to queue; so does the next waiter, which was not woken.
    assert_eq!(group.pick(BalanceKey::Any, &NONE, at(2)), Pick::Busy);
    assert_eq!(group.pick_again(waiter(8), BalanceKey::Any, &NONE, at(2)), Pick::Busy);
    assert_eq!(group.pick_again(waiter(7), BalanceKey::Any, &NONE, at(2)), Pick::Endpoint(id(0)));
    group.end(id(0), HealthVerdict::Success, at(3));
    assert_eq!(woken(&group), [8]);
    group.give_up(waiter(8));
    assert_eq!(take(&group, BalanceKey::Any, at(3)), 0);
}

#[test]
fn a_waiter_that_gives_up_is_not_woken() {
    let group = full(9);
    assert!(group.wait(waiter(7), at(0)) && group.wait(waiter(8), at(0)));
    group.give_up(waiter(7));
    group.end(id(0), HealthVerdict::Success, at(0));
    assert_eq!(woken(&group), [8]);
}

#[test]
fn all_wake_when_an_endpoint_without_limit_comes_up_or_none_is_left() {
    let group = full(9);
    assert!((0..5).all(|index| group.wait(waiter(index), at(0))));
    group.set_checked(id(0), false, at(0));
    assert!(woken(&group).is_empty());
    group.set_checked(id(1), false, at(0));
    assert_eq!(woken(&group), [0, 1, 2, 3, 4]);
    assert_eq!(take(&group, BalanceKey::Any, at(0)), 2);

    let without_backup = full(9);
    without_backup.set_checked(id(2), false, at(0));
    assert!(without_backup.wait(waiter(0), at(0)) && without_backup.wait(waiter(1), at(0)));
    without_backup.set_checked(id(0), false, at(0));
    without_backup.set_checked(id(1), false, at(0));
    assert_eq!(woken(&without_backup), [0, 1]);
    assert_eq!(without_backup.pick(BalanceKey::Any, &NONE, at(0)), Pick::Down);
}

#[test]
fn a_waiters_patience_ends_as_configured() {
    assert_eq!(full(9).wait_deadline(at(5)), Some(at(15)));
    let queue = QueueConfig { timeout: Duration::ZERO, ..QueueConfig::default() };
    assert_eq!(UpstreamGroup::new(GroupConfig { queue, ..config(&[1]) }, 0).wait_deadline(at(5)), None);
}
