//! The tasks that the kernel drivers run off the loop, and their results. Both drivers share them.
//!
//! This module does not decide which operations run here, and keeps no record of those that wait.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::offload::{LaneKind, OffloadClient, TaskHandle};
use super::read_memory::ReadMemory;
use super::{
    Computation, Computed, Fault, File, FileInfo, FolderEntry, OpId, Outcome, Root, SymlinkPolicy, find_root, new_file,
    page_cache, read_dir, resolve, resolve_beneath,
};
use crate::table::Table;

/// The result of a task. If the operation has ended meanwhile, the result is dropped, which closes
/// an opened file.
#[derive(Debug)]
pub(super) struct OffloadResult {
    pub(super) id: OpId,
    pub(super) result: OffloadOutput,
}

#[derive(Debug)]
pub(super) enum OffloadOutput {
    Root(io::Result<Arc<Root>>),
    Resolved(Result<Vec<SocketAddr>, Fault>),
    Opened(io::Result<(OwnedFd, FileInfo)>),
    Read(io::Result<ReadMemory>),
    Listed(io::Result<Vec<FolderEntry>>),
    Computed(Computed),
    Changed(io::Result<()>),
    Written(io::Result<()>),
    /// A range of a file was read into the page cache, up to this offset, as far as possible.
    Warmed(u64),
}

impl OffloadOutput {
    /// The final outcome of the operation, or `None` if the task was only a step of it. An opened
    /// file is added to the table.
    pub(super) fn into_outcome(self, files: &mut Table<Arc<OwnedFd>, File>) -> Option<Outcome> {
        let outcome = match self {
            Self::Root(result) => result.map(Outcome::Root),
            Self::Resolved(result) => return Some(result.map_or_else(Outcome::Failed, Outcome::Resolved)),
            Self::Opened(result) => {
                result.map(|(file, info)| Outcome::Opened(File(files.insert(Arc::new(file))), info))
            }
            Self::Read(result) => result.map(|memory| Outcome::Read(memory.into_chunk())),
            Self::Listed(result) => result.map(Outcome::Listed),
            Self::Computed(computed) => Ok(Outcome::Computed(computed)),
            Self::Changed(result) => result.map(|()| Outcome::Done),
            Self::Written(result) => result.map(|()| Outcome::Written),
            Self::Warmed(_) => return None,
        };
        Some(outcome.unwrap_or_else(|error| Outcome::Failed(Fault::from_io(&error))))
    }
}

/// The queued task of an operation, or why it cannot be queued.
type Offloaded = Result<TaskHandle, Fault>;

impl OffloadClient<OffloadResult> {
    pub(super) fn look_up(&self, id: OpId, host: &str, port: u16) -> Offloaded {
        self.resolve(host, move |found| {
            let result = OffloadOutput::Resolved(found.map(|addresses| resolve::with_port(addresses, port)));
            OffloadResult { id, result }
        })
    }

    pub(super) fn find_root(
        &self,
        id: OpId,
        path: Arc<Path>,
        symlinks: SymlinkPolicy,
        present: Option<Arc<Root>>,
    ) -> Offloaded {
        self.disk(id, move || OffloadOutput::Root(find_root::find(&path, symlinks, present)))
    }

    pub(super) fn open(&self, id: OpId, root: Arc<Root>, path: CString, known_regular: bool) -> Offloaded {
        self.disk(id, move || OffloadOutput::Opened(resolve_beneath::open(&root, &path, known_regular)))
    }

    pub(super) fn read(&self, id: OpId, file: Arc<OwnedFd>, memory: ReadMemory, offset: u64) -> Offloaded {
        self.disk(id, move || OffloadOutput::Read(read_dir::read_fully(file.as_fd(), memory, offset)))
    }

    /// Reads a range of a file into the page cache.
    pub(super) fn warm(&self, id: OpId, file: Arc<OwnedFd>, (start, end): (u64, u64)) -> Offloaded {
        self.disk(id, move || {
            page_cache::warm(file.as_fd(), start, end);
            OffloadOutput::Warmed(end)
        })
    }

    pub(super) fn list(&self, id: OpId, root: Arc<Root>, path: CString) -> Offloaded {
        self.disk(id, move || OffloadOutput::Listed(read_dir::list(&root, &path)))
    }

    pub(super) fn create(&self, id: OpId, root: Arc<Root>, name: CString) -> Offloaded {
        self.disk(id, move || {
            OffloadOutput::Opened(new_file::create(&root, &name).and_then(resolve_beneath::with_info))
        })
    }

    /// Writes all but the first `done` bytes, which are already written; `offset` is that of the
    /// first byte.
    pub(super) fn write(
        &self,
        id: OpId,
        file: Arc<OwnedFd>,
        (bytes, done): (Vec<u8>, usize),
        offset: u64,
    ) -> Offloaded {
        self.disk(id, move || {
            let rest = bytes.get(done..).unwrap_or_default();
            OffloadOutput::Written(new_file::write_fully(file.as_fd(), rest, offset + done as u64))
        })
    }

    pub(super) fn publish(
        &self,
        id: OpId,
        root: Arc<Root>,
        file: Arc<OwnedFd>,
        (from, to): (CString, CString),
        replaces: bool,
    ) -> Offloaded {
        self.disk(id, move || OffloadOutput::Changed(new_file::publish(&root, file.as_fd(), &from, &to, replaces)))
    }

    pub(super) fn remove(&self, id: OpId, root: Arc<Root>, name: CString) -> Offloaded {
        self.disk(id, move || OffloadOutput::Changed(new_file::remove(&root, &name)))
    }

    pub(super) fn compute(&self, id: OpId, computation: Computation) -> Offloaded {
        let bytes = computation.bytes();
        self.run(LaneKind::Computation, bytes, move || OffloadResult {
            id,
            result: OffloadOutput::Computed(computation.run()),
        })
    }

    fn disk(&self, id: OpId, task: impl FnOnce() -> OffloadOutput + Send + 'static) -> Offloaded {
        self.run(LaneKind::Disk, 0, move || OffloadResult { id, result: task() })
    }
}
