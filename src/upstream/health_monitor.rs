//! [`HealthMonitor`]: one worker's health checks and periodic name look-ups.
//!
//! It runs one state machine per health check, and one per name to look up. They
//! belong to the groups of the active configuration. When that is replaced, the old ones end; when
//! the worker drains, all end. The monitor keeps the order in which they are due. It does not know
//! what they do.
//!
//! What the checks of any worker find ([`shared`](super::shared)) it marks in the worker's own groups.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::SharedEndpoints;
use super::group::{EndpointId, ResolveInterval, UpstreamGroup};
use super::health_check::HealthCheck;
use super::lookup::Lookup;
use super::pool::UpstreamPool;
use super::shared::{SharedCheck, Verdict};
use crate::driver::{Ops, Outcome, Time, Token};
use crate::table::{Key, RawKey, Table};
use crate::telemetry::metrics::WorkerCounters;

/// The token kind of health checks and look-ups.
pub const HEALTH_MONITOR: u8 = 4;

/// The health checks and look-ups of one worker.
#[derive(Debug, Default)]
pub struct HealthMonitor {
    tasks: Table<MonitorTask>,
    /// Tasks with a deadline, each once.
    due: BTreeSet<(Time, Key<MonitorTask>)>,
    /// Tasks to pump.
    touched: Vec<Key<MonitorTask>>,
    upstream_counts: UpstreamCounts,
    shared: Arc<SharedEndpoints>,
    /// Number of this worker.
    worker: usize,
    followed: Vec<Followed>,
    /// The generation of the endpoints whose verdicts are marked.
    generation: u64,
}

/// An endpoint of a group, its check, and the verdict that is marked there.
#[derive(Debug)]
struct Followed {
    group: Rc<UpstreamGroup>,
    endpoint: EndpointId,
    check: Arc<SharedCheck>,
    verdict: Verdict,
}

/// Upstreams that this worker checks, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpstreamCounts {
    pub up: usize,
    pub down: usize,
}

#[derive(Debug)]
pub(super) struct MonitorTask {
    machine: Machine,
    /// Its entry in [`HealthMonitor::due`].
    due: Option<Time>,
    /// How it is counted in [`HealthMonitor::upstream_counts`].
    counted: Option<bool>,
}

#[derive(Debug)]
enum Machine {
    HealthCheck(Box<HealthCheck>),
    Lookup(Lookup),
}

impl HealthMonitor {
    /// This is worker number `worker` of those that share these endpoints, in which it finds those of the
    /// groups. Call it before [`HealthMonitor::replace`].
    pub fn share(&mut self, shared: Arc<SharedEndpoints>, worker: usize) {
        (self.shared, self.worker) = (shared, worker);
    }

    /// Checks and resolves the upstreams of these groups from now on, and no others. An upstream
    /// with the same check configuration as before keeps its results.
    pub fn replace(&mut self, groups: &[Rc<UpstreamGroup>], now: Time) {
        self.end();
        self.generation = self.shared.generation();
        // Of several routes with the same endpoint, one is enough.
        let mut checked = HashSet::new();
        for group in groups {
            for endpoint in group.ids() {
                if let Some(check) = &group.shared(endpoint).check {
                    self.followed.push(Followed::new(group, endpoint, check, now));
                    if checked.insert(Arc::as_ptr(check)) {
                        let (first, worker) = (now + group.draw(check.config().interval), self.worker);
                        let check = HealthCheck::new(Rc::clone(group), endpoint, Arc::clone(check), worker, first);
                        self.add(Machine::HealthCheck(Box::new(check)));
                    }
                }
                self.look_up(group, endpoint, now);
            }
        }
    }

    fn look_up(&mut self, group: &Rc<UpstreamGroup>, endpoint: EndpointId, now: Time) {
        let ResolveInterval(interval) = group.resolve_interval();
        if let Some(name) = group.upstream(endpoint).name().filter(|_| !interval.is_zero()) {
            let first = now + group.draw(interval);
            self.add(Machine::Lookup(Lookup::new(Rc::clone(group), endpoint, name.clone(), interval, first)));
        }
    }

    fn add(&mut self, machine: Machine) {
        let key = self.tasks.insert(MonitorTask { machine, due: None, counted: None });
        self.touched.push(key);
    }

    /// Ends all tasks. Operations in flight are cancelled: [`HealthMonitor::is_empty`] says when
    /// all are gone.
    pub fn end(&mut self) {
        self.upstream_counts = UpstreamCounts::default();
        self.followed.clear();
        self.touched.clear();
        self.tasks.retain(|key, task| {
            task.counted = None;
            match &mut task.machine {
                Machine::HealthCheck(check) => check.end(),
                Machine::Lookup(lookup) => lookup.end(),
            }
            self.touched.push(key);
            true
        });
    }

    /// Records an outcome.
    pub fn on_outcome(&mut self, token: Token, outcome: Outcome, now: Time) {
        let key = token.machine.typed();
        let Some(task) = self.tasks.get_mut(key) else {
            tracing::error!(?token, outcome = outcome.name(), "an outcome for no known health check or look-up");
            return;
        };
        match &mut task.machine {
            Machine::HealthCheck(check) => check.on_outcome(token, outcome, now),
            Machine::Lookup(lookup) => lookup.on_outcome(token, outcome, now),
        }
        self.touched.push(key);
    }

    /// Marks what other workers have found, if anything. Requests that a change concerns are woken
    /// through `pool`. Call it when the worker is woken.
    pub fn on_wake(&mut self, now: Time, pool: &mut UpstreamPool) {
        if self.shared.generation() != self.generation {
            self.follow(now, pool);
        }
    }

    fn follow(&mut self, now: Time, pool: &mut UpstreamPool) {
        self.generation = self.shared.generation();
        for followed in &mut self.followed {
            if followed.has_followed(now) {
                while let Some(waiter) = followed.group.take_woken() {
                    pool.wake(waiter);
                }
            }
        }
    }

    /// Pumps the tasks that are due or have an outcome. Requests that a change concerns are woken
    /// through `pool`.
    #[inline]
    pub fn pump(&mut self, now: Time, pool: &mut UpstreamPool, counters: &WorkerCounters, ops: &mut Ops) {
        // Called once per turn; usually there is nothing to do.
        if !self.touched.is_empty() || !self.due.is_empty() {
            self.act(now, pool, counters, ops);
        }
    }

    #[cold]
    fn act(&mut self, now: Time, pool: &mut UpstreamPool, counters: &WorkerCounters, ops: &mut Ops) {
        while let Some((_, key)) = self.due.first().filter(|(due, _)| *due <= now).copied() {
            self.due.pop_first();
            if let Some(task) = self.tasks.get_mut(key) {
                task.due = None;
            }
            self.touched.push(key);
        }
        let mut touched = std::mem::take(&mut self.touched);
        let mut has_changed = false;
        for key in touched.drain(..) {
            has_changed |= self.pump_one(key, now, counters, ops);
        }
        self.touched = touched;
        if has_changed {
            self.follow(now, pool);
        }
    }

    /// Returns whether an upstream went down or came up.
    fn pump_one(&mut self, key: Key<MonitorTask>, now: Time, counters: &WorkerCounters, ops: &mut Ops) -> bool {
        let Some(task) = self.tasks.get_mut(key) else { return false };
        let mut has_changed = false;
        match &mut task.machine {
            Machine::HealthCheck(check) => {
                if let Some(conclusion) = check.pump(key, now, ops) {
                    counters.count_check(conclusion.result.is_ok());
                    has_changed = conclusion.has_changed;
                }
            }
            Machine::Lookup(lookup) => lookup.pump(key, now, ops),
        }
        let wanted = task.machine.deadline();
        if wanted != task.due {
            if let Some(due) = task.due {
                self.due.remove(&(due, key));
            }
            self.due.extend(wanted.map(|due| (due, key)));
            task.due = wanted;
        }
        let counted = std::mem::replace(&mut task.counted, task.machine.finds_up());
        self.upstream_counts.recount(counted, task.counted);
        if task.machine.is_over() {
            self.tasks.remove(key);
        }
        has_changed
    }

    /// When to pump it next, at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.touched.is_empty() { self.due.first().map(|(due, _)| *due) } else { Some(Time::ZERO) }
    }

    /// How many of the upstreams that this worker checks are up and down.
    pub const fn upstream_counts(&self) -> UpstreamCounts {
        self.upstream_counts
    }

    /// Whether no task is left.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Number of tasks, those that are ending included.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether this task exists.
    pub fn contains(&self, key: RawKey) -> bool {
        self.tasks.contains(key.typed())
    }
}

impl Followed {
    fn new(group: &Rc<UpstreamGroup>, endpoint: EndpointId, check: &Arc<SharedCheck>, now: Time) -> Self {
        let verdict = check.verdict();
        if !verdict.is_up() {
            group.set_checked(endpoint, false, now);
        }
        Self { group: Rc::clone(group), endpoint, check: Arc::clone(check), verdict }
    }

    /// Marks another verdict in the group. Returns whether there is one.
    fn has_followed(&mut self, now: Time) -> bool {
        let verdict = self.check.verdict();
        if verdict == self.verdict {
            return false;
        }
        if verdict.is_up() == self.verdict.is_up() {
            // It changed twice meanwhile: one that was down comes back with a slow start.
            self.group.set_checked(self.endpoint, !verdict.is_up(), now);
        }
        self.group.set_checked(self.endpoint, verdict.is_up(), now);
        self.verdict = verdict;
        true
    }
}

impl Machine {
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::HealthCheck(check) => check.deadline(),
            Self::Lookup(lookup) => lookup.deadline(),
        }
    }

    /// Whether this worker has checked an endpoint and found it up.
    fn finds_up(&self) -> Option<bool> {
        match self {
            Self::HealthCheck(check) => check.finds_up(),
            Self::Lookup(_) => None,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::HealthCheck(check) => check.is_over(),
            Self::Lookup(lookup) => lookup.is_over(),
        }
    }
}

impl UpstreamCounts {
    /// A task that was counted as `before` counts as `after`.
    const fn recount(&mut self, before: Option<bool>, after: Option<bool>) {
        match before {
            Some(true) => self.up -= 1,
            Some(false) => self.down -= 1,
            None => {}
        }
        match after {
            Some(true) => self.up += 1,
            Some(false) => self.down += 1,
            None => {}
        }
    }
}
