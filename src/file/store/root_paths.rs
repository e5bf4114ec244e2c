//! The root folders of one worker: checked by their paths while they are in use, closed when idle.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::job::Step;
use super::key::{self, key_of_look};
use super::root_path::{LOOK_INTERVAL, State};
use super::{Inquiry, Lookup, RootPath, Store, token};
use crate::driver::{Fault, Op, Ops, Outcome, Root, Time};
use crate::waiter::Waiter;

/// Minimum interval between warnings that a folder is lost.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// The root paths of one worker.
#[derive(Debug, Default)]
pub(super) struct RootPaths {
    all: Vec<RootPath>,
    /// Number of folder numbers assigned so far.
    numbered: u64,
    /// When the first open folder may have reached its idle timeout; `None`: none is open.
    next_close: Option<Time>,
}

impl Store {
    /// Serves these root paths from now on, with the folders that their paths led to a moment ago.
    /// Root paths that only the store still holds are released.
    pub fn keep_root_paths(&mut self, root_paths: Vec<(RootPath, Arc<Root>)>, now: Time) {
        for (root_path, root) in root_paths {
            self.know(&root_path, now);
            self.on_found(&root_path, root, now);
        }
        self.forget_root_paths();
    }

    /// The folder that the root path leads to now.
    pub fn root(&mut self, root_path: &RootPath, inquiry: Inquiry, ops: &mut Ops) -> Lookup<Arc<Root>> {
        self.enter(root_path, inquiry, ops).unwrap_or_else(|| Lookup::Found(root_of(root_path)))
    }

    /// Checks the root path if that is due. `None`: the current folder may be used.
    #[inline]
    pub(super) fn enter<T>(&mut self, root_path: &RootPath, inquiry: Inquiry, ops: &mut Ops) -> Option<Lookup<T>> {
        if root_path.is_good(inquiry.now) { None } else { self.look(root_path, inquiry, ops) }
    }

    #[cold]
    fn look<T>(&mut self, root_path: &RootPath, inquiry: Inquiry, ops: &mut Ops) -> Option<Lookup<T>> {
        self.know(root_path, inquiry.now);
        let looked_at = root_path.looked_at();
        let is_new_enough = looked_at.is_some_and(|at| at >= inquiry.since);
        let is_soon = looked_at.is_some_and(|at| inquiry.now.since(at) < LOOK_INTERVAL);
        let present = match root_path.state() {
            State::Open(_) if is_new_enough => return None,
            State::Open(root) => Some(root),
            State::Lost { errno, .. } if is_new_enough || is_soon => {
                return Some(Lookup::Found(Err(Fault::RootLost(errno))));
            }
            State::Lost { .. } | State::Closed => None,
        };
        let step = Step::Looking { root_path: root_path.clone() };
        if let Some(job) = self.join_or_start(&key_of_look(root_path), inquiry.waiter, step) {
            ops.submit(
                token(job),
                Op::FindRoot { path: Arc::clone(root_path.path()), symlinks: root_path.symlinks(), present },
            );
        }
        Some(Lookup::Pending)
    }

    /// Records the outcome of a check.
    pub(super) fn on_looked(
        &mut self,
        root_path: &RootPath,
        outcome: Outcome,
        waiters: SmallVec<[Waiter; 2]>,
        now: Time,
    ) {
        self.under_way.remove(&key_of_look(root_path)[..]);
        self.woken.extend(waiters);
        match outcome {
            Outcome::Root(root) => self.on_found(root_path, root, now),
            Outcome::Failed(fault) => self.on_lost(root_path, fault, now),
            outcome => {
                tracing::error!(outcome = outcome.name(), "unexpected outcome of checking a root folder");
                debug_assert!(false, "{outcome:?} of checking a root folder");
                self.on_lost(root_path, Fault::Os(libc::EIO), now);
            }
        }
    }

    fn on_found(&mut self, root_path: &RootPath, root: Arc<Root>, now: Time) {
        let close_at = now + self.idle_for();
        self.root_paths.next_close = Some(self.root_paths.next_close.map_or(close_at, |at| at.min(close_at)));
        let id = root.id();
        match root_path.settle(State::Open(root), now) {
            State::Open(before) if before.id() == id => return,
            State::Open(_) => {
                tracing::info!(path = %root_path.path().display(), "root path leads to another folder now")
            }
            State::Lost { .. } => {
                tracing::info!(path = %root_path.path().display(), "root folder can be opened again")
            }
            State::Closed => {}
        }
        let before = root_path.number();
        root_path.set_number(0);
        let same = self.root_paths.all.iter().find(|other| other.number() != 0 && is_same_folder(other, root_path));
        let number = same.map_or_else(
            || {
                self.root_paths.numbered += 1;
                self.root_paths.numbered
            },
            RootPath::number,
        );
        root_path.set_number(number);
        self.release(before);
    }

    fn on_lost(&mut self, root_path: &RootPath, fault: Fault, now: Time) {
        let errno = match fault {
            Fault::Os(errno) | Fault::RootLost(errno) | Fault::Resolver(errno) => errno,
            Fault::FileTruncated | Fault::Tls(_) => libc::EIO,
        };
        let path = root_path.path().display();
        let warned_at = match root_path.state() {
            State::Open(root) if fault.is_momentary() => {
                tracing::warn!(%path, %fault, "cannot check the root folder: still serving the folder opened before");
                root_path.settle(State::Open(root), now);
                return;
            }
            State::Lost { warned_at, .. } if now.since(warned_at) < WARN_INTERVAL => warned_at,
            State::Lost { .. } | State::Open(_) | State::Closed => {
                tracing::warn!(%path, %fault, "cannot open the root folder: requests for it get 503");
                now
            }
        };
        root_path.settle(State::Lost { errno, warned_at }, now);
        self.release_number_of(root_path);
        if matches!(errno, libc::EMFILE | libc::ENFILE) {
            // Cached open files must not be the reason that it cannot be opened.
            self.close_down_to(0);
        }
    }

    /// Closes idle folders, so that their file systems can be unmounted.
    pub(super) fn close_idle_root_paths(&mut self, now: Time) {
        self.forget_root_paths();
        let idle_for = self.idle_for();
        let mut next_close = None;
        for root_path in self.root_paths.all.clone() {
            if !matches!(root_path.state(), State::Open(_)) {
                continue;
            }
            let close_at = root_path.used_at() + idle_for;
            if close_at <= now {
                tracing::debug!(path = %root_path.path().display(), "closing an idle root folder");
                root_path.close();
                self.release_number_of(&root_path);
            } else {
                next_close = Some(next_close.map_or(close_at, |at: Time| at.min(close_at)));
            }
        }
        self.root_paths.next_close = next_close;
    }

    pub(super) const fn next_root_path_close(&self) -> Option<Time> {
        self.root_paths.next_close
    }

    /// Adds a root path that is not known yet.
    fn know(&mut self, root_path: &RootPath, now: Time) {
        root_path.use_at(now);
        if root_path.number() == 0 && !self.root_paths.all.iter().any(|other| other.is(root_path)) {
            self.root_paths.all.push(root_path.clone());
        }
    }

    fn forget_root_paths(&mut self) {
        for root_path in self.root_paths.all.extract_if(.., |root_path| root_path.is_forgotten()).collect::<Vec<_>>() {
            self.release(root_path.number());
        }
    }

    fn release_number_of(&mut self, root_path: &RootPath) {
        let number = root_path.number();
        root_path.set_number(0);
        self.release(number);
    }

    /// Drops the cached results of a folder, unless another root path leads to the same folder.
    fn release(&mut self, number: u64) {
        if number == 0 || self.root_paths.all.iter().any(|root_path| root_path.number() == number) {
            return;
        }
        let mut gone = Vec::new();
        self.cache.remove_if(|key| key::is_beneath(key, number), &mut gone);
        self.let_go(gone);
        self.faults.remove_if(|key| key::is_beneath(key, number), &mut Vec::new());
    }

    /// Idle timeout of a folder: at least as long as one check is valid.
    fn idle_for(&self) -> Duration {
        self.limits.idle_for.max(LOOK_INTERVAL)
    }
}

/// The folder of a root path whose check is still valid.
pub(super) fn root_of(root_path: &RootPath) -> Result<Arc<Root>, Fault> {
    root_path.root().ok_or(Fault::RootLost(libc::ENOENT))
}

fn is_same_folder(one: &RootPath, other: &RootPath) -> bool {
    let id = |root_path: &RootPath| root_path.root().map(|root| root.id());
    one.symlinks() == other.symlinks() && id(one) == id(other)
}
