//! What a worker does, and how that is changed while it runs: its listeners, folders, upstreams and bounds.

use std::rc::Rc;
use std::sync::Arc;

use super::{ActiveListener, Core, LISTENER, ListenerId, WorkerPhase};
use crate::config::Limits;
use crate::driver::{Root, Socket, Time, Token};
use crate::file::store::RootPath;
use crate::limit::Admission;
use crate::session::ListenerContext;
use crate::tcp::Listener;
use crate::telemetry::metrics::WorkerCounters;
use crate::upstream::UpstreamGroup;

impl Core {
    /// Accepts on this socket from now on, and serves each connection as the service says.
    pub fn add_listener(&mut self, id: ListenerId, socket: Socket, context: ListenerContext) {
        let key = self.listeners.insert_with(|machine| ActiveListener {
            id,
            listener: Listener::new(socket, Token { machine, kind: LISTENER, slot: 0 }),
            context: Rc::new(context),
        });
        tracing::debug!(listener = %key, ?socket, "listener added");
        self.pump_listeners();
    }

    /// From now on what comes through this listener is for something else.
    pub fn replace(&mut self, id: ListenerId, newer: &ListenerContext) {
        self.listeners.retain(|_, active| {
            if active.id == id {
                active.context = Rc::new(active.context.replaced_by(newer.clone()));
            }
            true
        });
    }

    /// Listens only where `is_kept` says so. Connections that are there go on.
    pub fn keep_listeners(&mut self, is_kept: impl Fn(ListenerId) -> bool) {
        self.listeners.retain(|_, active| {
            if !is_kept(active.id) {
                active.listener.close();
            }
            true
        });
        self.pump_listeners();
    }

    /// Checks the upstreams of these groups from now on, looks their names up, and does so for no others any more; idle
    /// connections to others are closed.
    pub fn monitor_upstreams(&mut self, groups: &[Rc<UpstreamGroup>], now: Time) {
        if self.phase == WorkerPhase::Serving {
            self.health_monitor.replace(groups, now);
        }
        self.upstream_pool.close_stranded();
    }

    /// From now on these folders are served, with what their paths led to a moment ago.
    pub fn keep_root_paths(&mut self, root_paths: Vec<(RootPath, Arc<Root>)>, now: Time) {
        self.store.keep_root_paths(root_paths, now);
        // A worker that nobody comes to has no turn to do it in.
        self.arm_sweep();
    }

    /// The bounds that hold from now on; receive buffers stay as they are.
    pub fn set_limits(&mut self, limits: Limits) {
        self.store.set_limits(limits.store);
        self.limits = limits;
        self.listeners_due = true;
    }

    /// Who lets connections in from now on.
    pub fn admit_by(&mut self, admission: Arc<Admission>) {
        self.admission = admission;
        self.listeners_due = true;
    }

    /// Where it counts from now on, for whoever watches.
    pub fn set_counters(&mut self, counters: WorkerCounters) {
        self.counters = counters;
    }
}
