//! Where paths begin: a folder by its path, which may lead to another folder tomorrow.
//!
//! ```text
//!             asked for           there
//!   Closed ──────────────► (look) ─────► Open ◄──┐ looked at again, once a second while it is asked for:
//!     ▲                       │           │ └────┘ the same folder, or the one that the path leads to now
//!     └───── idle ────────────┼───────────┤
//!                             ▼           ▼ not there any more
//!                            Lost ◄───────┘
//!                             └─► looked for again, once a second while it is asked for
//! ```
//!
//! A place is shared by the routes of one worker, over reloads, that have the same path. It is the store that looks.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Root, SymlinkPolicy, Time};

/// A folder is looked at again by its path no more often than this.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A folder that paths begin at, by its own path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RootPath(Rc<Inner>);

/// A place that is forgotten when its last user is gone.
#[derive(Clone, Debug)]
pub struct WeakRootPath(Weak<Inner>);

#[derive(Debug)]
struct Inner {
    path: Arc<Path>,
    symlinks: SymlinkPolicy,
    state: RefCell<State>,
    /// Distinguishes the open folder from the others of this store; part of the keys of what is beneath it.
    number: Cell<u64>,
    /// Until then it may be used as it is; in the past unless it is open.
    good_until: Cell<Time>,
    looked_at: Cell<Option<Time>>,
    used_at: Cell<Time>,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// Nobody has asked for it for a while, or yet.
    Closed,
    /// This is where the path led when it was looked at last.
    Open(Arc<Root>),
    /// It led to no folder that can be opened.
    Lost { errno: i32, warned_at: Time },
}

impl RootPath {
    /// A folder that is looked for when it is asked for.
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

    /// Something that does not keep it.
    pub fn downgrade(&self) -> WeakRootPath {
        WeakRootPath(Rc::downgrade(&self.0))
    }

    /// Its path.
    pub fn path(&self) -> &Arc<Path> {
        &self.0.path
    }

    /// What becomes of links beneath it.
    pub fn symlinks(&self) -> SymlinkPolicy {
        self.0.symlinks
    }

    /// Whether it may be used without another look, which counts as a use. All that a cached request costs here.
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

    /// It was looked at just now, and this is what it is. Returns what it was.
    pub(super) fn settle(&self, state: State, now: Time) -> State {
        let good_until = if matches!(state, State::Open(_)) { now + LOOK_INTERVAL } else { Time::ZERO };
        self.0.good_until.set(good_until);
        self.0.looked_at.set(Some(now));
        self.0.state.replace(state)
    }

    /// Lets the folder go; the next who asks has it looked for.
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

    /// Whether nobody else has it.
    pub(super) fn is_forgotten(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Its address, which no other place has as long as this one is held.
    pub(super) fn address(&self) -> usize {
        Rc::as_ptr(&self.0).addr()
    }
}

impl WeakRootPath {
    /// The place, if somebody still has it.
    pub fn upgrade(&self) -> Option<RootPath> {
        self.0.upgrade().map(RootPath)
    }
}
