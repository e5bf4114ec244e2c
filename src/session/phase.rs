//! The phases of a session: first the setup of its connection, if it needs one, then its service.

use super::setup::Setup;
use super::{CloseReason, Context, Limits, Slot, Task};
use crate::buffer::Buffer;
use crate::driver::{Outcome, Time};
use crate::transport::Transport;

/// What a session does for its client at present.
#[derive(Debug)]
pub(super) enum Phase {
    /// What the client's connection is has to be found out before the service can begin.
    Setup(Box<Setup>),
    /// The task of the service.
    Service(Box<dyn Task>),
}

// The pointer of a task is never null, so the phase needs no tag.
const _: () = assert!(size_of::<Phase>() == size_of::<Box<dyn Task>>());

impl Phase {
    /// The task, once the service has begun.
    pub(super) fn task(&self) -> Option<&dyn Task> {
        match self {
            Self::Setup(_) => None,
            Self::Service(task) => Some(&**task),
        }
    }

    /// The same, to change it.
    pub(super) fn task_mut(&mut self) -> Option<&mut dyn Task> {
        match self {
            Self::Setup(_) => None,
            Self::Service(task) => Some(&mut **task),
        }
    }

    /// The name of the service, for logs; the service of a session that ends before is not known.
    pub(super) fn name(&self) -> &'static str {
        self.task().map_or("setup", Task::name)
    }

    /// The name that the client asked for in a ClientHello that is passed on, for logs.
    pub(super) fn server_name(&self) -> Option<&str> {
        match self {
            Self::Setup(setup) => setup.server_name(),
            Self::Service(task) => task.server_name(),
        }
    }

    /// Takes bytes from the client.
    #[inline]
    pub(super) fn on_received(&mut self, buffer: Buffer) {
        match self {
            Self::Setup(setup) => setup.on_received(buffer),
            Self::Service(task) => task.on_received(buffer),
        }
    }

    /// Records an outcome of a slot that is not the transport's.
    pub(super) fn on_outcome(&mut self, slot: Slot, outcome: Outcome, now: Time) {
        match self {
            Self::Setup(setup) => setup.on_outcome(slot, outcome),
            Self::Service(task) => task.on_outcome(slot, outcome, now),
        }
    }

    /// Notes that the server is stopping.
    pub(super) fn drain(&mut self, now: Time) {
        match self {
            Self::Setup(setup) => setup.drain(now),
            Self::Service(task) => task.drain(now),
        }
    }

    /// Whether a TLS handshake is still to come or in progress.
    pub(super) const fn is_handshaking(&self) -> bool {
        match self {
            Self::Setup(setup) => setup.is_handshaking(),
            Self::Service(_) => false,
        }
    }

    /// When to pump at the latest, apart from the idle timeout.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Time> {
        match self {
            Self::Setup(setup) => setup.deadline(),
            Self::Service(task) => task.deadline(limits),
        }
    }

    /// Continues to close what the phase owns; `true` once nothing is open and nothing in flight.
    pub(super) fn close(&mut self, close_reason: CloseReason, client: &Transport, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Setup(setup) => setup.is_closed(client),
            Self::Service(task) => task.close(close_reason, client, cx),
        }
    }

    /// Bytes of buffer memory held.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Setup(setup) => setup.memory(),
            Self::Service(task) => task.memory(),
        }
    }

    /// The upper bound of `memory`, apart from data already in flight when a source was paused.
    pub(super) fn memory_max(&self, limits: &Limits) -> usize {
        match self {
            Self::Setup(_) => Setup::memory_max(limits),
            Self::Service(task) => task.memory_max(limits),
        }
    }
}
