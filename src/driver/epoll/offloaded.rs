//! `Resolve` and `Open`, and everything else whose answer comes from another thread.

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{Epoll, Place};
use crate::driver::{Fault, File, FileInfo, OpId, Outcome, Root, beneath, resolve, sys};

/// What a thread off the loop hands back. If nobody waits for it any more, it is dropped, and with
/// it a file that was opened in vain.
#[derive(Debug)]
pub(super) enum Answer {
    Resolved { id: OpId, result: Result<Vec<SocketAddr>, Fault> },
    Opened { id: OpId, result: io::Result<(OwnedFd, FileInfo)> },
    Warmed { id: OpId, until: u64 },
}

impl Epoll {
    pub(super) fn start_resolve(&mut self, id: OpId, host: Arc<str>, port: u16) {
        self.counters.submissions += 1;
        self.outbox.enter(id, Place::Offloaded);
        self.offload.run(move || Answer::Resolved { id, result: resolve::resolve(&host, port) });
    }

    pub(super) fn start_open(&mut self, id: OpId, root: Arc<Root>, path: CString) {
        self.counters.submissions += 1;
        if let Some(result) = beneath::open_cached(root.directory().as_fd(), &path) {
            let outcome = self.opened(result.and_then(with_info));
            return self.outbox.push(id, outcome);
        }
        self.open_off_the_loop(id, root, path);
    }

    pub(super) fn open_off_the_loop(&mut self, id: OpId, root: Arc<Root>, path: CString) {
        self.outbox.enter(id, Place::Offloaded);
        self.offload.run(move || {
            let result = beneath::open(root.directory().as_fd(), &path).and_then(with_info);
            Answer::Opened { id, result }
        });
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
                Answer::Warmed { id, until } => {
                    if let Some(Place::Output(key)) = self.outbox.place_of(id) {
                        self.on_warmed(key, until);
                    }
                }
            }
        }
    }

    fn opened(&mut self, result: io::Result<(OwnedFd, FileInfo)>) -> Outcome {
        match result {
            Ok((file, info)) => Outcome::Opened(File(self.files.insert(Arc::new(file))), info),
            Err(error) => Outcome::Failed(Fault::from_io(&error)),
        }
    }
}

fn with_info(file: OwnedFd) -> io::Result<(OwnedFd, FileInfo)> {
    let info = sys::file_info(file.as_fd())?;
    Ok((file, info))
}
