//! What a worker serves, and how a reload changes it: listeners, folders, upstreams and limits.

use std::rc::Rc;
use std::sync::Arc;

use super::{ActiveListener, Core, LISTENER, ListenerId, WorkerPhase};
use crate::config::Limits;
use crate::driver::{Counters, Root, Socket, Time, Token};
use crate::file::store::RootPath;
use crate::limit::Admission;
use crate::session::ListenerContext;
use crate::tcp::Listener;
use crate::telemetry::metrics::WorkerCounters;
use crate::upstream::{SharedEndpoints, UpstreamGroup};

impl Core {
    /// Accepts connections on this socket and serves each by `context`.
    pub fn add_listener(&mut self, id: ListenerId, socket: Socket, context: ListenerContext) {
        let key = self.listeners.insert_with(|key| ActiveListener {
            id,
            listener: Listener::new(socket, Token { machine: key.raw(), kind: LISTENER, slot: 0 }),
            context: Rc::new(context),
        });
        tracing::debug!(listener = %key, ?socket, "listener added");
        self.pump_listeners();
    }

    /// Serves new connections of this listener by another context.
    pub fn replace(&mut self, id: ListenerId, newer: &ListenerContext) {
        // Another service may refuse connections beyond the limit, or not.
        self.listeners_due = true;
        self.listeners.retain(|_, active| {
            if active.id == id {
                active.context = Rc::new(active.context.replaced_by(newer.clone()));
            }
            true
        });
    }

    /// Closes all listeners but those for which `is_kept` is true. Existing connections continue.
    pub fn keep_listeners(&mut self, is_kept: impl Fn(ListenerId) -> bool) {
        self.listeners.retain(|_, active| {
            if !is_kept(active.id) {
                active.listener.close();
            }
            true
        });
        self.pump_listeners();
    }

    /// This is worker number `worker` of those that share these endpoints, in which it finds those of its
    /// groups. Call it before [`Core::monitor_upstreams`].
    pub fn share_endpoints(&mut self, endpoints: Arc<SharedEndpoints>, worker: usize) {
        self.health_monitor.share(endpoints, worker);
    }

    /// Runs health checks and name lookups for the upstreams of these groups, and stops them for
    /// all others. Closes idle connections to the others.
    pub fn monitor_upstreams(&mut self, groups: &[Rc<UpstreamGroup>], now: Time) {
        if self.phase == WorkerPhase::Serving {
            self.health_monitor.replace(groups, now);
        }
        self.upstream_pool.close_stranded();
    }

    /// An operator has set something of the endpoints of these groups: requests that wait for one go on.
    pub fn reconsider_upstreams(&mut self, groups: &[Rc<UpstreamGroup>], now: Time) {
        for group in groups {
            group.reconsider(now);
            while let Some(waiter) = group.take_woken() {
                self.resume(waiter);
            }
        }
    }

    /// Serves these folders, each opened from its path just before.
    pub fn keep_root_paths(&mut self, root_paths: Vec<(RootPath, Arc<Root>)>, now: Time) {
        self.store.keep_root_paths(root_paths, now);
        // A worker without connections has no turn in which to arm it.
        self.arm_sweep();
    }

    /// Applies new limits. The receive buffers keep their size.
    pub fn set_limits(&mut self, limits: Limits) {
        self.store.set_limits(limits.store);
        self.limits = limits;
        self.listeners_due = true;
    }

    /// Sets the admission control that accepts connections.
    pub fn admit_by(&mut self, admission: Arc<Admission>) {
        self.admission = admission;
        self.listeners_due = true;
    }

    /// Publishes the totals of the driver.
    pub fn set_driver_counters(&self, counters: &Counters) {
        self.counters.set_driver(counters);
    }

    /// The counters of this worker.
    pub const fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Sets the counters that the metrics are read from.
    pub fn set_counters(&mut self, counters: WorkerCounters) {
        self.counters = counters;
    }
}
