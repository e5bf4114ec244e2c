//! `Send`: sends a chain of chunks in as few system calls as the socket's buffer allows.

use std::io;

use super::{Epoll, Next, Output, Socket};
use crate::buffer::Chain;
use crate::driver::sys::{self, GATHER_MAX};
use crate::driver::{Fault, OpId, Outcome};
use crate::table::Key;

/// Bytes that one socket sends before other sockets are served.
const SEND_BYTES_MAX: usize = 512 << 10;

/// System calls that send these bytes, at most: chunks may be small.
const CALLS_MAX: usize = 16;

impl Epoll {
    /// Sends until all bytes are sent, the socket's buffer is full or the quota is spent.
    pub(super) fn send(&mut self, key: Key<Socket>, id: OpId) -> Next {
        let Some(state) = self.sockets.get_mut(key) else { return Next::Wait };
        let Output::Send { chain, .. } = &mut state.output else { return Next::Wait };
        let mut chain = chain.take();
        let before = chain.len();
        let mut next = Next::Again;
        let mut fault = None;
        for _ in 0..CALLS_MAX {
            if chain.is_empty() || before - chain.len() >= SEND_BYTES_MAX {
                break;
            }
            self.counters.submissions += 1;
            match sys::send(state.descriptor(), &chain) {
                Ok(count) => {
                    let is_short = count < gathered_bytes(&chain);
                    chain.advance(count);
                    if is_short {
                        // The socket's buffer is full: an edge will follow (epoll(7)).
                        self.counters.short_sends += 1;
                        state.writable = false;
                        next = Next::Wait;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    state.writable = false;
                    next = Next::Wait;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    fault = Some(Fault::from_io(&error));
                    break;
                }
            }
        }
        let sent = before - chain.len();
        let outcome = match fault {
            Some(fault) => Outcome::Failed(fault),
            None if chain.is_empty() => Outcome::Sent,
            None => {
                state.output = Output::Send { id, chain };
                if sent > 0 {
                    self.outbox.push(id, Outcome::Progress(sent as u64));
                }
                return next;
            }
        };
        state.output = Output::Idle;
        self.outbox.finish(id, outcome);
        Next::Wait
    }
}

/// Bytes that one call sends at most.
fn gathered_bytes(chain: &Chain) -> usize {
    if chain.chunks().len() <= GATHER_MAX {
        return chain.len();
    }
    chain.chunks().iter().take(GATHER_MAX).map(|chunk| chunk.len()).sum()
}
