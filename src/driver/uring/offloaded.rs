//! Operations that run on another thread: they wait for a disk or a name server, or take long.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::{Uring, Work};
use crate::driver::offload::TaskHandle;
use crate::driver::offloaded::{OffloadOutput, OffloadResult};
use crate::driver::read_memory::ReadMemory;
use crate::driver::{Computation, Fault, File, OpId, Outcome, Root, SymlinkPolicy, find_root, resolve};

impl Uring {
    pub(super) fn start_resolve(&mut self, id: OpId, host: &str, port: u16) {
        if let Some(address) = resolve::literal(host, port) {
            return self.emit(id, Outcome::Resolved(vec![address]));
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
            // A direct call that never waits is cheaper than an entry.
            Some(root) if find_root::leads_to(&path, &root) => self.emit(id, Outcome::Root(root)),
            present => {
                let handle = self.offload.find_root(id, path, symlinks, present);
                self.offloaded(id, handle);
            }
        }
    }

    pub(super) fn open_off_the_loop(&mut self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) {
        let handle = self.offload.open(id, root, path, known_regular);
        self.offloaded(id, handle);
    }

    pub(super) fn read_off_the_loop(&mut self, id: OpId, file: Arc<OwnedFd>, memory: ReadMemory, offset: u64) {
        let handle = self.offload.read(id, file, memory, offset);
        self.offloaded(id, handle);
    }

    /// Writes the rest of what a write through the ring did not finish.
    pub(super) fn write_off_the_loop(
        &mut self,
        id: OpId,
        file: Arc<OwnedFd>,
        (bytes, done): (Vec<u8>, usize),
        offset: u64,
    ) {
        let handle = self.offload.write(id, file, (bytes, done), offset);
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

    /// Records that an operation waits for an offload thread. If the threads did not take it, it
    /// fails.
    fn offloaded(&mut self, id: OpId, handle: Result<TaskHandle, Fault>) {
        match handle {
            Ok(handle) => self.in_flight.insert(id, Work::Offloaded(Box::new(handle))),
            Err(fault) => self.emit(id, Outcome::Failed(fault)),
        }
    }

    /// Collects finished results from the offload threads.
    pub(super) fn collect_results(&mut self) {
        for OffloadResult { id, result } in self.offload.results() {
            match (result, self.in_flight.get_mut(id).is_some()) {
                (OffloadOutput::Warmed(until), _) => self.on_warmed(id, until),
                (result, true) => {
                    if let Some(outcome) = result.into_outcome(&mut self.files) {
                        self.finish(id, outcome);
                    }
                }
                (OffloadOutput::Opened(result), false) => {
                    drop(result);
                    self.on_descriptor_closed();
                }
                (_, false) => {}
            }
        }
    }
}
