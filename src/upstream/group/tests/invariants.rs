//! What holds after any sequence of events: a group beside a shadow of it that is too simple to be wrong.

use proptest::prelude::*;

use super::*;

/// What may happen to a group. Numbers are reduced to what there is.
#[derive(Clone, Debug)]
enum Event {
    Pick {
        choice: u8,
        tried: u8,
    },
    End {
        which: usize,
        verdict: Verdict,
    },
    Note {
        which: usize,
        verdict: Verdict,
    },
    Check {
        member: u16,
        is_up: bool,
    },
    GiveUp {
        which: usize,
    },
    /// One that was woken comes for its place.
    Serve,
    Pass {
        millis: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![
        2 => Just(Verdict::Success),
        4 => Just(Verdict::Failure),
        1 => Just(Verdict::Neutral),
    ];
    prop_oneof![
        6 => (any::<u8>(), prop_oneof![Just(0), any::<u8>()]).prop_map(|(choice, tried)| Event::Pick { choice, tried }),
        5 => (any::<usize>(), verdict.clone()).prop_map(|(which, verdict)| Event::End { which, verdict }),
        1 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Event::Note { which, verdict }),
        1 => (any::<u16>(), any::<bool>()).prop_map(|(member, is_up)| Event::Check { member, is_up }),
        1 => any::<usize>().prop_map(|which| Event::GiveUp { which }),
        4 => Just(Event::Serve),
        2 => (0..3000_u64).prop_map(|millis| Event::Pass { millis }),
    ]
}

fn members() -> impl Strategy<Value = Vec<MemberConfig>> {
    let member = (0..4_u32, prop::bool::weighted(0.3), 0..3_usize);
    prop::collection::vec(member, 1..6).prop_map(|members| {
        let member = |(index, (weight, is_backup, connections_max)): (usize, (u32, bool, usize))| MemberConfig {
            weight,
            is_backup,
            connections_max,
            ..MemberConfig::new(format!("10.0.0.{index}:80").parse().unwrap())
        };
        members.into_iter().enumerate().map(member).collect()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::RoundRobin), Just(Policy::LeastConnections), Just(Policy::RandomOfTwo)]
}

/// The group, what is in flight there, and who waits.
struct Shadowed {
    group: Rc<Group>,
    configs: Vec<MemberConfig>,
    checked_up: Vec<bool>,
    in_flight: Vec<MemberId>,
    waiting: Vec<Key>,
    /// Who was woken and has not come yet, and whether all can have a place still as far as health goes.
    woken: Vec<Key>,
    is_disturbed: bool,
    keys: u32,
    now: Time,
}

impl Shadowed {
    fn new(configs: Vec<MemberConfig>, policy: Policy) -> Self {
        let queue = QueueConfig { waiting_max: 4, ..QueueConfig::default() };
        let config = GroupConfig { members: configs.clone(), policy, queue, ..GroupConfig::default() };
        Self {
            group: Group::new(config, 3),
            checked_up: vec![true; configs.len()],
            configs,
            in_flight: Vec::new(),
            waiting: Vec::new(),
            woken: Vec::new(),
            is_disturbed: false,
            keys: 0,
            now: Time::ZERO,
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Pick { choice, tried } => {
                let choice = match choice % 4 {
                    0 => Choice::Hash(u64::from(choice)),
                    1 => Choice::Member(MemberId(u16::from(choice / 4) % self.configs.len() as u16)),
                    _ => Choice::Any,
                };
                let tried = self::tried(&(0..8).filter(|bit| tried >> bit & 1 == 1).collect::<Vec<u16>>());
                self.pick(choice, &tried);
            }
            Event::End { which, verdict } if !self.in_flight.is_empty() => {
                let member = self.in_flight.swap_remove(which % self.in_flight.len());
                self.group.end(member, verdict, self.now);
            }
            Event::Note { which, verdict } if !self.in_flight.is_empty() => {
                self.group.note(self.in_flight[which % self.in_flight.len()], verdict, self.now);
            }
            Event::End { .. } | Event::Note { .. } => {}
            Event::Check { member, is_up } => {
                let member = MemberId(member % self.configs.len() as u16);
                self.checked_up[usize::from(member.0)] = is_up;
                self.group.set_checked(member, is_up, self.now);
            }
            Event::GiveUp { which } => {
                let all = self.woken.len() + self.waiting.len();
                let which = which.checked_rem(all).unwrap_or(0);
                if which < self.woken.len() {
                    self.group.give_up(self.woken.remove(which));
                } else if all > 0 {
                    self.group.give_up(self.waiting.remove(which - self.woken.len()));
                }
            }
            Event::Serve => self.serve(),
            Event::Pass { millis } => self.now = self.now + Duration::from_millis(millis),
        }
        while let Some(key) = self.group.take_woken() {
            assert_eq!(key, self.waiting.remove(0), "woken out of turn");
            self.woken.push(key);
        }
        if self.woken.is_empty() {
            self.is_disturbed = false;
        }
        self.is_disturbed |= self.places() < self.woken.len();
        self.check();
    }

    fn pick(&mut self, choice: Choice, tried: &Tried) {
        let usable = |rank| self.group.members().any(|(id, member)| is_of(rank, id, member, tried, self.now));
        let ranks = [Rank::Fresh, Rank::FreshBackup, Rank::Tried, Rank::TriedBackup].map(usable);
        let places = self.places();
        let has_hope = self.checked_up.iter().zip(&self.configs).any(|(is_up, config)| *is_up && config.weight > 0);
        match self.group.pick(choice, tried, self.now) {
            Pick::Member(id) => {
                let config = &self.configs[usize::from(id.0)];
                let is_counted = config.weight > 0 && !self.woken.is_empty();
                assert!(!is_counted || places > self.woken.len(), "the place was another's");
                assert!(self.checked_up[usize::from(id.0)]);
                if choice != Choice::Member(id) {
                    assert!(config.weight > 0);
                    assert!(!(config.is_backup && ranks[Rank::Fresh as usize]), "a backup, though another was up");
                }
                self.in_flight.push(id);
            }
            Pick::Busy => {
                assert!(ranks.contains(&true) || has_hope);
                let key = Key::from_parts(self.keys, 0);
                self.keys += 1;
                let is_in = self.group.wait(key, self.now);
                assert_eq!(is_in, self.waiting.len() < 4);
                if is_in {
                    self.waiting.push(key);
                }
            }
            Pick::Down => assert!(!has_hope, "down, though no check said so of all"),
        }
    }

    fn places(&self) -> usize {
        self.group.places(self.now).unwrap_or(0)
    }

    /// One goes where it can, or leaves.
    fn serve(&mut self) {
        if self.woken.is_empty() {
            return;
        }
        let key = self.woken.remove(0);
        match self.group.pick_again(key, Choice::Any, &NONE, self.now) {
            Pick::Member(id) => self.in_flight.push(id),
            Pick::Busy => assert!(self.is_disturbed, "woken in vain"),
            Pick::Down => {}
        }
    }

    fn check(&self) {
        for (id, config) in self.group.ids().zip(&self.configs) {
            let status = self.group.status(id, self.now).unwrap();
            assert_eq!(status.in_flight, self.in_flight.iter().filter(|member| **member == id).count());
            assert!(config.connections_max == 0 || status.in_flight <= config.connections_max);
        }
        assert_eq!(self.group.waiting(), self.waiting.len());
        if self.waiting.is_empty() {
            return;
        }
        // Nobody waits for what will not come: a request is in flight whose end can wake the next.
        let is_coming = !self.woken.is_empty();
        let has_end = self.in_flight.iter().any(|id| self.configs[usize::from(id.0)].weight > 0);
        assert!(is_coming || has_end, "forgotten in the queue");
        let survey = Survey::new(self.group.members(), &NONE, self.now);
        // Only a back-off that has ended in silence gives a place that no event tells of.
        let is_free = |(id, member): (MemberId, &Member)| {
            survey.rank().is_some_and(|rank| rank.is_open(id, member, &NONE, self.now)) && member.health.get().is_up()
        };
        let free: usize =
            self.group.members().filter(|member| is_free(*member)).map(|(_, member)| member.places()).sum();
        assert!(free <= self.woken.len(), "a place is free while some wait");
    }
}

fn is_of(rank: Rank, id: MemberId, member: &Member, tried: &Tried, now: Time) -> bool {
    Rank::of(id, member, tried) == Some(rank) && member.health.get().is_usable(now)
}

/// A property found it: the member whose place was waited for failed once more, which let the backup be used, and no
/// waiter heard of it.
#[test]
fn a_back_off_that_begins_again_wakes_those_for_whom_there_is_a_backup() {
    let member = |index: u16, weight, is_backup, connections_max| MemberConfig {
        weight,
        is_backup,
        connections_max,
        ..MemberConfig::new(format!("10.0.0.{index}:80").parse().unwrap())
    };
    let members = vec![member(0, 1, true, 0), member(1, 1, false, 1), member(2, 0, false, 0), member(3, 0, false, 0)];
    let pick = |choice| Event::Pick { choice, tried: 0 };
    let (failure, note) =
        (|| Event::End { which: 0, verdict: Verdict::Failure }, || Event::Note { which: 0, verdict: Verdict::Failure });
    let check = |is_up| Event::Check { member: 0, is_up };
    let mut shadowed = Shadowed::new(members, Policy::RoundRobin);
    let events = [pick(0), check(false), note(), pick(10), pick(30), failure(), Event::Serve, pick(0), failure()];
    let more = [Event::Serve, Event::Pass { millis: 1000 }, check(true), pick(0), note()];
    events.into_iter().chain(more).for_each(|event| shadowed.on_event(event));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_limits_ranks_and_the_queue_hold_whatever_happens(
        members in members(),
        policy in policy(),
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut shadowed = Shadowed::new(members, policy);
        for event in events {
            shadowed.on_event(event);
        }
    }

    #[test]
    fn in_every_round_each_has_exactly_its_weight_of_turns(weights in prop::collection::vec(1..20_u32, 1..10)) {
        let round = weights.iter().sum::<u32>() as usize;
        let group = group(&weights, Policy::RoundRobin);
        for _ in 0..3 {
            let shares = shares(&group, requests(round), at(0));
            prop_assert!(shares.iter().zip(&weights).all(|(share, weight)| *share == *weight as usize), "{shares:?}");
        }
    }

    #[test]
    fn equal_members_take_turns_whoever_is_down(count in 2..12_usize, down in prop::collection::vec(any::<bool>(), 12)) {
        let group = group(&vec![1; count], Policy::RoundRobin);
        for (id, _) in group.ids().zip(down).skip(1).filter(|(_, is_down)| *is_down) {
            group.set_checked(id, false, at(0));
        }
        let up = group.ids().filter(|id| group.status(*id, at(0)).unwrap().is_up).count();
        let turns: Vec<u16> = (0..5 * up).map(|_| visit(&group, Choice::Any, at(0))).collect();
        for pair in turns.chunks(up).collect::<Vec<_>>().windows(2) {
            prop_assert_eq!(pair[0], pair[1]);
        }
    }

    #[test]
    fn a_key_moves_only_from_a_member_that_lost_weight_or_to_one_that_gained(
        weights in prop::collection::vec(1..10_u32, 2..10),
        changed in any::<prop::sample::Index>(),
        weight in 1..10_u32,
    ) {
        let changed = changed.index(weights.len());
        let mut others = weights.clone();
        others[changed] = weight;
        let (before, after) = (group(&weights, Policy::RoundRobin), group(&others, Policy::RoundRobin));
        for key in keys(200) {
            let (from, to) = (visit(&before, key, at(0)), visit(&after, key, at(0)));
            let (loser, gainer) = if weight < weights[changed] { (from, u16::MAX) } else { (u16::MAX, to) };
            prop_assert!(from == to || usize::from(loser) == changed || usize::from(gainer) == changed);
        }
    }
}
