//! One session's way to an upstream: a member of the group is picked and reached; if it cannot be, the next one.
//!
//! ```text
//!              a member                        connected
//!   Picking ──────────────► Linked ──────────────────────► (used) ──► Over
//!     │  ▲ ▲                  │ unreachable                  │ lost, to be tried again
//!     │  │ └──────────────────┘◄─────────────────────────────┘
//!     ▼  │ room
//!   Queued ──► too many, or for too long: failed
//! ```
//!
//! It settles with the group and gives the link back, once, whichever way the session ends. Of all that it tries, one
//! failure counts: else one request could take several members out. It does not know what the
//! connection is for, nor whether a lost request may be sent again: that is the session's to say.

use std::rc::Rc;
use std::time::Duration;

use super::group::{Choice, Group, MemberId, Pick, Tried, Verdict};
use super::links::{Link, Links, Reach, Release};
use super::{ConnectError, Upstream};
use crate::buffer::Inbox;
use crate::driver::{Ops, Time};
use crate::table::Key;
use crate::tcp::{Connection, Manner};

/// One session's way to an upstream.
#[derive(Debug)]
pub struct Attempt {
    group: Rc<Group>,
    session: Key,
    choice: Choice,
    tried: Tried,
    tries_left: u32,
    connect_timeout: Duration,
    /// Only a connection made for this session will do.
    fresh: bool,
    /// The member that was picked last.
    last: Option<MemberId>,
    /// A failure has been counted against a member. Others that it is tried at afterwards may fail for the same reason, its
    /// own: so there is no second one.
    has_counted: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Picking {
        after: Option<ConnectError>,
    },
    Queued {
        since: Time,
    },
    Linked {
        member: MemberId,
        link: Key,
    },
    /// No upstream could be had.
    Failed(Unreachable),
    Over,
}

/// How hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many members are tried; 0: as many as there are.
    pub tries_max: u32,
    /// For resolving, and for each address; zero: no limit.
    pub connect_timeout: Duration,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something has to come first.
    Wait,
    /// There is a connection.
    Ready,
    /// There will be none.
    Failed(Unreachable),
}

/// Why no upstream could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Health checks, or the operator, say that none is up.
    #[error("no upstream is up")]
    Down,
    /// All are at their limit, and too many wait already.
    #[error("all upstreams are busy, and the queue is full")]
    QueueFull,
    /// All were at their limit for too long.
    #[error("all upstreams were busy for too long")]
    QueueTimedOut,
    /// The last one tried could not be connected to.
    #[error("{0}")]
    Connect(ConnectError),
}

impl Attempt {
    /// An attempt that has not begun.
    pub fn new(group: Rc<Group>, session: Key, choice: Choice, rules: Rules) -> Self {
        let tries_left = if rules.tries_max == 0 { group.len() as u32 } else { rules.tries_max };
        let Rules { connect_timeout, .. } = rules;
        let state = State::Picking { after: None };
        // What was announced on another's connection is not this session's client.
        let fresh = group.announces().is_some();
        let (tried, last, has_counted) = (Tried::default(), None, false);
        Self { group, session, choice, tried, tries_left, connect_timeout, fresh, last, has_counted, state }
    }

    /// Goes on, and says how far it is.
    pub fn pump(&mut self, links: &mut Links, now: Time, ops: &mut Ops) -> Progress {
        loop {
            match self.state {
                State::Picking { after } => {
                    if let Some(progress) = self.pick(after, links, now) {
                        return progress;
                    }
                }
                State::Queued { since } => {
                    if let Some(progress) = self.pick_again(since, links, now) {
                        return progress;
                    }
                }
                State::Linked { member, link } => {
                    let reach = links.get_mut(link).map(|found| found.reach(link, now, ops));
                    match reach {
                        Some(Reach::Ready(_)) => return Progress::Ready,
                        Some(Reach::Underway) => return Progress::Wait,
                        Some(Reach::Failed(error)) => {
                            tracing::debug!(upstream = %self.group.upstream(member).address(), %error, "unreachable");
                            let verdict = if error.is_shortage() { Verdict::Neutral } else { Verdict::Failure };
                            self.settle(Release::Close(Manner::Orderly), verdict, links, now);
                            self.state = State::Picking { after: Some(error) };
                        }
                        None => return Progress::Wait,
                    }
                }
                State::Failed(_) | State::Over => return Progress::Wait,
            }
        }
    }

    /// Picks a member; `None`: one is picked.
    fn pick(&mut self, after: Option<ConnectError>, links: &mut Links, now: Time) -> Option<Progress> {
        if self.tries_left == 0 {
            return Some(self.fail(after.map_or(Unreachable::Down, Unreachable::Connect)));
        }
        match self.group.pick(self.choice, &self.tried, now) {
            Pick::Member(member) => {
                self.link(member, links);
                None
            }
            Pick::Busy if self.group.wait(self.session, now) => {
                self.state = State::Queued { since: now };
                Some(Progress::Wait)
            }
            Pick::Busy => Some(self.fail(Unreachable::QueueFull)),
            Pick::Down => Some(self.fail(after.map_or(Unreachable::Down, Unreachable::Connect))),
        }
    }

    /// Picks a member after having waited; `None`: one is picked.
    fn pick_again(&mut self, since: Time, links: &mut Links, now: Time) -> Option<Progress> {
        match self.group.pick_again(self.session, self.choice, &self.tried, now) {
            Pick::Member(member) => {
                self.leave_queue();
                self.link(member, links);
                None
            }
            Pick::Down => Some(self.fail(Unreachable::Down)),
            Pick::Busy if self.group.wait_deadline(since).is_some_and(|until| until <= now) => {
                Some(self.fail(Unreachable::QueueTimedOut))
            }
            // It was woken in vain.
            Pick::Busy if !self.group.is_waiting(self.session) && !self.group.wait(self.session, since) => {
                Some(self.fail(Unreachable::QueueFull))
            }
            Pick::Busy => Some(Progress::Wait),
        }
    }

    /// It waits no longer. One that was woken has left already, and takes the place that it was woken for.
    fn leave_queue(&self) {
        if self.group.is_waiting(self.session) {
            self.group.give_up(self.session);
        }
    }

    fn link(&mut self, member: MemberId, links: &mut Links) {
        // The pick may have begun a trial, which others have waited for.
        self.wake_waiting(links);
        self.tries_left = self.tries_left.saturating_sub(1);
        self.tried.insert(member);
        self.last = Some(member);
        let link = links.acquire(self.group.upstream(member), self.session, self.fresh, self.connect_timeout);
        self.state = State::Linked { member, link };
    }

    fn fail(&mut self, why: Unreachable) -> Progress {
        if let State::Queued { .. } = self.state {
            self.leave_queue();
        }
        self.state = State::Failed(why);
        Progress::Failed(why)
    }

    /// After its connection was lost: goes on with another one, of the same upstream if that was only worn out by waiting.
    /// `false`: there have been enough.
    pub fn retry(&mut self, links: &mut Links, now: Time) -> bool {
        let was_reused = self.is_reused(links);
        if was_reused {
            // That an upstream ends an idle connection says nothing against it, and costs no try.
            self.fresh = true;
            self.tries_left += 1;
            self.tried = Tried::default();
        }
        let verdict = if was_reused { Verdict::Neutral } else { Verdict::Failure };
        self.settle(Release::Close(Manner::Orderly), verdict, links, now);
        self.state = State::Picking { after: None };
        self.tries_left > 0
    }

    /// The session is done with the upstream.
    pub fn finish(&mut self, release: Release, verdict: Verdict, links: &mut Links, now: Time) {
        if let State::Queued { .. } = self.state {
            // Also if it was woken: somebody else may have the place then.
            self.group.give_up(self.session);
            self.wake_waiting(links);
        }
        self.settle(release, verdict, links, now);
        self.state = State::Over;
    }

    fn settle(&mut self, release: Release, verdict: Verdict, links: &mut Links, now: Time) {
        if let State::Linked { member, link } = self.state {
            let release = match release {
                Release::Keep(_) if self.group.announces().is_some() => Release::Close(Manner::Orderly),
                release => release,
            };
            let verdict = match verdict {
                Verdict::Failure if std::mem::replace(&mut self.has_counted, true) => Verdict::Neutral,
                verdict => verdict,
            };
            links.release(link, release, now);
            self.group.end(member, verdict, now);
            self.wake_waiting(links);
        }
    }

    fn wake_waiting(&self, links: &mut Links) {
        while let Some(waiting) = self.group.take_woken() {
            links.wake(waiting);
        }
    }

    /// The upstream has answered, whatever becomes of the rest.
    pub fn note_answer(&self, links: &mut Links, now: Time) {
        if let State::Linked { member, .. } = self.state {
            self.group.note(member, Verdict::Success, now);
            self.wake_waiting(links);
        }
    }

    /// Whether its connection has carried requests of others before.
    pub fn is_reused(&self, links: &mut Links) -> bool {
        self.linked(links).is_some_and(|link| link.is_reused())
    }

    fn linked<'l>(&self, links: &'l mut Links) -> Option<&'l mut Link> {
        match self.state {
            State::Linked { link, .. } => links.get_mut(link),
            State::Picking { .. } | State::Queued { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// The connection, and what has arrived on it.
    pub fn connection<'l>(&self, links: &'l mut Links) -> Option<(&'l mut Connection, &'l mut Inbox)> {
        self.linked(links)?.connected_parts()
    }

    /// The member that is being used or reached.
    pub const fn member(&self) -> Option<MemberId> {
        match self.state {
            State::Linked { member, .. } => Some(member),
            State::Picking { .. } | State::Queued { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// The upstream that was picked last.
    pub fn upstream(&self) -> Option<&Rc<Upstream>> {
        self.last.map(|member| self.group.upstream(member))
    }

    /// The group it belongs to.
    pub const fn group(&self) -> &Rc<Group> {
        &self.group
    }

    /// When it wants to be pumped for the time's sake.
    pub fn deadline(&self, links: &mut Links) -> Option<Time> {
        match self.state {
            State::Queued { since } => self.group.wait_deadline(since),
            State::Linked { .. } => self.linked(links)?.deadline(),
            State::Picking { .. } | State::Failed(_) | State::Over => None,
        }
    }

    /// Whether it waits for a place, and has not been woken.
    pub fn is_queued(&self) -> bool {
        matches!(self.state, State::Queued { .. }) && self.group.is_waiting(self.session)
    }

    /// Whether nothing is being used any more.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Over)
    }

    /// Why no upstream could be had, if none could.
    pub const fn failure(&self) -> Option<Unreachable> {
        match self.state {
            State::Failed(why) => Some(why),
            State::Picking { .. } | State::Queued { .. } | State::Linked { .. } | State::Over => None,
        }
    }
}
