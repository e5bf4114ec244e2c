//! Which folder a place is now: looked at by its path while it is asked for, let go when it is not.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::job::Step;
use super::key::{self, key_of_look};
use super::place::{LOOK_INTERVAL, State};
use super::{Inquiry, Lookup, Place, Store, token};
use crate::driver::{Fault, Op, Ops, Outcome, Root, Time};
use crate::table::Key;

/// That a folder is lost is told again after so long, while it is asked for.
const TOLD_INTERVAL: Duration = Duration::from_secs(60);

/// The places of one worker.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: Vec<Place>,
    /// How many folders have been given a number.
    numbered: u64,
    /// When the first of them may have been idle for long enough; `None`: none is open.
    next_close: Option<Time>,
}

impl Store {
    /// From now on these places are served, with what their paths led to a moment ago. Those that nobody has any more are
    /// let go.
    pub fn keep_places(&mut self, places: Vec<(Place, Arc<Root>)>, now: Time) {
        for (place, root) in places {
            self.know(&place, now);
            self.on_found(&place, root, now);
        }
        self.forget_places();
    }

    /// The folder that the place is now.
    pub fn root(&mut self, place: &Place, inquiry: Inquiry, ops: &mut Ops) -> Lookup<Arc<Root>> {
        self.enter(place, inquiry, ops).unwrap_or_else(|| Lookup::Found(root_of(place)))
    }

    /// Has the place looked at if that is due. `None`: it may be used as it is.
    #[inline]
    pub(super) fn enter<T>(&mut self, place: &Place, inquiry: Inquiry, ops: &mut Ops) -> Option<Lookup<T>> {
        if place.is_good(inquiry.now) { None } else { self.look(place, inquiry, ops) }
    }

    #[cold]
    fn look<T>(&mut self, place: &Place, inquiry: Inquiry, ops: &mut Ops) -> Option<Lookup<T>> {
        self.know(place, inquiry.now);
        let looked_at = place.looked_at();
        let is_new_enough = looked_at.is_some_and(|at| at >= inquiry.since);
        let is_soon = looked_at.is_some_and(|at| inquiry.now.since(at) < LOOK_INTERVAL);
        let present = match place.state() {
            State::Open(_) if is_new_enough => return None,
            State::Open(root) => Some(root),
            State::Lost { errno, .. } if is_new_enough || is_soon => {
                return Some(Lookup::Found(Err(Fault::RootLost(errno))));
            }
            State::Lost { .. } | State::Closed => None,
        };
        let step = Step::Looking { place: place.clone() };
        if let Some(job) = self.join_or_start(&key_of_look(place), inquiry.waiter, step) {
            ops.submit(token(job), Op::FindRoot { path: Arc::clone(place.path()), links: place.links(), present });
        }
        Some(Lookup::Pending)
    }

    /// Records what a look has brought.
    pub(super) fn on_looked(&mut self, place: &Place, outcome: Outcome, waiters: SmallVec<[Key; 2]>, now: Time) {
        self.under_way.remove(&key_of_look(place)[..]);
        self.woken.extend(waiters);
        match outcome {
            Outcome::Root(root) => self.on_found(place, root, now),
            Outcome::Failed(fault) => self.on_lost(place, fault, now),
            outcome => {
                tracing::error!(outcome = outcome.name(), "unexpected outcome of a look at a folder");
                debug_assert!(false, "{outcome:?} of a look at a folder");
                self.on_lost(place, Fault::Os(libc::EIO), now);
            }
        }
    }

    fn on_found(&mut self, place: &Place, root: Arc<Root>, now: Time) {
        let close_at = now + self.idle_for();
        self.places.next_close = Some(self.places.next_close.map_or(close_at, |at| at.min(close_at)));
        let id = root.id();
        match place.settle(State::Open(root), now) {
            State::Open(before) if before.id() == id => return,
            State::Open(_) => tracing::info!(path = %place.path().display(), "this path leads to another folder now"),
            State::Lost { .. } => tracing::info!(path = %place.path().display(), "the folder that is served is back"),
            State::Closed => {}
        }
        let before = place.number();
        place.set_number(0);
        let same = self.places.all.iter().find(|other| other.number() != 0 && is_same_folder(other, place));
        let number = same.map_or_else(
            || {
                self.places.numbered += 1;
                self.places.numbered
            },
            Place::number,
        );
        place.set_number(number);
        self.release(before);
    }

    fn on_lost(&mut self, place: &Place, fault: Fault, now: Time) {
        let errno = match fault {
            Fault::Os(errno) | Fault::RootLost(errno) | Fault::Resolver(errno) => errno,
            Fault::FileTruncated => libc::EIO,
        };
        let path = place.path().display();
        let told_at = match place.state() {
            State::Open(root) if fault.is_momentary() => {
                tracing::warn!(%path, %fault, "cannot look at the folder that is served, and go on with what it was");
                place.settle(State::Open(root), now);
                return;
            }
            State::Lost { told_at, .. } if now.since(told_at) < TOLD_INTERVAL => told_at,
            State::Lost { .. } | State::Open(_) | State::Closed => {
                tracing::warn!(%path, %fault, "cannot open the folder that is served: requests for it get 503");
                now
            }
        };
        place.settle(State::Lost { errno, told_at }, now);
        self.release_number_of(place);
        if matches!(errno, libc::EMFILE | libc::ENFILE) {
            // Files at hand must not be why it cannot be opened.
            self.close_down_to(0);
        }
    }

    /// Lets go of folders that nobody has asked for, so that what they lie on can be unmounted.
    pub(super) fn close_idle_places(&mut self, now: Time) {
        self.forget_places();
        let idle_for = self.idle_for();
        let mut next_close = None;
        for place in self.places.all.clone() {
            if !matches!(place.state(), State::Open(_)) {
                continue;
            }
            let close_at = place.used_at() + idle_for;
            if close_at <= now {
                tracing::debug!(path = %place.path().display(), "a folder that nobody asks for is let go");
                place.close();
                self.release_number_of(&place);
            } else {
                next_close = Some(next_close.map_or(close_at, |at: Time| at.min(close_at)));
            }
        }
        self.places.next_close = next_close;
    }

    pub(super) const fn next_place_close(&self) -> Option<Time> {
        self.places.next_close
    }

    /// Takes a place up that is not known yet.
    fn know(&mut self, place: &Place, now: Time) {
        place.use_at(now);
        if place.number() == 0 && !self.places.all.iter().any(|other| other.is(place)) {
            self.places.all.push(place.clone());
        }
    }

    fn forget_places(&mut self) {
        for place in self.places.all.extract_if(.., |place| place.is_forgotten()).collect::<Vec<_>>() {
            self.release(place.number());
        }
    }

    fn release_number_of(&mut self, place: &Place) {
        let number = place.number();
        place.set_number(0);
        self.release(number);
    }

    /// Drops what is cached of a folder, unless another place is the same folder.
    fn release(&mut self, number: u64) {
        if number == 0 || self.places.all.iter().any(|place| place.number() == number) {
            return;
        }
        let mut gone = Vec::new();
        self.cache.remove_if(|key| key::is_beneath(key, number), &mut gone);
        self.let_go(gone);
        self.faults.remove_if(|key| key::is_beneath(key, number), &mut Vec::new());
    }

    /// A folder is kept for no shorter than what one look is good for.
    fn idle_for(&self) -> Duration {
        self.limits.idle_for.max(LOOK_INTERVAL)
    }
}

/// The folder of a place that may be used as it is.
pub(super) fn root_of(place: &Place) -> Result<Arc<Root>, Fault> {
    place.root().ok_or(Fault::RootLost(libc::ENOENT))
}

fn is_same_folder(one: &Place, other: &Place) -> bool {
    let id = |place: &Place| place.root().map(|root| root.id());
    one.links() == other.links() && id(one) == id(other)
}
