//! Operations that run on another thread: `Resolve`, `Open` and others that may block.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::{Epoll, Location};
use crate::driver::offload::TaskHandle;
use crate::driver::offloaded::{OffloadOutput, OffloadResult};
use crate::driver::{
    Computation, Fault, File, OpId, Outcome, READ_AT_ONCE_MAX, Root, SymlinkPolicy, errno, find_root, resolve,
    resolve_beneath, sys,
};

impl Epoll {
    pub(super) fn start_resolve(&mut self, id: OpId, host: &str, port: u16) {
        if let Some(address) = resolve::literal(host, port) {
            return self.at_once(id, Outcome::Resolved(vec![address]));
        }
        let handle = self.offload.look_up(id, host, port);
        self.offloaded(id, handle);
    }

    pub(super) fn start_find_root(
        &mut self,
        id: OpId,
        path: Arc<Path>,
        symlinks: SymlinkPolicy,
        present: Option<Arc<Root>>,
    ) {
        match present {
            Some(root) if find_root::leads_to(&path, &root) => self.at_once(id, Outcome::Root(root)),
            present => {
                let handle = self.offload.find_root(id, path, symlinks, present);
                self.offloaded(id, handle);
            }
        }
    }

    pub(super) fn start_open(&mut self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) {
        let is_final = |error: &io::Error| !error.raw_os_error().is_some_and(errno::is_worth_another_try);
        if let Some(result) = resolve_beneath::open_cached(&root, &path, known_regular)
            && result.as_ref().err().is_none_or(is_final)
        {
            let outcome = OffloadOutput::Opened(result).into_outcome(&mut self.files);
            return outcome.into_iter().for_each(|outcome| self.at_once(id, outcome));
        }
        let handle = self.offload.open(id, root, path, known_regular);
        self.offloaded(id, handle);
    }

    /// Reads at once if the page cache has the whole range and it is small. Otherwise an offload
    /// thread reads it, from the beginning.
    pub(super) fn start_read(&mut self, id: OpId, file: File, offset: u64, length: usize) {
        let Some(file) = self.files.get(file.0) else { return self.reject(id, libc::EBADF) };
        let mut memory = self.read_pieces.memory(length);
        if length <= READ_AT_ONCE_MAX
            && let Ok(count) = sys::read_cached_at(file.as_fd(), memory.rest(), offset)
            && count == length
        {
            memory.add(count);
            let chunk = self.read_pieces.hand_out(memory);
            return self.at_once(id, Outcome::Read(chunk));
        }
        let handle = self.offload.read(id, Arc::clone(file), memory, offset);
        self.offloaded(id, handle);
    }

    pub(super) fn start_list(&mut self, id: OpId, root: Arc<Root>, path: CString) {
        let handle = self.offload.list(id, root, path);
        self.offloaded(id, handle);
    }

    pub(super) fn start_compute(&mut self, id: OpId, computation: Computation) {
        let handle = self.offload.compute(id, computation);
        self.offloaded(id, handle);
    }

    pub(super) fn start_create(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        let handle = self.offload.create(id, root, name);
        self.offloaded(id, handle);
    }

    pub(super) fn start_write(&mut self, id: OpId, file: File, offset: u64, bytes: Vec<u8>) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        let handle = self.offload.write(id, file, (bytes, 0), offset);
        self.offloaded(id, handle);
    }

    pub(super) fn start_publish(
        &mut self,
        id: OpId,
        root: Arc<Root>,
        file: File,
        names: (CString, CString),
        replaces: bool,
    ) {
        let Some(file) = self.files.get(file.0).cloned() else { return self.reject(id, libc::EBADF) };
        let handle = self.offload.publish(id, root, file, names, replaces);
        self.offloaded(id, handle);
    }

    pub(super) fn start_remove(&mut self, id: OpId, root: Arc<Root>, name: CString) {
        let handle = self.offload.remove(id, root, name);
        self.offloaded(id, handle);
    }

    fn at_once(&mut self, id: OpId, outcome: Outcome) {
        self.counters.submissions += 1;
        self.outbox.push(id, outcome);
    }

    /// Records that an operation waits for an offload thread. If the threads did not take it, it
    /// fails.
    fn offloaded(&mut self, id: OpId, handle: Result<TaskHandle, Fault>) {
        self.counters.submissions += 1;
        match handle {
            Ok(handle) => self.outbox.enter(id, Location::Offloaded(handle)),
            Err(fault) => self.outbox.push(id, Outcome::Failed(fault)),
        }
    }

    /// Collects finished results from the offload threads.
    pub(super) fn collect_results(&mut self) {
        for OffloadResult { id, result } in self.offload.results() {
            match (result, self.outbox.location_of(id)) {
                (OffloadOutput::Warmed(until), Some(Location::Output(key))) => self.on_warmed(key, until),
                (result, Some(_)) => {
                    if let Some(outcome) = result.into_outcome(&mut self.files) {
                        self.outbox.finish(id, outcome);
                    }
                }
                (OffloadOutput::Opened(result), None) => {
                    drop(result);
                    self.on_descriptor_closed();
                }
                (_, None) => {}
            }
        }
    }
}
