//! `Accept`: accepts connections, and pauses when a limit is reached.

use std::os::fd::AsFd;
use std::time::Duration;

use super::{Epoll, Input, Next, SocketState};
use crate::driver::errno::{self, Kind};
use crate::driver::{Driver, Fault, OpId, Outcome, Socket, Time, shortage, sys};
use crate::table::Key;

/// Connections that one listener accepts before other sockets are served.
const ACCEPTS_MAX: usize = 128;

/// How long accepting pauses after it hit a limit. Closing a descriptor ends the pause early.
///
/// The limit may be system-wide; then the end of the shortage is not reported to this process.
const PAUSE: Duration = Duration::from_millis(100);

/// Listeners that wait for descriptors or memory.
#[derive(Debug, Default)]
pub(super) struct PausedListeners {
    listeners: Vec<Key<Socket>>,
    until: Option<Time>,
}

impl PausedListeners {
    /// When to retry; `None` if no listener is paused.
    pub(super) const fn until(&self) -> Option<Time> {
        self.until
    }
}

impl Epoll {
    /// Accepts until the backlog is empty, the quota is spent, or a limit is reached.
    pub(super) fn accept(&mut self, key: Key<Socket>, id: OpId) -> Next {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = self.sockets.get_mut(key) else { return Next::Wait };
            self.counters.submissions += 1;
            let error = match sys::accept_from(listener.descriptor(), sys::Waiting::Never) {
                Ok((socket, peer)) => {
                    self.notsent_lowat.bound(socket.as_fd(), self.sockets.len());
                    let poller = &self.poller;
                    let mut registered = Ok(());
                    let accepted = self.sockets.insert_with(|key| {
                        let state = SocketState::new(socket);
                        registered = poller.add(state.descriptor(), key);
                        state
                    });
                    match registered {
                        Ok(()) => {
                            self.outbox.push(id, Outcome::Accepted { socket: Socket(accepted), peer });
                            if self.is_enough(key) {
                                self.cancel(id);
                                return Next::Wait;
                            }
                            continue;
                        }
                        // The per-user limit of epoll watches, or memory. The connection is closed.
                        Err(error) => {
                            drop(self.sockets.remove(accepted));
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            if code == libc::EAGAIN {
                if let Some(listener) = self.sockets.get_mut(key) {
                    listener.readable = false;
                }
                return Next::Wait;
            }
            tracing::debug!(listener = %key, %error, "cannot accept a connection");
            match errno::of_accept(code) {
                Kind::Connection if !self.is_one_failure_too_many(key) => {}
                Kind::Connection | Kind::Moment => {
                    self.pause(key, &error);
                    return Next::Wait;
                }
                Kind::Final => {
                    if let Some(listener) = self.sockets.get_mut(key) {
                        listener.input = Input::Idle;
                    }
                    self.outbox.finish(id, Outcome::Failed(Fault::from_io(&error)));
                    return Next::Wait;
                }
            }
        }
        Next::Again
    }

    /// Counts a connection. Returns whether it was the last one requested.
    fn is_enough(&mut self, key: Key<Socket>) -> bool {
        let Some(Input::Accept { left, failures, .. }) = self.sockets.get_mut(key).map(|listener| &mut listener.input)
        else {
            return true;
        };
        *failures = 0;
        *left = left.saturating_sub(1);
        *left == 0
    }

    /// Counts a connection that failed before it was accepted. Returns whether too many failed in a
    /// row.
    fn is_one_failure_too_many(&mut self, key: Key<Socket>) -> bool {
        let Some(Input::Accept { failures, .. }) = self.sockets.get_mut(key).map(|listener| &mut listener.input) else {
            return true;
        };
        *failures += 1;
        *failures >= errno::FAILURES_MAX
    }

    fn pause(&mut self, key: Key<Socket>, error: &std::io::Error) {
        shortage::warn_accept_paused(error);
        self.counters.accept_pauses += 1;
        if let Some(Input::Accept { paused, .. }) = self.sockets.get_mut(key).map(|listener| &mut listener.input) {
            *paused = true;
        }
        self.paused.listeners.push(key);
        self.paused.until = Some(self.now() + PAUSE);
    }

    /// Retries all paused listeners.
    pub(super) fn resume_listeners(&mut self) {
        self.paused.until = None;
        for key in std::mem::take(&mut self.paused.listeners) {
            let Some(listener) = self.sockets.get_mut(key) else { continue };
            // The accept may have been cancelled, and another one started.
            if let Input::Accept { paused, .. } = &mut listener.input {
                *paused = false;
                self.queue(key);
            }
        }
    }

    /// A descriptor was closed: paused listeners retry.
    pub(super) fn on_descriptor_closed(&mut self) {
        if self.paused.until.is_some() {
            self.resume_listeners();
        }
    }
}
