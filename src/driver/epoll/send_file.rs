//! `SendFile`: `sendfile(2)` from the page cache, so that the loop does not wait for the disk.
//!
//! Before a piece is sent, the driver probes the page cache with reads that do not wait. If a page
//! is missing, an offload thread reads the piece, which brings it into the cache, and the socket
//! waits until then. The cache is probed once a piece, not once a page: if the kernel evicts a page
//! between two probes, the loop does wait for the disk. That is rare, and bounded by one piece.
//!
//! `sendfile(2)` has no `MSG_NOSIGNAL`. Sending to a peer that has closed returns `EPIPE`, because
//! Rust programs ignore `SIGPIPE` from the start.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{Epoll, Next, Output};
use crate::buffer::Chain;
use crate::driver::offload::TaskHandle;
use crate::driver::page_cache::{Way, is_range_cached};
use crate::driver::{Fault, File, OpId, Outcome, Socket, sys};
use crate::table::Key;

/// Bytes of a file that one socket sends before other sockets are served.
const PIECE_BYTES_MAX: u64 = 512 << 10;

/// System calls that send these bytes, at most.
const CALLS_MAX: usize = 8;

/// A `SendFile` in flight.
#[derive(Debug)]
pub(super) struct Transfer {
    id: OpId,
    /// Bytes to send before those of the file.
    head: Chain,
    file: Arc<OwnedFd>,
    offset: u64,
    left: u64,
    way: Way,
    /// The page cache had the file up to this offset when it was probed.
    cached_until: u64,
    /// The task of an offload thread that reads the next piece.
    warming: Option<TaskHandle>,
}

impl Transfer {
    pub(super) const fn warming(&self) -> Option<TaskHandle> {
        self.warming
    }

    /// Where the next piece ends.
    fn piece_end(&self) -> u64 {
        self.offset.saturating_add(self.left.min(PIECE_BYTES_MAX))
    }
}

impl Epoll {
    pub(super) fn start_send_file(
        &mut self,
        id: OpId,
        socket: Socket,
        head: Chain,
        file: File,
        (offset, length): (u64, u64),
    ) {
        debug_assert!(length > 0, "an empty send of a file on {socket:?}");
        let Some(file) = self.files.get(file.0) else { return self.reject(id, libc::EBADF) };
        // The kernel's offsets are signed: the call would fail with EINVAL.
        if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
            return self.outbox.push(id, Outcome::Failed(Fault::FileTruncated));
        }
        let file = Arc::clone(file);
        let (way, cached_until) = (Way::Direct, offset);
        let transfer = Transfer { id, head, file, offset, left: length, way, cached_until, warming: None };
        self.start_output(id, socket, Output::SendFile(Box::new(transfer)));
    }

    /// Sends until all bytes are sent, the socket's buffer is full, the quota is spent or the page
    /// cache misses.
    pub(super) fn send_file(&mut self, key: Key<Socket>) -> Next {
        let Some(state) = self.sockets.get_mut(key) else { return Next::Wait };
        let Output::SendFile(mut transfer) = std::mem::take(&mut state.output) else { return Next::Wait };
        let id = transfer.id;
        let before = transfer.left + transfer.head.len() as u64;
        let mut next = Next::Again;
        let mut fault = None;
        for _ in 0..CALLS_MAX {
            if transfer.left == 0 || before - transfer.left >= PIECE_BYTES_MAX {
                break;
            }
            if !transfer.head.is_empty() {
                self.counters.submissions += 1;
                match sys::send_before_more(state.descriptor(), &transfer.head) {
                    Ok(count) => transfer.head.advance(count),
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
                continue;
            }
            if transfer.offset >= transfer.cached_until {
                let end = transfer.piece_end();
                if !is_range_cached(transfer.file.as_fd(), transfer.offset, end) {
                    let (file, offset) = (Arc::clone(&transfer.file), transfer.offset);
                    let handle = self.offload.warm(id, file, (offset, end));
                    // If no thread takes the task, the loop waits for the disk: better than to fail
                    // the transfer.
                    if let Ok(handle) = handle {
                        transfer.warming = Some(handle);
                        next = Next::Wait;
                        break;
                    }
                }
                transfer.cached_until = end;
            }
            let length = transfer.cached_until - transfer.offset;
            self.counters.submissions += 1;
            let (file, offset) = (transfer.file.as_fd(), transfer.offset);
            match transfer.way.send(state.descriptor(), file, offset, length as usize) {
                Ok(0) => {
                    fault = Some(Fault::FileTruncated);
                    break;
                }
                Ok(count) => {
                    // A short count may come from the file's pages; only EAGAIN means that the
                    // socket is full.
                    self.counters.short_sends += u64::from((count as u64) < length);
                    transfer.offset += count as u64;
                    transfer.left -= count as u64;
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
        let sent = before - transfer.left - transfer.head.len() as u64;
        let outcome = match fault {
            Some(fault) => Outcome::Failed(fault),
            None if transfer.left == 0 => Outcome::Sent,
            None => {
                state.output = Output::SendFile(transfer);
                if sent > 0 {
                    self.outbox.push(id, Outcome::Progress(sent));
                }
                return next;
            }
        };
        self.outbox.finish(id, outcome);
        Next::Wait
    }

    /// A piece was read. It is sent without another probe: if the cache evicts quickly, the
    /// transfer would never advance.
    pub(super) fn on_warmed(&mut self, key: Key<Socket>, until: u64) {
        if let Some(state) = self.sockets.get_mut(key)
            && let Output::SendFile(transfer) = &mut state.output
        {
            transfer.warming = None;
            transfer.cached_until = until;
            self.queue(key);
        }
    }
}
