//! `SendFile`: `sendfile(2)` from the page cache. The ring polls the socket and reads what is not
//! cached.
//!
//! ```text
//!             ┌────── quota spent: next turn ──────┐
//!             ▼                                    │
//!   start ──► in the ready list ──► sendfile ──────┤
//!             ▲     ▲                  │ full      │ not cached
//!             │     └──── writable ◄───┘           ▼
//!             └───────────────────────────── Read, by the ring
//! ```
//!
//! The ring would pass a splice to a kernel worker thread for each piece, which costs more than the
//! copy it saves.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use io_uring::{opcode, types};

use super::{Uring, Work};
use crate::buffer::Chain;
use crate::driver::offload::TaskHandle;
use crate::driver::page_cache::{Way, is_range_cached};
use crate::driver::{Fault, File, OpId, Outcome, Socket, sys};
use crate::table::Key;

/// Bytes of a file that one socket sends before other sockets are served.
const PIECE_BYTES_MAX: u64 = 512 << 10;

/// System calls that send these bytes, at most.
const CALLS_MAX: usize = 8;

/// Bytes per read that brings a piece of the file into the page cache.
const WARMING_BYTES: usize = 256 << 10;

/// A `SendFile` in flight.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) socket: Key<Socket>,
    /// Bytes to send before those of the file.
    head: Chain,
    file: Arc<OwnedFd>,
    offset: u64,
    left: u64,
    way: Way,
    /// The page cache had the file up to this offset when it was probed.
    cached_until: u64,
    waits_for: WaitsFor,
}

/// What a transfer waits for.
#[derive(Debug)]
enum WaitsFor {
    /// Its turn in the ready list.
    Turn,
    /// Space in the socket's send buffer.
    Room,
    /// A read into this memory, which brings the file into the page cache.
    Warming(Vec<u8>),
    /// An offload thread that reads the piece instead.
    Thread(TaskHandle),
}

impl Uring {
    pub(super) fn start_send_file(
        &mut self,
        id: OpId,
        socket: Socket,
        head: Chain,
        file: File,
        (offset, length): (u64, u64),
    ) {
        debug_assert!(length > 0, "an empty send of a file on {socket:?}");
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        let Some(state) = self.sockets.get_mut(socket.0) else { return self.reject(id, libc::EBADF) };
        if state.sending.is_some() {
            return self.reject(id, libc::EBUSY);
        }
        // The kernel's offsets are signed: the call would fail with EINVAL.
        if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
            return self.emit(id, Outcome::Failed(Fault::FileTruncated));
        }
        state.sending = Some(id);
        let transfer = Transfer {
            socket: socket.0,
            head,
            file,
            offset,
            left: length,
            way: Way::Direct,
            cached_until: offset,
            waits_for: WaitsFor::Turn,
        };
        self.in_flight.insert(id, Work::SendFile(Box::new(transfer)));
        self.ready.push_back(id);
    }

    /// Sends until all bytes are sent, the socket's buffer is full, the quota is spent or the page
    /// cache misses.
    pub(super) fn serve_send_file(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::SendFile(transfer) = &mut op_state.work else { return };
        let Some(state) = self.sockets.get(transfer.socket) else { return };
        let descriptor = state.socket.as_fd();
        let before = transfer.left_bytes();
        let step = transfer.advance(descriptor);
        let sent = before - transfer.left_bytes();
        let is_over = transfer.left == 0;
        if matches!(step, Ok(Step::Full | Step::Again)) && !is_over {
            self.counters.short_sends += 1;
        }
        match step {
            Err(fault) => return self.finish(id, Outcome::Failed(fault)),
            Ok(_) if is_over => return self.finish(id, Outcome::Sent),
            Ok(Step::Again) => {
                transfer.waits_for = WaitsFor::Turn;
                self.ready.push_back(id);
            }
            Ok(Step::Full) => {
                transfer.waits_for = WaitsFor::Room;
                let entry = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), libc::POLLOUT as u32).build();
                // SAFETY: the entry points to nothing.
                unsafe { self.submit(id, entry) };
            }
            Ok(Step::Cold) => {
                let length = transfer.left.min(WARMING_BYTES as u64) as usize;
                let mut memory = vec![0; length];
                let entry = opcode::Read::new(types::Fd(transfer.file.as_raw_fd()), memory.as_mut_ptr(), length as u32)
                    .offset(transfer.offset)
                    .build();
                transfer.waits_for = WaitsFor::Warming(memory);
                // SAFETY: the memory belongs to the operation's state, which lives until the
                // completion. Moving the vector does not move what it points to.
                unsafe { self.submit(id, entry) };
            }
        }
        if sent > 0 {
            self.emit(id, Outcome::Progress(sent));
        }
    }

    /// The socket is writable, or a piece of the file was read.
    pub(super) fn on_send_file(&mut self, id: OpId, result: i32) {
        if self.is_cancelled(id) {
            return self.finish(id, Outcome::Cancelled);
        }
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::SendFile(transfer) = &mut op_state.work else { return };
        match std::mem::replace(&mut transfer.waits_for, WaitsFor::Turn) {
            // The piece is sent without another probe: if the cache evicts quickly, the transfer
            // would never advance. A failed read fails again, and is reported, when the piece is
            // sent.
            WaitsFor::Warming(memory) => {
                let end = transfer.offset + memory.len() as u64;
                if result == -libc::ECANCELED {
                    let (file, start) = (Arc::clone(&transfer.file), transfer.offset);
                    return self.warm_otherwise(id, file, (start, end));
                }
                transfer.cached_until = end;
            }
            WaitsFor::Room if result < 0 && result != -libc::EINTR && result != -libc::EAGAIN => {
                return self.finish(id, Outcome::Failed(Fault::Os(-result)));
            }
            WaitsFor::Room | WaitsFor::Turn | WaitsFor::Thread(_) => {}
        }
        self.ready.push_back(id);
    }

    /// The kernel had no thread to read a piece: an offload thread reads it. If there is none
    /// either, the loop waits for the disk.
    fn warm_otherwise(&mut self, id: OpId, file: Arc<OwnedFd>, (start, end): (u64, u64)) {
        match self.offload.warm(id, file, (start, end)) {
            Ok(handle) => {
                let Some(op_state) = self.in_flight.get_mut(id) else { return };
                let Work::SendFile(transfer) = &mut op_state.work else { return };
                transfer.waits_for = WaitsFor::Thread(handle);
            }
            Err(_) => self.on_warmed(id, end),
        }
    }

    /// An offload thread has read a piece, or failed to.
    pub(super) fn on_warmed(&mut self, id: OpId, until: u64) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::SendFile(transfer) = &mut op_state.work else { return };
        transfer.cached_until = until;
        transfer.waits_for = WaitsFor::Turn;
        self.ready.push_back(id);
    }
}

/// What a transfer needs after its turn.
enum Step {
    Again,
    Full,
    Cold,
}

impl Transfer {
    /// The task of an offload thread that reads a piece.
    pub(super) const fn warming(&self) -> Option<TaskHandle> {
        match self.waits_for {
            WaitsFor::Thread(handle) => Some(handle),
            WaitsFor::Turn | WaitsFor::Room | WaitsFor::Warming(_) => None,
        }
    }

    fn left_bytes(&self) -> u64 {
        self.left + self.head.len() as u64
    }

    fn advance(&mut self, socket: BorrowedFd<'_>) -> Result<Step, Fault> {
        // `sendfile(2)` has no flag like `MSG_DONTWAIT`, so the socket is set to non-blocking. No
        // entry for it is submitted meanwhile, so the ring is not affected.
        sys::set_nonblocking(socket).map_err(|error| Fault::from_io(&error))?;
        let step = self.send_pieces(socket);
        sys::set_blocking(socket).map_err(|error| Fault::from_io(&error))?;
        step
    }

    fn send_pieces(&mut self, socket: BorrowedFd<'_>) -> Result<Step, Fault> {
        let before = self.left;
        for _ in 0..CALLS_MAX {
            if self.left == 0 || before - self.left >= PIECE_BYTES_MAX {
                break;
            }
            if !self.head.is_empty() {
                match sys::send_before_more(socket, &self.head) {
                    Ok(count) => self.head.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Full),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Fault::from_io(&error)),
                }
                continue;
            }
            if self.offset >= self.cached_until {
                let end = self.offset.saturating_add(self.left.min(PIECE_BYTES_MAX));
                if !is_range_cached(self.file.as_fd(), self.offset, end) {
                    return Ok(Step::Cold);
                }
                self.cached_until = end;
            }
            let length = (self.cached_until - self.offset).min(self.left);
            match self.way.send(socket, self.file.as_fd(), self.offset, length as usize) {
                Ok(0) => return Err(Fault::FileTruncated),
                Ok(count) => {
                    self.offset += count as u64;
                    self.left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Full),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::from_io(&error)),
            }
        }
        Ok(Step::Again)
    }
}
