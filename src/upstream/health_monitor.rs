//! [`HealthMonitor`]: one worker's health checks and periodic name look-ups.
//!
//! It runs one state machine per endpoint with health checks, and one per name to look up. They
//! belong to the groups of the active configuration. When that is replaced, the old ones end; when
//! the worker drains, all end. The monitor keeps the order in which they are due. It does not know
//! what they do.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::group::{CheckConfig, CheckCounter, EndpointId, ResolveInterval, UpstreamGroup};
use super::health_check::HealthCheck;
use super::lookup::Lookup;
use super::pool::UpstreamPool;
use crate::driver::{Ops, Outcome, Time, Token};
use crate::table::{Key, RawKey, Table};
use crate::telemetry::metrics::WorkerCounters;
use crate::upstream::UpstreamAddress;

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
}

/// Checked upstreams by state.
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
}

#[derive(Debug)]
enum Machine {
    HealthCheck(Box<HealthCheck>),
    Lookup(Lookup),
}

/// Results of checks, by upstream and check configuration.
type Findings = HashMap<(UpstreamAddress, Rc<CheckConfig>), CheckCounter>;

impl HealthMonitor {
    /// Checks and resolves the upstreams of these groups from now on, and no others. An upstream
    /// with the same check configuration as before keeps its results.
    pub fn replace(&mut self, groups: &[Rc<UpstreamGroup>], now: Time) {
        let findings: Findings =
            self.checks().filter(|check| !check.is_ending()).map(|check| (check.subject(), check.counter())).collect();
        self.end();
        for group in groups {
            for endpoint in group.ids() {
                self.begin(group, endpoint, &findings, now);
            }
        }
    }

    fn checks(&self) -> impl Iterator<Item = &HealthCheck> {
        self.tasks.iter().filter_map(|(_, task)| match &task.machine {
            Machine::HealthCheck(check) => Some(&**check),
            Machine::Lookup(_) => None,
        })
    }

    fn begin(&mut self, group: &Rc<UpstreamGroup>, endpoint: EndpointId, findings: &Findings, now: Time) {
        let upstream = group.upstream(endpoint);
        if let Some(config) = group.checks() {
            let subject = (upstream.address().clone(), Rc::clone(config));
            let counter = findings.get(&subject).copied().unwrap_or(CheckCounter::new(config.rise, config.fall));
            if !counter.is_up() {
                group.set_checked(endpoint, false, now);
            }
            let first = now + group.draw(config.interval);
            let check = HealthCheck::new(Rc::clone(group), endpoint, Rc::clone(config), counter, first);
            self.add(Machine::HealthCheck(Box::new(check)));
        }
        let ResolveInterval(interval) = group.resolve_interval();
        if let Some(name) = upstream.name().filter(|_| !interval.is_zero()) {
            let first = now + group.draw(interval);
            self.add(Machine::Lookup(Lookup::new(Rc::clone(group), endpoint, name.clone(), interval, first)));
        }
    }

    fn add(&mut self, machine: Machine) {
        self.upstream_counts.add(&machine);
        let key = self.tasks.insert(MonitorTask { machine, due: None });
        self.touched.push(key);
    }

    /// Ends all tasks. Operations in flight are cancelled: [`HealthMonitor::is_empty`] says when
    /// all are gone.
    pub fn end(&mut self) {
        self.upstream_counts = UpstreamCounts::default();
        self.touched.clear();
        self.tasks.retain(|key, task| {
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

    /// Pumps the tasks that are due or have an outcome. Requests that a change concerns are woken
    /// through `pool`.
    pub fn pump(&mut self, now: Time, pool: &mut UpstreamPool, counters: &WorkerCounters, ops: &mut Ops) {
        while let Some((_, key)) = self.due.first().filter(|(due, _)| *due <= now).copied() {
            self.due.pop_first();
            if let Some(task) = self.tasks.get_mut(key) {
                task.due = None;
            }
            self.touched.push(key);
        }
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            self.pump_one(key, now, pool, counters, ops);
        }
        self.touched = touched;
    }

    fn pump_one(
        &mut self,
        key: Key<MonitorTask>,
        now: Time,
        pool: &mut UpstreamPool,
        counters: &WorkerCounters,
        ops: &mut Ops,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        self.upstream_counts.remove(&task.machine);
        match &mut task.machine {
            Machine::HealthCheck(check) => {
                if let Some(verdict) = check.pump(key, now, ops) {
                    counters.count_check(verdict.is_ok());
                    while let Some(waiter) = check.group().take_woken() {
                        pool.wake(waiter);
                    }
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
        if task.machine.is_over() {
            self.tasks.remove(key);
        } else {
            self.upstream_counts.add(&task.machine);
        }
    }

    /// When to pump it next, at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.touched.is_empty() { self.due.first().map(|(due, _)| *due) } else { Some(Time::ZERO) }
    }

    /// How many of the checked upstreams are up and down.
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

impl Machine {
    fn deadline(&self) -> Option<Time> {
        match self {
            Self::HealthCheck(check) => check.deadline(),
            Self::Lookup(lookup) => lookup.deadline(),
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
    /// The counter of a task; a task that is ending, or a look-up, has none.
    fn of(&mut self, machine: &Machine) -> Option<&mut usize> {
        match machine {
            Machine::HealthCheck(check) if check.is_ending() => None,
            Machine::HealthCheck(check) => Some(if check.counter().is_up() { &mut self.up } else { &mut self.down }),
            Machine::Lookup(_) => None,
        }
    }

    fn add(&mut self, machine: &Machine) {
        if let Some(count) = self.of(machine) {
            *count += 1;
        }
    }

    fn remove(&mut self, machine: &Machine) {
        if let Some(count) = self.of(machine) {
            *count -= 1;
        }
    }
}
