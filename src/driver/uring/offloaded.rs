//! What waits for a disk or a name server, or takes long, on a thread off the loop.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::{Uring, Work};
use crate::driver::offload::{LaneKind, Ticket};
use crate::driver::{Computation, Fault, File, FileInfo, FolderEntry, Links, OpId, Outcome, Root};
use crate::driver::{beneath, find_root, folder, new_file, page_cache, resolve, sys};

/// What a thread off the loop hands back. If nobody waits for it any more, it is dropped, and with
/// it a file that was opened in vain.
#[derive(Debug)]
pub(super) enum Answer {
    Root { id: OpId, result: io::Result<Arc<Root>> },
    Resolved { id: OpId, result: Result<Vec<SocketAddr>, Fault> },
    Opened { id: OpId, result: io::Result<(OwnedFd, FileInfo)> },
    Read { id: OpId, result: io::Result<Vec<u8>> },
    Warmed { id: OpId, until: u64 },
    Listed { id: OpId, result: io::Result<Vec<FolderEntry>> },
    Computed { id: OpId, bytes: Vec<u8> },
    Changed { id: OpId, result: io::Result<()> },
}

impl Uring {
    pub(super) fn start_resolve(&mut self, id: OpId, host: Arc<str>, port: u16) {
        if let Some(address) = resolve::literal(&host, port) {
            return self.emit(id, Outcome::Resolved(vec![address]));
        }
        let ticket = self.offload.resolve(&host, move |found| {
            let result = found.map(|addresses| resolve::with_port(addresses, port));
            Answer::Resolved { id, result }
        });
        self.offloaded(id, ticket);
    }

    pub(super) fn start_find_root(&mut self, id: OpId, path: Arc<Path>, links: Links, present: Option<Arc<Root>>) {
        match present {
            // Not through the ring: a direct call that never waits is cheaper than an entry.
            Some(root) if find_root::leads_to(&path, &root) => self.emit(id, Outcome::Root(root)),
            present => {
                let find = move || Answer::Root { id, result: find_root::find(&path, links, present) };
                self.offload(id, LaneKind::Disk, 0, find);
            }
        }
    }

    pub(super) fn open_off_the_loop(&mut self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) {
        let open = move || Answer::Opened { id, result: beneath::open(&root, &path, known_regular) };
        self.offload(id, LaneKind::Disk, 0, open);
    }

    pub(super) fn read_off_the_loop(&mut self, id: OpId, file: Arc<OwnedFd>, bytes: Vec<u8>, offset: u64) {
        self.offload(id, LaneKind::Disk, 0, move || Answer::Read {
            id,
            result: folder::read_fully(file.as_fd(), bytes, offset),
        });
    }

    /// Brings a piece of a file into the page cache for a transfer, which keeps its flight.
    pub(super) fn warm_off_the_loop(
        &mut self,
        id: OpId,
        file: Arc<OwnedFd>,
        (start, until): (u64, u64),
    ) -> Result<Ticket, Fault> {
        self.offload.run(LaneKind::Disk, 0, move || {
            page_cache::warm(file.as_fd(), start, until);
            Answer::Warmed { id, until }
        })
    }

    pub(super) fn start_list(&mut self, id: OpId, root: Arc<Root>, path: CString) {
        self.offload(id, LaneKind::Disk, 0, move || Answer::Listed { id, result: folder::list(&root, &path) });
    }

    pub(super) fn start_compute(&mut self, id: OpId, computation: Computation) {
        let bytes = computation.bytes();
        self.offload(id, LaneKind::Computation, bytes, move || Answer::Computed { id, bytes: computation.run() });
    }

    pub(super) fn create_off_the_loop(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        self.offload(id, LaneKind::Disk, 0, move || {
            let result = new_file::create(&root, &name).and_then(|file| {
                let info = sys::file_info(file.as_fd())?;
                Ok((file, info))
            });
            Answer::Opened { id, result }
        });
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
        self.offload(id, LaneKind::Disk, 0, move || Answer::Changed {
            id,
            result: new_file::publish(&root, file.as_fd(), &from, &to, replaces),
        });
    }

    pub(super) fn start_remove(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        self.offload(id, LaneKind::Disk, 0, move || Answer::Changed { id, result: new_file::remove(&root, &name) });
    }

    fn offload(&mut self, id: OpId, lane: LaneKind, bytes: usize, task: impl FnOnce() -> Answer + Send + 'static) {
        let ticket = self.offload.run(lane, bytes, task);
        self.offloaded(id, ticket);
    }

    /// Notes where an operation waits for its answer; one that found no place there has failed.
    fn offloaded(&mut self, id: OpId, ticket: Result<Ticket, Fault>) {
        match ticket {
            Ok(ticket) => self.flights.insert(id, Work::Offloaded(Box::new(ticket))),
            Err(fault) => self.emit(id, Outcome::Failed(fault)),
        }
    }

    /// Takes what the threads have ready.
    pub(super) fn collect_answers(&mut self) {
        let failed = |error: io::Error| Outcome::Failed(Fault::from_io(&error));
        for answer in self.offload.results() {
            match answer {
                Answer::Resolved { id, result } => {
                    self.answer(id, result.map_or_else(Outcome::Failed, Outcome::Resolved));
                }
                Answer::Opened { id, result } => self.answer_open(id, result),
                Answer::Read { id, result } => {
                    self.answer(id, result.map_or_else(failed, Outcome::Read));
                }
                Answer::Warmed { id, until } => self.on_warmed(id, until),
                Answer::Root { id, result } => self.answer(id, result.map_or_else(failed, Outcome::Root)),
                Answer::Listed { id, result } => {
                    self.answer(id, result.map_or_else(failed, Outcome::Listed));
                }
                Answer::Computed { id, bytes } => self.answer(id, Outcome::Computed(bytes)),
                Answer::Changed { id, result } => {
                    let failed = |error: io::Error| Outcome::Failed(Fault::from_io(&error));
                    self.answer(id, result.map_or_else(failed, |()| Outcome::Done));
                }
            }
        }
    }

    fn answer(&mut self, id: OpId, outcome: Outcome) {
        if self.flights.get_mut(id).is_some() {
            self.finish(id, outcome);
        }
    }

    fn answer_open(&mut self, id: OpId, result: io::Result<(OwnedFd, FileInfo)>) {
        if self.flights.get_mut(id).is_none() {
            drop(result);
            return self.on_descriptor_closed();
        }
        let outcome = match result {
            Ok((file, info)) => Outcome::Opened(File(self.files.insert(Arc::new(file))), info),
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        };
        self.finish(id, outcome);
    }
}
