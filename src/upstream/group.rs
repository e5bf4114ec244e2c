//! Placeholder: round robin.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::Upstream;
use crate::config::UpstreamAddress;
use crate::driver::Time;
use crate::table::Key;

#[derive(Clone, Debug)]
pub struct MemberConfig {
    pub address: UpstreamAddress,
}
#[derive(Clone, Debug)]
pub struct GroupConfig {
    pub members: Vec<MemberConfig>,
}
impl GroupConfig {
    pub fn of(addresses: Vec<UpstreamAddress>) -> Self {
        Self { members: addresses.into_iter().map(|address| MemberConfig { address }).collect() }
    }
    pub fn single(address: UpstreamAddress) -> Self {
        Self { members: vec![MemberConfig { address }] }
    }
}
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    Any,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberId(pub u16);
#[derive(Clone, Debug, Default)]
pub struct Tried(u64);
impl Tried {
    pub fn insert(&mut self, member: MemberId) {
        self.0 |= 1 << member.0
    }
}
pub enum Pick {
    Member(MemberId),
    Busy,
    Down,
}
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    Success,
    Failure,
    Neutral,
}
#[derive(Debug)]
pub struct Group {
    members: Vec<Rc<Upstream>>,
    next: Cell<usize>,
}
impl Group {
    pub fn new(config: GroupConfig, _seed: u64) -> Rc<Self> {
        Rc::new(Self {
            members: config.members.into_iter().map(|m| Upstream::new(m.address)).collect(),
            next: Cell::new(0),
        })
    }
    pub fn upstream(&self, member: MemberId) -> &Rc<Upstream> {
        &self.members[usize::from(member.0)]
    }
    pub fn pick(&self, _choice: Choice, _tried: &Tried, _now: Time) -> Pick {
        let at = self.next.get();
        self.next.set((at + 1) % self.members.len());
        Pick::Member(MemberId(at as u16))
    }
    pub fn end(&self, _member: MemberId, _verdict: Verdict, _now: Time) {}
    pub fn wait(&self, _key: Key, _now: Time) -> bool {
        false
    }
    pub fn give_up(&self, _key: Key) {}
    pub fn take_woken(&self) -> Option<Key> {
        None
    }
    pub fn queue_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
    pub fn len(&self) -> usize {
        self.members.len()
    }
}
