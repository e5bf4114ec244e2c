//! `Send`: sends a chain of chunks, one entry at a time, until the kernel has taken all of it.

use std::os::fd::AsRawFd;

use io_uring::{opcode, types};

use super::{Uring, Work};
use crate::buffer::Chain;
use crate::driver::sys::{self, GATHER_MAX};
use crate::driver::{Fault, OpId, Outcome, Socket};
use crate::table::Key;

/// The header of a `sendmsg(2)` and its pieces. The kernel reads both in place.
pub(super) struct Message {
    header: libc::msghdr,
    pieces: [libc::iovec; GATHER_MAX],
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("pieces", &self.header.msg_iovlen).finish()
    }
}

impl Message {
    fn new() -> Box<Self> {
        let pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; GATHER_MAX];
        Box::new(Self { header: sys::message_of(&mut []), pieces })
    }

    /// Points the message at the first chunks of a chain.
    fn fill(&mut self, chain: &Chain) {
        let count = sys::gather(chain, &mut self.pieces);
        self.header = sys::message_of(&mut self.pieces[..count]);
    }
}

/// A send in flight. Its memory is reused for later sends.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) socket: Key<Socket>,
    /// The bytes that are not sent yet.
    chain: Chain,
    message: Option<Box<Message>>,
}

/// Ended sends, kept so that a new send needs no allocation.
#[derive(Debug, Default)]
pub(super) struct SpareSends {
    // Boxed, as in flight: reuse neither moves nor allocates them.
    #[expect(clippy::vec_box, reason = "they are put back in flight without being moved")]
    spare: Vec<Box<Sending>>,
}

/// More than are in flight at once on a busy worker: most sends complete at once.
const SPARE_SENDS_MAX: usize = 128;

impl SpareSends {
    fn take(&mut self, socket: Key<Socket>, chain: Chain) -> Box<Sending> {
        match self.spare.pop() {
            Some(mut sending) => {
                sending.socket = socket;
                sending.chain = chain;
                sending
            }
            None => Box::new(Sending { socket, chain, message: None }),
        }
    }

    pub(super) fn put_back(&mut self, mut sending: Box<Sending>) {
        if self.spare.len() < SPARE_SENDS_MAX {
            sending.chain = Chain::new();
            self.spare.push(sending);
        }
    }
}

impl Uring {
    pub(super) fn start_send(&mut self, id: OpId, socket: Socket, chain: Chain) {
        debug_assert!(!chain.is_empty(), "an empty send on {socket:?}");
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        state.sending = Some(id);
        let sending = self.spare_sends.take(socket.0, chain);
        self.in_flight.insert(id, Work::Send(sending));
        self.submit_send(id);
    }

    fn submit_send(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Send(sending) = &mut op_state.work else { return };
        let Sending { socket, chain, message } = &mut **sending;
        let Some(state) = self.sockets.get(*socket) else { return };
        let descriptor = types::Fd(state.socket.as_raw_fd());
        let entry = match chain.chunks() {
            [chunk] => opcode::Send::new(descriptor, chunk.as_ptr(), u32::try_from(chunk.len()).unwrap_or(u32::MAX))
                .flags(libc::MSG_NOSIGNAL)
                .build(),
            _ => {
                let message = message.get_or_insert_with(Message::new);
                message.fill(chain);
                opcode::SendMsg::new(descriptor, &raw const message.header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        };
        // SAFETY: the bytes and the boxed message belong to the operation's state, which lives
        // until the completion and does not change them before.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_send(&mut self, id: OpId, result: i32) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let is_cancelled = op_state.is_cancelled;
        let Work::Send(sending) = &mut op_state.work else { return };
        let Sending { chain, .. } = &mut **sending;
        match usize::try_from(result) {
            Ok(count) => {
                chain.advance(count.min(chain.len()));
                if chain.is_empty() {
                    return self.finish(id, Outcome::Sent);
                }
                self.counters.short_sends += 1;
                self.emit(id, Outcome::Progress(count as u64));
                if is_cancelled {
                    return self.finish(id, Outcome::Cancelled);
                }
                self.submit_send(id);
            }
            Err(_) => match -result {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN if is_cancelled => self.finish(id, Outcome::Cancelled),
                // ECANCELED without a cancel: the kernel had no thread for it. It says nothing
                // about the connection.
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => self.submit_send(id),
                errno => self.finish(id, Outcome::Failed(Fault::Os(errno))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use crate::buffer::{Chain, Chunk, PoolConfig};
    use crate::driver::uring::UringConfig;
    use crate::driver::{Driver, KernelDriver, Op, Ops, Outcome, Token, Uring};
    use crate::table::RawKey;

    #[test]
    fn a_send_that_the_kernel_gives_up_by_itself_goes_on() {
        const BYTES: usize = 4 << 20;
        let Ok(mut driver) = Uring::new(UringConfig::new(PoolConfig::default())) else {
            return eprintln!("SKIPPED: a_send_that_the_kernel_gives_up_by_itself_goes_on: no io_uring");
        };
        let (near, mut far) = UnixStream::pair().unwrap();
        let socket = driver.adopt(near.into());
        let (mut ops, mut done) = (Ops::new(), Vec::new());
        let chain = Chain::from(Chunk::shared(vec![b'x'; BYTES]));
        let token = Token { machine: RawKey::from_parts(0, 0), kind: 0, slot: 0 };
        let id = ops.submit(token, Op::Send { socket, chain });
        driver.turn(&mut ops, Some(Duration::ZERO), &mut done).unwrap();
        // Nothing reads, so the send waits. The kernel cancels an operation in the same way when it
        // has no thread for it. The first cancel reports how many bytes were sent before.
        for _ in 0..3 {
            driver.cancel_entry(id);
            driver.turn(&mut ops, Some(Duration::ZERO), &mut done).unwrap();
        }
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; BYTES];
            far.read_exact(&mut bytes).map(|()| bytes)
        });
        while !done.iter().any(|completion| completion.outcome.is_final()) {
            driver.turn(&mut ops, Some(Duration::from_secs(1)), &mut done).unwrap();
        }
        assert!(matches!(done.last().map(|completion| &completion.outcome), Some(Outcome::Sent)), "{done:?}");
        assert!(reader.join().unwrap().unwrap().iter().all(|byte| *byte == b'x'));
    }
}
