//! `Recv`: receives into pool buffers when the socket is readable.

use std::io;

use super::{Epoll, Input, Location, Next, SocketState};
use crate::buffer::{Buffer, Pool, SizeClass};
use crate::driver::{Fault, OpId, Outcome, Socket, shortage, sys};
use crate::table::Key;

/// Receive calls for one socket before other sockets are served.
const READS_MAX: usize = 16;

impl Epoll {
    /// Receives until the socket is empty, the quota is spent, or no buffer is free. While buffers
    /// are scarce, a socket gets one small buffer a turn, because the state machine decides after
    /// each how much its connection may hold.
    pub(super) fn receive(&mut self, key: Key<Socket>, id: OpId) -> Next {
        let Some(state) = self.sockets.get_mut(key) else { return Next::Wait };
        let mut bytes = 0;
        let bytes_max = self.pool.size(SizeClass::Large);
        let is_scarce = self.pool.is_scarce();
        for _ in 0..READS_MAX {
            self.counters.submissions += 1;
            match receive_once(&self.pool, state) {
                None => {
                    self.counters.buffers_exhausted += 1;
                    shortage::warn_no_buffer();
                    return self.wait_in_line(key);
                }
                Some(Ok(buffer)) if buffer.is_empty() => {
                    state.input = Input::Idle;
                    self.outbox.finish(id, Outcome::Eof);
                    return Next::Wait;
                }
                Some(Ok(buffer)) => {
                    let before = state.recv_size;
                    state.recv_size = before.after(buffer.len(), self.pool.size(SizeClass::Small));
                    if before.class() == SizeClass::Small && state.recv_size.class() == SizeClass::Large {
                        self.counters.promotions += 1;
                    }
                    let is_short = buffer.len() < buffer.capacity();
                    bytes += buffer.len();
                    self.outbox.push(id, Outcome::Received(buffer));
                    if is_short && state.short_read_is_last {
                        state.readable = false;
                        return if is_scarce { self.wait_in_line(key) } else { Next::Wait };
                    }
                    if is_scarce {
                        return self.wait_in_line(key);
                    }
                    if bytes >= bytes_max {
                        return Next::Again;
                    }
                }
                Some(Err(error)) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        state.readable = false;
                        return Next::Wait;
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => {
                        state.input = Input::Idle;
                        self.outbox.finish(id, Outcome::Failed(Fault::from_io(&error)));
                        return Next::Wait;
                    }
                },
            }
        }
        Next::Again
    }

    /// The socket waits for a free buffer, at the earliest until the next turn.
    fn wait_in_line(&mut self, key: Key<Socket>) -> Next {
        if let Some(state) = self.sockets.get_mut(key) {
            state.starving = true;
            self.starving.push_back(key);
        }
        Next::Wait
    }

    /// Pauses or resumes a receive.
    pub(super) fn set_paused(&mut self, id: OpId, is_paused: bool) {
        let Some(Location::Input(key)) = self.outbox.location_of(id) else { return };
        if let Some(state) = self.sockets.get_mut(key)
            && let Input::Recv { paused, .. } = &mut state.input
        {
            *paused = is_paused;
            self.queue(key);
        }
    }

    /// Reports a connection error to a paused receive, once: reading the error clears it.
    pub(super) fn report_broken(&mut self, key: Key<Socket>) -> Next {
        if let Some(state) = self.sockets.get_mut(key)
            && let Input::Recv { id, .. } = state.input
        {
            state.is_over = false;
            if let Err(error) = sys::take_error(state.descriptor()) {
                self.outbox.push(id, Outcome::Broken(Fault::from_io(&error)));
            }
        }
        Next::Wait
    }

    /// Serves sockets that wait for a buffer, while there are buffers.
    ///
    /// Buffers are freed between turns (a state machine drops one) or with a completion (a send
    /// ends), and a turn with completions ends. So checking once a turn misses none.
    pub(super) fn feed_starving(&mut self) {
        for _ in 0..self.starving.len() {
            let Some(probe) = self.pool.take(SizeClass::Small) else { return };
            self.pool.give_back(probe);
            let Some(key) = self.starving.pop_front() else { return };
            if let Some(state) = self.sockets.get_mut(key) {
                state.starving = false;
                if self.serve_input(key) == Next::Again {
                    self.queue(key);
                }
            }
        }
    }
}

/// One receive into a buffer of the size that suits the socket, or a small one if none of that size
/// is free. `None`: no buffer is free.
fn receive_once(pool: &Pool, state: &SocketState) -> Option<io::Result<Buffer>> {
    let fill = |memory: &mut [u8]| sys::recv(state.descriptor(), memory);
    match state.recv_size.class() {
        SizeClass::Small => pool.filled(SizeClass::Small, fill),
        SizeClass::Large if pool.is_scarce() => pool.filled(SizeClass::Small, fill),
        SizeClass::Large => pool.filled(SizeClass::Large, fill).or_else(|| pool.filled(SizeClass::Small, fill)),
    }
}
