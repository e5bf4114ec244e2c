//! What a worker does, and how that is changed while it runs: its listeners, folders, upstreams and bounds.

use std::rc::Rc;
use std::sync::Arc;

use super::{Core, Entrance, EntranceId, LISTENER, Phase};
use crate::admission::Admission;
use crate::config::Limits;
use crate::driver::{Root, Socket, Time, Token};
use crate::file::store::Place;
use crate::session::Reception;
use crate::tcp::Listener;
use crate::telemetry::metrics::Counting;
use crate::upstream::Group;

impl Core {
    /// Accepts on this socket from now on, and serves each connection as the template says.
    pub fn add_listener(&mut self, id: EntranceId, socket: Socket, reception: Reception) {
        let key = self.listeners.insert_with(|machine| Entrance {
            id,
            listener: Listener::new(socket, Token { machine, kind: LISTENER, slot: 0 }),
            reception: Rc::new(reception),
        });
        tracing::debug!(listener = %key, ?socket, "listener added");
        self.pump_listeners();
    }

    /// From now on what comes through this entrance is for something else.
    pub fn replace(&mut self, id: EntranceId, newer: &Reception) {
        self.listeners.retain(|_, entrance| {
            if entrance.id == id {
                entrance.reception = Rc::new(entrance.reception.replaced_by(newer.clone()));
            }
            true
        });
    }

    /// Listens only where `is_kept` says so. Connections that are there go on.
    pub fn keep_listeners(&mut self, is_kept: impl Fn(EntranceId) -> bool) {
        self.listeners.retain(|_, entrance| {
            if !is_kept(entrance.id) {
                entrance.listener.close();
            }
            true
        });
        self.pump_listeners();
    }

    /// Checks the upstreams of these groups from now on, looks their names up, and does so for no others any more; idle
    /// connections to others are closed.
    pub fn watch(&mut self, groups: &[Rc<Group>], now: Time) {
        if self.phase == Phase::Serving {
            self.watches.replace(groups, now);
        }
        self.links.close_stranded();
    }

    /// From now on these folders are served, with what their paths led to a moment ago.
    pub fn keep_places(&mut self, places: Vec<(Place, Arc<Root>)>, now: Time) {
        self.store.keep_places(places, now);
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
    pub fn count_at(&mut self, counting: Counting) {
        self.counting = counting;
    }
}
