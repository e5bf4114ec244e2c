//! `Open`, `Read` and `Write`, through the ring.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::types::OpenHow;
use io_uring::{opcode, squeue, types};
use rustix::fs::OFlags;

use super::{Uring, Work};
use crate::driver::read_memory::ReadMemory;
use crate::driver::{Fault, Feature, File, FileKind, OpId, Outcome, READ_AT_ONCE_MAX, Root, errno, sys};

/// An open in flight.
#[derive(Debug)]
pub(super) struct Opening {
    root: Arc<Root>,
    path: CString,
    how: OpenHow,
    /// An `O_PATH` open, to check that it is a regular file before it is opened for reading.
    is_look: bool,
}

/// A read in flight.
#[derive(Debug)]
pub(super) struct Reading {
    file: Arc<OwnedFd>,
    memory: ReadMemory,
    offset: u64,
}

/// A write in flight.
#[derive(Debug)]
pub(super) struct Writing {
    file: Arc<OwnedFd>,
    bytes: Vec<u8>,
    written: usize,
    offset: u64,
}

impl Uring {
    pub(super) fn start_open(&mut self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) {
        if !self.features.has(Feature::RingOpen) {
            return self.open_off_the_loop(id, root, path, known_regular);
        }
        let how = how(&root, if known_regular { sys::OPEN_FLAGS } else { sys::LOOK_FLAGS });
        let opening = Box::new(Opening { root, path, how, is_look: !known_regular });
        self.in_flight.insert(id, Work::Open(opening));
        self.submit_open(id);
    }

    fn submit_open(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Open(opening) = &mut op_state.work else { return };
        let descriptor = types::Fd(opening.root.directory().as_raw_fd());
        let entry = opcode::OpenAt2::new(descriptor, opening.path.as_ptr(), &raw const opening.how).build();
        // SAFETY: path and flags belong to the operation's state, which lives until the completion.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_open(&mut self, id: OpId, result: i32) {
        let is_cancelled = self.is_cancelled(id);
        let outcome = match sys::adopt_result(result) {
            Ok(file) => match sys::file_info(file.as_fd()) {
                Ok(info) if info.kind == FileKind::Regular && self.was_look(id) => {
                    drop(file);
                    if !is_cancelled {
                        return self.submit_open(id);
                    }
                    Outcome::Cancelled
                }
                Ok(info) => Outcome::Opened(File(self.files.insert(Arc::new(file))), info),
                Err(error) => Outcome::Failed(Fault::from_io(&error)),
            },
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) && is_cancelled => Outcome::Cancelled,
            Err(error) if error.raw_os_error().is_some_and(errno::is_worth_another_try) && !is_cancelled => {
                return self.open_again(id);
            }
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.finish(id, outcome);
    }

    /// Whether the last open was the check. From now on it is the open for reading.
    fn was_look(&mut self, id: OpId) -> bool {
        let Some(op_state) = self.in_flight.get_mut(id) else { return false };
        let Work::Open(opening) = &mut op_state.work else { return false };
        opening.how = how(&opening.root, sys::OPEN_FLAGS);
        std::mem::replace(&mut opening.is_look, false)
    }

    /// Retries an open on an offload thread, where it may wait. It failed because a concurrent
    /// rename disturbed the look-up (`EAGAIN`, openat2(2)), or because the kernel could start no
    /// thread for it (`ECANCELED` without a cancel).
    fn open_again(&mut self, id: OpId) {
        if let Some(Work::Open(opening)) = self.in_flight.remove(id).map(|op_state| op_state.work) {
            let Opening { root, path, is_look, .. } = *opening;
            self.open_off_the_loop(id, root, path, !is_look);
        }
    }

    pub(super) fn start_read(&mut self, id: OpId, file: File, offset: u64, length: usize) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        let reading = Reading { file, memory: self.read_pieces.memory(length), offset };
        self.in_flight.insert(id, Work::Read(Box::new(reading)));
        self.submit_read(id);
    }

    fn submit_read(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Read(reading) = &mut op_state.work else { return };
        let Reading { file, memory, offset } = &mut **reading;
        let offset = *offset + memory.filled() as u64;
        let rest = memory.rest();
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), rest.as_mut_ptr(), length).offset(offset).build();
        // `io_uring_enter` itself copies what is in the page cache, unless the entry is
        // asynchronous.
        let entry = if rest.len() > READ_AT_ONCE_MAX { entry.flags(squeue::Flags::ASYNC) } else { entry };
        // SAFETY: the memory belongs to the operation's state, which lives until the completion and
        // does not touch it before.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_read(&mut self, id: OpId, result: i32) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let is_cancelled = op_state.is_cancelled;
        let Work::Read(reading) = &mut op_state.work else { return };
        match usize::try_from(result) {
            Ok(count) => {
                reading.memory.add(count);
                if count > 0 && !reading.memory.is_full() {
                    return self.submit_read(id);
                }
                if let Some(Reading { memory, .. }) = self.take_reading(id) {
                    let chunk = self.read_pieces.hand_out(memory);
                    self.emit(id, Outcome::Read(chunk));
                }
            }
            Err(_) => match -result {
                libc::ECANCELED if is_cancelled => self.finish(id, Outcome::Cancelled),
                libc::EINTR | libc::EAGAIN => self.submit_read(id),
                code if errno::is_worth_another_try(code) && !is_cancelled => {
                    if let Some(Reading { file, memory, offset }) = self.take_reading(id) {
                        self.read_off_the_loop(id, file, memory, offset);
                    }
                }
                errno => self.finish(id, Outcome::Failed(Fault::Os(errno))),
            },
        }
    }

    /// Takes a read out of the operations in flight.
    fn take_reading(&mut self, id: OpId) -> Option<Reading> {
        match self.in_flight.remove(id)?.work {
            Work::Read(reading) => Some(*reading),
            _ => None,
        }
    }

    pub(super) fn start_write(&mut self, id: OpId, file: File, offset: u64, bytes: Vec<u8>) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        self.in_flight.insert(id, Work::Write(Box::new(Writing { file, bytes, written: 0, offset })));
        self.submit_write(id);
    }

    fn submit_write(&mut self, id: OpId) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let Work::Write(writing) = &op_state.work else { return };
        let Writing { file, bytes, written, offset } = &**writing;
        let rest = &bytes[*written..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Write::new(types::Fd(file.as_raw_fd()), rest.as_ptr(), length)
            .offset(*offset + *written as u64)
            .build();
        // SAFETY: the memory belongs to the operation's state, which lives until the completion.
        unsafe { self.submit(id, entry) };
    }

    pub(super) fn on_write(&mut self, id: OpId, result: i32) {
        let Some(op_state) = self.in_flight.get_mut(id) else { return };
        let is_cancelled = op_state.is_cancelled;
        let Work::Write(writing) = &mut op_state.work else { return };
        match usize::try_from(result) {
            // write(2) does not return zero for a regular file; a retry could loop forever.
            Ok(0) => self.finish(id, Outcome::Failed(Fault::Os(libc::EIO))),
            Ok(count) => {
                writing.written += count;
                if writing.written < writing.bytes.len() {
                    return self.submit_write(id);
                }
                self.finish(id, Outcome::Written);
            }
            Err(_) => match -result {
                libc::ECANCELED if is_cancelled => self.finish(id, Outcome::Cancelled),
                libc::EINTR | libc::EAGAIN => self.submit_write(id),
                libc::ECANCELED => {
                    let file = Arc::clone(&writing.file);
                    let (bytes, written, offset) =
                        (std::mem::take(&mut writing.bytes), writing.written, writing.offset);
                    drop(self.in_flight.remove(id));
                    self.write_off_the_loop(id, file, (bytes, written), offset);
                }
                errno => self.finish(id, Outcome::Failed(Fault::Os(errno))),
            },
        }
    }
}

fn how(root: &Root, flags: OFlags) -> OpenHow {
    OpenHow::new().flags(u64::from(flags.bits())).resolve(sys::open_resolve(root.symlinks()).bits())
}
