//! [`RootPath`]: the root folder of a route, by its path, which may lead to another folder later.
//!
//! ```text
//!             in use              found
//!   Closed ──────────────► (check) ────► Open ◄──┐ checked again, once a second while in use:
//!     ▲                       │           │ └────┘ the same folder, or the one that the path leads to now
//!     └───── idle ────────────┼───────────┤
//!                             ▼           ▼ not found
//!                            Lost ◄───────┘
//!                             └─► checked again, once a second while in use
//! ```
//!
//! A root path is shared by the routes of one worker that have the same path, also over reloads.
//! The store does the checks.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Root, SymlinkPolicy, Time};

/// Minimum interval between two checks of a root path.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A root folder, by its path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RootPath(Rc<Inner>);

/// A weak reference to a [`RootPath`].
#[derive(Clone, Debug)]
pub struct WeakRootPath(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    path: Arc<Path>,
    symlinks: SymlinkPolicy,
    state: RefCell<State>,
    /// Number of the open folder among those of this store; part of the cache keys beneath it.
    number: Cell<u64>,
    /// Until when the folder may be used without a check; in the past unless it is open.
    good_until: Cell<Time>,
    looked_at: Cell<Option<Time>>,
    used_at: Cell<Time>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not in use yet, or idle.
    Closed,
    /// The folder that the path led to at the last check.
    Open(Arc<Root>),
    /// The path led to no folder that can be opened.
    Lost { errno: i32, warned_at: Time },
}

impl RootPath {
    /// A root path that is checked on first use.
    pub fn new(path: Arc<Path>, symlinks: SymlinkPolicy) -> Self {
        Self(Rc::new(Inner {
            path,
            symlinks,
            state: RefCell::new(State::Closed),
            number: Cell::new(0),
            good_until: Cell::new(Time::ZERO),
            looked_at: Cell::new(None),
            used_at: Cell::new(Time::ZERO),
        }))
    }

    /// A weak reference to it.
    pub fn downgrade(&self) -> WeakRootPath {
        WeakRootPath(Rc::downgrade(&self.0))
    }

    pub fn path(&self) -> &Arc<Path> {
        &self.0.path
    }

    /// What to do with symbolic links beneath it.
    pub fn symlinks(&self) -> SymlinkPolicy {
        self.0.symlinks
    }

    /// Whether it may be used without a check; if so, counts as a use. This is the only cost for a
    /// cached request.
    pub(super) fn is_good(&self, now: Time) -> bool {
        let is_good = now < self.0.good_until.get();
        if is_good {
            self.0.used_at.set(now);
        }
        is_good
    }

    pub(super) fn number(&self) -> u64 {
        self.0.number.get()
    }

    pub(super) fn set_number(&self, number: u64) {
        self.0.number.set(number);
    }

    pub(super) fn root(&self) -> Option<Arc<Root>> {
        match &*self.0.state.borrow() {
            State::Open(root) => Some(Arc::clone(root)),
            State::Closed | State::Lost { .. } => None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.0.state.borrow().clone()
    }

    /// Records the result of a check. Returns the previous state.
    pub(super) fn settle(&self, state: State, now: Time) -> State {
        let good_until = if matches!(state, State::Open(_)) { now + LOOK_INTERVAL } else { Time::ZERO };
        self.0.good_until.set(good_until);
        self.0.looked_at.set(Some(now));
        self.0.state.replace(state)
    }

    /// Closes the folder; the next use checks the path again.
    pub(super) fn close(&self) {
        self.0.good_until.set(Time::ZERO);
        self.0.looked_at.set(None);
        self.0.state.replace(State::Closed);
    }

    pub(super) fn looked_at(&self) -> Option<Time> {
        self.0.looked_at.get()
    }

    pub(super) fn used_at(&self) -> Time {
        self.0.used_at.get()
    }

    pub(super) fn use_at(&self, now: Time) {
        self.0.used_at.set(now);
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Whether only the store still holds it.
    pub(super) fn is_forgotten(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Its address in memory, unique while it is held.
    pub(super) fn address(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }
}

impl WeakRootPath {
    /// The root path, if it is still in use.
    pub fn upgrade(&self) -> Option<RootPath> {
        self.0.upgrade().map(RootPath)
    }
}
