//! How a group behaves, seen from a session.

use super::*;

fn config(weights: &[u32]) -> GroupConfig {
    let member = |(index, weight): (usize, &u32)| MemberConfig {
        weight: *weight,
        ..MemberConfig::new(format!("10.0.{}.{}:80", index / 256, index % 256).parse().unwrap())
    };
    GroupConfig { members: weights.iter().enumerate().map(member).collect(), ..GroupConfig::default() }
}

fn take(group: &Group, choice: Choice, now: Time) -> u16 {
    match group.pick(choice, &Tried::new(), now) {
        Pick::Member(MemberId(index)) => index,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_heavy_members_turns_are_spread_evenly() {
    let group = Group::new(config(&[5, 1, 1]), 0);
    let turns: Vec<u16> = (0..14).map(|_| take(&group, Choice::Any, Time::ZERO)).collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}
