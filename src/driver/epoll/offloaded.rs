//! `Resolve` and `Open`, and everything else whose answer comes from another thread.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::{Epoll, Place};
use crate::driver::folder::{self, read_fully};
use crate::driver::offload::{LaneKind, Ticket};
use crate::driver::{
    Computation, Fault, File, FileInfo, FolderEntry, Links, OpId, Outcome, READ_AT_ONCE_MAX, Root, beneath, errno,
    find_root, new_file, resolve, sys,
};

/// What a thread off the loop hands back. If nobody waits for it any more, it is dropped, and with
/// it a file that was opened in vain.
#[derive(Debug)]
pub(super) enum Answer {
    Root { id: OpId, result: io::Result<Arc<Root>> },
    Resolved { id: OpId, result: Result<Vec<SocketAddr>, Fault> },
    Opened { id: OpId, result: io::Result<(OwnedFd, FileInfo)> },
    Read { id: OpId, result: io::Result<Vec<u8>> },
    Listed { id: OpId, result: io::Result<Vec<FolderEntry>> },
    Computed { id: OpId, bytes: Vec<u8> },
    Changed { id: OpId, result: io::Result<()> },
    Written { id: OpId, result: io::Result<()> },
    Warmed { id: OpId, until: u64 },
}

impl Epoll {
    pub(super) fn start_resolve(&mut self, id: OpId, host: Arc<str>, port: u16) {
        self.counters.submissions += 1;
        if let Some(address) = resolve::literal(&host, port) {
            return self.outbox.push(id, Outcome::Resolved(vec![address]));
        }
        let ticket = self.offload.resolve(&host, move |found| {
            let result = found.map(|addresses| resolve::with_port(addresses, port));
            Answer::Resolved { id, result }
        });
        self.offloaded(id, ticket);
    }

    pub(super) fn start_find_root(&mut self, id: OpId, path: Arc<Path>, links: Links, present: Option<Arc<Root>>) {
        self.counters.submissions += 1;
        match present {
            Some(root) if find_root::leads_to(&path, &root) => self.outbox.push(id, Outcome::Root(root)),
            present => {
                let find = move || Answer::Root { id, result: find_root::find(&path, links, present) };
                let ticket = self.offload.run(LaneKind::Disk, 0, find);
                self.offloaded(id, ticket);
            }
        }
    }

    pub(super) fn start_open(&mut self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) {
        self.counters.submissions += 1;
        let is_final = |error: &io::Error| !error.raw_os_error().is_some_and(errno::is_worth_another_try);
        if let Some(result) = beneath::open_cached(&root, &path, known_regular)
            && result.as_ref().err().is_none_or(is_final)
        {
            let outcome = self.opened(result);
            return self.outbox.push(id, outcome);
        }
        let open = move || Answer::Opened { id, result: beneath::open(&root, &path, known_regular) };
        let ticket = self.offload.run(LaneKind::Disk, 0, open);
        self.offloaded(id, ticket);
    }

    /// Reads at once what the page cache has, unless it is much; the rest, from the beginning, off the loop.
    pub(super) fn start_read(&mut self, id: OpId, file: File, offset: u64, length: usize) {
        let Some(file) = self.files.get(file.0) else { return self.reject(id, libc::EBADF) };
        self.counters.submissions += 1;
        let mut bytes = vec![0; length];
        if length <= READ_AT_ONCE_MAX
            && let Ok(count) = sys::read_cached_at(file.as_fd(), &mut bytes, offset)
            && count == length
        {
            return self.outbox.push(id, Outcome::Read(bytes));
        }
        let file = Arc::clone(file);
        let task = move || Answer::Read { id, result: read_fully(file.as_fd(), bytes, offset) };
        let ticket = self.offload.run(LaneKind::Disk, 0, task);
        self.offloaded(id, ticket);
    }

    pub(super) fn start_list(&mut self, id: OpId, root: Arc<Root>, path: CString) {
        self.counters.submissions += 1;
        let task = move || Answer::Listed { id, result: folder::list(&root, &path) };
        let ticket = self.offload.run(LaneKind::Disk, 0, task);
        self.offloaded(id, ticket);
    }

    pub(super) fn start_compute(&mut self, id: OpId, computation: Computation) {
        self.counters.submissions += 1;
        let task_bytes = computation.bytes();
        let task = move || Answer::Computed { id, bytes: computation.run() };
        let ticket = self.offload.run(LaneKind::Computation, task_bytes, task);
        self.offloaded(id, ticket);
    }

    /// Notes where an operation waits for its answer; one that found no place there has failed.
    fn offloaded(&mut self, id: OpId, ticket: Result<Ticket, Fault>) {
        match ticket {
            Ok(ticket) => self.outbox.enter(id, Place::Offloaded(ticket)),
            Err(fault) => self.outbox.push(id, Outcome::Failed(fault)),
        }
    }

    pub(super) fn start_create(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        self.change(id, move || {
            let result = new_file::create(&root, &name).and_then(beneath::with_info);
            Answer::Opened { id, result }
        });
    }

    pub(super) fn start_write(&mut self, id: OpId, file: File, offset: u64, bytes: Vec<u8>) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        self.change(id, move || Answer::Written { id, result: new_file::write_fully(file.as_fd(), &bytes, offset) });
    }

    pub(super) fn start_publish(
        &mut self,
        id: OpId,
        root: Arc<Root>,
        file: File,
        (from, to): (CString, CString),
        replaces: bool,
    ) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        self.change(id, move || Answer::Changed {
            id,
            result: new_file::publish(&root, file.as_fd(), &from, &to, replaces),
        });
    }

    pub(super) fn start_remove(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        self.change(id, move || Answer::Changed { id, result: new_file::remove(&root, &name) });
    }

    /// Runs what changes the disk.
    fn change(&mut self, id: OpId, task: impl FnOnce() -> Answer + Send + 'static) {
        self.counters.submissions += 1;
        let ticket = self.offload.run(LaneKind::Disk, 0, task);
        self.offloaded(id, ticket);
    }

    /// Takes what the threads have ready.
    pub(super) fn collect_answers(&mut self) {
        for answer in self.offload.results() {
            match answer {
                Answer::Resolved { id, result } => {
                    if self.outbox.place_of(id).is_some() {
                        self.outbox.finish(id, result.map_or_else(Outcome::Failed, Outcome::Resolved));
                    }
                }
                Answer::Opened { id, result } => {
                    if self.outbox.place_of(id).is_some() {
                        let outcome = self.opened(result);
                        self.outbox.finish(id, outcome);
                    } else {
                        drop(result);
                        self.on_descriptor_closed();
                    }
                }
                Answer::Root { id, result } => self.answer(id, result, Outcome::Root),
                Answer::Read { id, result } => self.answer(id, result, Outcome::Read),
                Answer::Listed { id, result } => self.answer(id, result, Outcome::Listed),
                Answer::Written { id, result } => self.answer(id, result, |()| Outcome::Written),
                Answer::Changed { id, result } => self.answer(id, result, |()| Outcome::Done),
                Answer::Computed { id, bytes } => self.answer(id, Ok(bytes), Outcome::Computed),
                Answer::Warmed { id, until } => {
                    if let Some(Place::Output(key)) = self.outbox.place_of(id) {
                        self.on_warmed(key, until);
                    }
                }
            }
        }
    }

    /// Hands an answer on, unless nobody waits for it any more.
    fn answer<T>(&mut self, id: OpId, result: io::Result<T>, success: impl FnOnce(T) -> Outcome) {
        if self.outbox.place_of(id).is_some() {
            let outcome = result.map_or_else(|error| Outcome::Failed(Fault::from_io(&error)), success);
            self.outbox.finish(id, outcome);
        }
    }

    fn opened(&mut self, result: io::Result<(OwnedFd, FileInfo)>) -> Outcome {
        match result {
            Ok((file, info)) => Outcome::Opened(File(self.files.insert(Arc::new(file))), info),
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        }
    }
}
