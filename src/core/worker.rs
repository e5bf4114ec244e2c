//! The loop of one worker: a [`Core`] joined to a driver.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::state::Core;
use crate::driver::{Completion, Driver, KernelDriver, Time, unix_seconds};

/// How often memory that receive buffers no longer need is handed back, while there is traffic.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// What other threads tell a worker, followed by a use of its waker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Accept no more; live connections may go on for the configured time.
    Drain,
}

/// One thread's share of a server.
#[derive(Debug)]
pub struct Worker<D> {
    driver: D,
    core: Core,
    messages: Receiver<Message>,
    drain_timeout: Duration,
    connections: Arc<AtomicUsize>,
    trim: Trim,
}

impl<D: KernelDriver> Worker<D> {
    /// Joins the two. `connections` is kept at the number of live sessions, for whoever asks.
    pub const fn new(
        driver: D,
        core: Core,
        messages: Receiver<Message>,
        drain_timeout: Duration,
        connections: Arc<AtomicUsize>,
    ) -> Self {
        Self { driver, core, messages, drain_timeout, connections, trim: Trim::NotNeeded }
    }

    /// Serves until it is told to drain and nothing is left. Returns the core, at rest.
    ///
    /// # Errors
    /// The kernel refuses the ring or the epoll instance itself.
    pub fn run(mut self) -> io::Result<Core> {
        let mut done: Vec<Completion> = Vec::new();
        while !self.core.is_finished() {
            let now = self.driver.now();
            let wait = [self.core.wait(now), self.trim.wait(now)].into_iter().flatten().min();
            let turn = self.driver.turn(self.core.ops(), wait, &mut done)?;
            if turn.woken {
                self.take_messages(turn.now);
            }
            self.trim.on_turn(!done.is_empty(), turn.now, &self.driver);
            self.core.set_unix_seconds(unix_seconds());
            self.core.on_turn(turn.now, &mut done);
            self.connections.store(self.core.census().sessions, Ordering::Relaxed);
        }
        tracing::debug!(counters = ?self.driver.counters(), "worker at rest");
        Ok(self.core)
    }

    fn take_messages(&mut self, now: Time) {
        for message in self.messages.try_iter() {
            tracing::debug!(?message, "told");
            match message {
                Message::Drain => {
                    let timeout = Some(self.drain_timeout).filter(|timeout| !timeout.is_zero());
                    self.core.drain(now, timeout);
                }
            }
        }
    }
}

/// Hands unused buffer memory back now and then, and never wakes a worker that is quiet: two
/// intervals after the last traffic (the first may still see buffers in use) it stops.
#[derive(Clone, Copy, Debug)]
enum Trim {
    NotNeeded,
    Armed { at: Time, had_traffic: bool },
}

impl Trim {
    fn wait(self, now: Time) -> Option<Duration> {
        match self {
            Self::NotNeeded => None,
            Self::Armed { at, .. } => Some(at.since(now)),
        }
    }

    fn on_turn(&mut self, has_traffic: bool, now: Time, driver: &impl Driver) {
        match self {
            Self::NotNeeded if has_traffic => *self = Self::Armed { at: now + TRIM_INTERVAL, had_traffic: true },
            Self::NotNeeded => {}
            Self::Armed { at, had_traffic } if now < *at => *had_traffic |= has_traffic,
            Self::Armed { had_traffic, .. } => {
                driver.pool().trim();
                *self = if *had_traffic || has_traffic {
                    Self::Armed { at: now + TRIM_INTERVAL, had_traffic: has_traffic }
                } else {
                    Self::NotNeeded
                };
            }
        }
    }
}
