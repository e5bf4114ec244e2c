//! Several upstreams that serve the same: which of them takes a request, which is down, who waits for a place.
//!
//! One [`Group`] a worker and route, shared by its sessions:
//!
//! ```text
//!   pick ──► Member(id) ──► connect, send, read … ──► end(id, verdict)         exactly once each
//!     ├────► Busy ──► wait(key) … take_woken() gives the key ──► pick_again    or the queue is full, or give_up(key)
//!     └────► Down
//! ```
//!
//! A request that fails and may be tried again inserts the member into its [`Tried`] and picks again.
//!
//! # Who may be used
//!
//! Members that are up come first. Backups are used when every other member is down, or has failed this very request.
//! Members that the request has tried come last. A member at its limit of connections takes nothing; while it is up,
//! requests rather wait than go to a backup.
//!
//! Requests that fail never take out all: a client may be able to make them fail at will. When no member is up, the least
//! bad of those that only such failures took out is used: one that the request has not tried, with the fewest requests in
//! flight, whose back-off ends first. [`Pick::Down`] is left for checks and the operator to decide.
//!
//! It does no I/O and reads no clock: time is given, and chance comes from a seed, so that a simulation can repeat it.

mod config;
pub mod hash;
mod health;
mod member;
mod policy;
mod queue;
mod rank;
mod tried;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

pub use config::{
    CheckConfig, CheckKind, GroupConfig, HashSource, MEMBERS_MAX, MemberConfig, PassiveHealth, Policy, QueueConfig,
    ResolveInterval, SlowStart,
};
pub use health::{CheckCounter, Verdict};
pub use tried::Tried;

use self::health::{Change, Health};
use self::member::{Member, Standing};
use self::policy::{Candidate, Chance};
use self::queue::Queue;
use self::rank::{Rank, Survey};
use super::{Upstream, Upstreams};
use crate::driver::Time;
use crate::table::Key;
use crate::tcp::proxy_header::ProxyVersion;

/// Several upstreams that serve the same. See the module's page.
#[derive(Debug)]
pub struct Group {
    members: Box<[Member]>,
    policy: Policy,
    passive: PassiveHealth,
    slow_start: SlowStart,
    queue_config: QueueConfig,
    queue: RefCell<Queue>,
    chance: RefCell<Chance>,
    checks: Option<Rc<CheckConfig>>,
    resolve: ResolveInterval,
    announce: Option<ProxyVersion>,
}

/// Names a member by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u16);

/// What a request brings that decides where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: as the policy says.
    Any,
    /// The hash of its key ([`hash`]). If its member is down, full or tried, the key's next best takes it. During slow
    /// start a member gets its keys back one by one.
    Hash(u64),
    /// The member that it belongs to, by its cookie. A member that is being drained takes it, and a backup, too. If the
    /// member is down, full or tried, as in round robin, so that what was one member's is spread over all the others.
    Member(MemberId),
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pick {
    /// There. To be ended exactly once, by [`Group::end`].
    Member(MemberId),
    /// Some are up, but all that may be used are at their limit of connections.
    Busy,
    /// None is up, by what the checks or the operator say.
    Down,
}

/// How a member is doing, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Whether it takes requests as ever. A member that one request is trying is not up yet.
    pub is_up: bool,
    /// Requests there now.
    pub in_flight: usize,
    /// Its weight as it counts now, in thousandths; grows during slow start.
    pub weight_permille: u64,
}

impl Group {
    /// A group with every member up. `seed` decides what is left to chance; workers should have different ones.
    pub fn new(config: GroupConfig, seed: u64) -> Rc<Self> {
        Self::sharing(&mut Upstreams::default(), config, seed)
    }

    /// The same, with upstreams that other groups have, too, if they have the same address.
    pub fn sharing(upstreams: &mut Upstreams, config: GroupConfig, seed: u64) -> Rc<Self> {
        let GroupConfig { members: configs, policy, mut passive, slow_start, queue, checks, resolve, announce } =
            config;
        if configs.len() == 1 {
            // Better a request that may fail than one that fails for certain.
            passive.failures = 0;
        }
        let members = configs.iter().take(MEMBERS_MAX).enumerate().map(|(index, config)| {
            let twins_before = configs.iter().take(index).filter(|other| other.address == config.address).count();
            Member::new(config, upstreams.at(&config.address), twins_before as u64)
        });
        Rc::new(Self {
            members: members.collect(),
            policy,
            passive,
            slow_start,
            queue_config: queue,
            queue: RefCell::new(Queue::new(queue.waiting_max)),
            chance: RefCell::new(Chance::new(seed)),
            checks: checks.map(Rc::new),
            resolve,
            announce,
        })
    }

    /// Says that the group is that of one of several workers, so that they do not all begin with the same member.
    pub fn start_apart(&self, number: usize, workers: usize) {
        for is_backup in [false, true] {
            let candidates =
                self.members().filter(|(_, member)| member.is_backup == is_backup && !member.is_draining());
            let candidates = candidates.map(|(id, member)| {
                let weight = member.weight(self.slow_start, Time::ZERO);
                Candidate { id, member, weight }
            });
            policy::start_apart(candidates, number as u64, workers as u64);
        }
    }

    /// The member's upstream.
    ///
    /// # Panics
    /// If the id is another group's.
    pub fn upstream(&self, member: MemberId) -> &Rc<Upstream> {
        &self.members[usize::from(member.0)].upstream
    }

    /// The policy, which says what [`Choice`] a request should bring.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How the members are to be checked; whoever does it reports to [`Group::set_checked`].
    pub const fn checks(&self) -> Option<&Rc<CheckConfig>> {
        self.checks.as_ref()
    }

    /// How often the names of the members are to be looked up.
    pub const fn resolve_interval(&self) -> ResolveInterval {
        self.resolve
    }

    /// Whether connections begin with a header of the PROXY protocol, and of which version.
    pub const fn announces(&self) -> Option<ProxyVersion> {
        self.announce
    }

    /// A time below `end`, left to chance.
    pub fn draw(&self, end: Duration) -> Duration {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.chance.borrow_mut().below(nanos))
    }

    /// How many members there are.
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none, so that nothing can be picked.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Every member's id.
    pub fn ids(&self) -> impl Iterator<Item = MemberId> + use<> {
        (0..self.members.len() as u16).map(MemberId)
    }

    /// How the member is doing; `None` if the id is another group's.
    pub fn status(&self, member: MemberId, now: Time) -> Option<MemberStatus> {
        let member = self.member(member)?;
        let is_up = member.health.get().is_up();
        let weight_permille = if is_up { member.weight(self.slow_start, now) } else { 0 };
        Some(MemberStatus { is_up, in_flight: member.in_flight.get(), weight_permille })
    }

    /// Chooses a member for a request and counts it as in flight there. Places that were freed for requests that wait are
    /// theirs.
    pub fn pick(&self, choice: Choice, tried: &Tried, now: Time) -> Pick {
        let promised = self.queue.borrow().promised();
        let is_for_others = promised > 0 && self.places(now).is_some_and(|places| places <= promised);
        if is_for_others { Pick::Busy } else { self.pick_any(choice, tried, now) }
    }

    /// The same for a request that waits: if it was woken, it has the place that was kept for it.
    pub fn pick_again(&self, key: Key, choice: Choice, tried: &Tried, now: Time) -> Pick {
        if self.is_waiting(key) {
            return self.pick(choice, tried, now);
        }
        self.queue.borrow_mut().redeem();
        self.pick_any(choice, tried, now)
    }

    fn pick_any(&self, choice: Choice, tried: &Tried, now: Time) -> Pick {
        if let Choice::Member(id) = choice
            && !tried.contains(id)
            && self.member(id).is_some_and(|member| member.standing(now) == Standing::Open)
        {
            return self.begin(id, now);
        }
        let survey = Survey::new(self.members(), tried, now);
        match survey.rank().and_then(|rank| self.choose(rank, choice, tried, now)) {
            Some(id) => self.begin(id, now),
            None if survey.is_any_up() => Pick::Busy,
            None => self.pick_least_bad(tried, now),
        }
    }

    /// None is up; but what only failed requests say of a member is not enough to ask nobody.
    fn pick_least_bad(&self, tried: &Tried, now: Time) -> Pick {
        let all = self.members().filter_map(|(id, member)| Some((id, member, member.down_until()?)));
        let open = all.clone().filter(|(_, member, _)| member.room() > 0);
        let best = open.min_by_key(|(id, member, until)| (tried.contains(*id), member.in_flight.get(), *until));
        match best {
            Some((id, ..)) => self.begin(id, now),
            None if all.count() > 0 => Pick::Busy,
            None => Pick::Down,
        }
    }

    /// The request is over there. Called exactly once for each [`Pick::Member`]. If it frees a place that another waits
    /// for, [`Group::take_woken`] tells.
    pub fn end(&self, member: MemberId, verdict: Verdict, now: Time) {
        let Some(entry) = self.member(member) else { return };
        debug_assert!(entry.in_flight.get() > 0, "{member:?} was ended more often than picked");
        entry.in_flight.set(entry.in_flight.get().saturating_sub(1));
        // A change has woken as many as there are places, this one among them.
        let has_changed = self.on_verdict(member, verdict, now);
        let frees_a_place = !has_changed && !entry.is_draining();
        if frees_a_place && self.waiting() > 0 {
            self.wake(self.places(now).unwrap_or(0));
        }
    }

    /// What the request has shown so far, while it goes on: for example that a WebSocket was accepted, which may then last
    /// for hours. At the end, say [`Verdict::Neutral`], or what else it has shown.
    pub fn note(&self, member: MemberId, verdict: Verdict, now: Time) {
        self.on_verdict(member, verdict, now);
    }

    /// What active checks say, after [`CheckCounter`]. Every member is up until told otherwise. Who checks knows why, and
    /// logs it.
    pub fn set_checked(&self, member: MemberId, is_up: bool, now: Time) {
        self.update(member, now, |health, _| health.on_checked(is_up, now));
    }

    /// The member that a sticky cookie's value names, if it names one of this group.
    pub fn member_of_tag(&self, tag: &[u8]) -> Option<MemberId> {
        self.members().find(|(_, member)| member.tag.as_bytes() == tag).map(|(id, _)| id)
    }

    /// What a sticky cookie calls the member: 16 hexadecimal digits that follow from its address, so that they outlive
    /// restarts and changes of the other members. They do not show it, yet they are no secret: who guesses an address can
    /// check the guess.
    ///
    /// # Panics
    /// If the id is another group's.
    pub fn tag(&self, member: MemberId) -> &str {
        &self.members[usize::from(member.0)].tag
    }

    /// A request that was told [`Pick::Busy`] waits for a place; false: the queue is full. `since` is when it began to
    /// wait: one that was woken in vain says it again, and has its old place in the queue.
    pub fn wait(&self, key: Key, since: Time) -> bool {
        self.queue.borrow_mut().push(key, since)
    }

    /// Until when a request may wait that has waited since then; `None`: for ever.
    pub fn wait_deadline(&self, since: Time) -> Option<Time> {
        (!self.queue_config.timeout.is_zero()).then(|| since + self.queue_config.timeout)
    }

    /// The request no longer wants a place: it waited too long, its client left. Also to be called if it was woken but has
    /// not picked since, so that the next is woken in its stead.
    pub fn give_up(&self, key: Key) {
        self.queue.borrow_mut().remove(key);
    }

    /// The next request that should pick again, until `None`. To be asked after [`Group::end`], [`Group::note`],
    /// [`Group::set_checked`] and [`Group::give_up`].
    pub fn take_woken(&self) -> Option<Key> {
        self.queue.borrow_mut().pop_woken()
    }

    /// Whether the session waits, and has not been woken yet.
    pub fn is_waiting(&self, key: Key) -> bool {
        self.queue.borrow().contains(key)
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.queue.borrow().len()
    }

    fn members(&self) -> impl Iterator<Item = (MemberId, &Member)> + Clone {
        self.members.iter().enumerate().map(|(index, member)| (MemberId(index as u16), member))
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(usize::from(id.0))
    }

    /// One of the members of this rank, by the policy.
    fn choose(&self, rank: Rank, choice: Choice, tried: &Tried, now: Time) -> Option<MemberId> {
        let candidates = self.members().filter_map(move |(id, member)| {
            let is_candidate = rank.is_open(id, member, tried, now);
            is_candidate.then(|| Candidate { id, member, weight: member.weight(self.slow_start, now) })
        });
        match (choice, &self.policy) {
            (Choice::Hash(key), _) => policy::rendezvous(candidates, key),
            (Choice::Any, Policy::LeastConnections) => policy::least_connections(candidates),
            (Choice::Any, Policy::RandomOfTwo) => policy::random_of_two(candidates, &mut self.chance.borrow_mut()),
            // A request without the field to hash, without a cookie, or with the cookie of a member that is down.
            (Choice::Any, Policy::RoundRobin | Policy::Hash(_) | Policy::Sticky { .. }) | (Choice::Member(_), _) => {
                policy::round_robin(candidates)
            }
        }
    }

    fn begin(&self, id: MemberId, now: Time) -> Pick {
        let Some(member) = self.member(id) else { return Pick::Down };
        member.in_flight.set(member.in_flight.get() + 1);
        let mut health = member.health.get();
        health.begin(&self.passive, now);
        member.health.set(health);
        if !health.is_up() && self.waiting() > 0 {
            // A back-off that ends wakes nobody. If this request was woken, then for another place, which is free still.
            self.wake(self.places(now).unwrap_or(0));
        }
        Pick::Member(id)
    }

    /// Whether the member went down or came back by it.
    fn on_verdict(&self, member: MemberId, verdict: Verdict, now: Time) -> bool {
        self.update(member, now, |health, in_flight| health.on_verdict(verdict, in_flight, &self.passive, now))
    }

    fn update(&self, id: MemberId, now: Time, change: impl FnOnce(&mut Health, usize) -> Option<Change>) -> bool {
        let Some(member) = self.member(id) else { return false };
        let before = member.health.get();
        let mut health = before;
        let change = change(&mut health, member.in_flight.get());
        member.health.set(health);
        if let Some(change) = change {
            report(member, change);
        }
        // Also what is not worth a report may be why others are asked now: a back-off that begins again lets backups be used.
        if (change.is_some() || health != before) && self.waiting() > 0 {
            // If none is up, all should hear of it.
            self.wake(self.places(now).unwrap_or(usize::MAX));
        }
        change.is_some()
    }

    /// So many places are free: those that nobody was promised are for who has waited longest.
    fn wake(&self, places: usize) {
        let mut queue = self.queue.borrow_mut();
        let places = places.saturating_sub(queue.promised());
        queue.wake(places);
    }

    /// How many requests that have tried nothing yet could be picked for now; `None` if none is up, nor could be tried.
    fn places(&self, now: Time) -> Option<usize> {
        let none_tried = Tried::new();
        let survey = Survey::new(self.members(), &none_tried, now);
        let Some(rank) = survey.rank() else {
            let down = self.members().filter(|(_, member)| member.down_until().is_some());
            let room = down.map(|(_, member)| member.room()).reduce(usize::saturating_add);
            return if survey.is_any_up() { Some(0) } else { room };
        };
        let open = self.members().filter(|(id, member)| rank.is_open(*id, member, &none_tried, now));
        Some(open.fold(0, |places: usize, (_, member)| places.saturating_add(member.places())))
    }
}

fn report(member: &Member, change: Change) {
    let upstream = member.upstream.address();
    match change {
        Change::Failed { failures, back_off } => {
            tracing::info!(%upstream, failures, back_off_ms = back_off.as_millis() as u64, "upstream down: requests fail");
        }
        Change::TrialFailed { back_off } => {
            tracing::debug!(%upstream, back_off_ms = back_off.as_millis() as u64, "upstream still down: its trial failed");
        }
        Change::TrialSucceeded => tracing::info!(%upstream, "upstream up: it answers again"),
        // Who has checked it has said so, with the reason.
        Change::ChecksFailed | Change::ChecksPassed => {}
    }
}
