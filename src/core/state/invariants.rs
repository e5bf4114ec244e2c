//! What must hold between two turns of a worker.

use super::{Core, LISTENER};
use crate::core::live_counts::Violation;
use crate::file::store::STORE;
use crate::session::{Awaited, SESSION, Slot};
use crate::upstream::{HEALTH_MONITOR, UPSTREAM_CONNECTION};
use crate::waiter::{SessionKey, Waiter};

impl Core {
    /// Checks the invariants. For tests, since it walks through all sessions and operations.
    /// `slack_bytes` is what may arrive on one socket after a pause was requested.
    ///
    /// # Errors
    /// The first violation found.
    pub fn check_invariants(&self, slack_bytes: usize) -> Result<(), Violation> {
        let mut slots: Vec<(SessionKey, Slot)> = Vec::new();
        let mut waiters: Vec<Waiter> = self.store.waiters().collect();
        for (_, token) in self.ops.iter_in_flight() {
            match token.kind {
                SESSION if self.sessions.contains(token.machine.typed()) => {
                    slots.extend(Slot::of(token).map(|slot| (token.machine.typed(), slot)));
                }
                LISTENER if self.listeners.contains(token.machine.typed()) => {}
                STORE if self.store.has_job(token.machine) => {}
                HEALTH_MONITOR if self.health_monitor.contains(token.machine) => {}
                UPSTREAM_CONNECTION if self.upstream_pool.contains(token.machine.typed()) => {
                    waiters.extend(self.upstream_pool.owner(token.machine.typed()));
                }
                _ => return Err(Violation::Orphan(token)),
            }
        }
        let in_progress = self.sessions.iter().map(|(_, session_slot)| session_slot.session.exchanges()).sum();
        let counted = self.counters.exchanges();
        if usize::try_from(counted) != Ok(in_progress) {
            return Err(Violation::Exchanges { counted, in_progress });
        }
        let in_progress = self.sessions.iter().filter(|(_, slot)| slot.is_handshaking).count();
        let counted = self.handshakes.len();
        if counted != in_progress {
            return Err(Violation::Handshakes { counted, in_progress });
        }
        let is_left_asleep = |session: &SessionKey| self.sessions.get(*session).is_some_and(|slot| !slot.is_dirty);
        if let Some(session) = self.upstream_pool.unheeded().map(|owner| owner.session).find(is_left_asleep) {
            return Err(Violation::NotWoken(session));
        }
        waiters.extend(self.upstream_pool.waiting_for_memory());
        let slots_and_waiters = slots.iter().map(|(key, _)| *key).chain(waiters.iter().map(|waiter| waiter.session));
        let mut in_flight: Vec<SessionKey> = slots_and_waiters.collect();
        in_flight.sort_unstable();
        slots.sort_unstable();
        waiters.sort_unstable();
        for (key, session_slot) in self.sessions.iter() {
            let is_awaited = session_slot.timer.is_some()
                || in_flight.binary_search(&key).is_ok()
                || session_slot.session.is_queued();
            if !session_slot.is_dirty && !is_awaited {
                return Err(Violation::Stalled(key));
            }
            if !session_slot.is_dirty {
                let awaited = Awaited::of(key, &slots, &waiters);
                let checked = session_slot.session.check_streams(&awaited, &self.limits);
                checked.map_err(|violation| Violation::Stream(key, violation))?;
            }
            let held_bytes = session_slot.session.memory() + self.upstream_pool.memory_of(key);
            if held_bytes > session_slot.session.memory_max(&self.limits) + 2 * slack_bytes {
                return Err(Violation::OverBudget { session: key, held_bytes });
            }
        }
        Ok(())
    }
}
