//! Blocking reads for offload threads: listing a folder, reading a file that is not in the page
//! cache.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::read_memory::ReadMemory;
use super::{FileInfo, FolderEntry, Root, resolve_beneath, sys};

/// Every entry of the folder at `path` beneath `root`, in no order, with the attributes of the file
/// that it leads to. No entry is opened: that would wake a FIFO's writer, start a device, or mount
/// an automount point.
pub(super) fn list(root: &Root, path: &CStr) -> io::Result<Vec<FolderEntry>> {
    let folder = resolve_beneath::open_folder(root, path)?;
    let mut entries = Vec::new();
    sys::for_each_name(folder.as_fd(), |name| {
        if !matches!(name.to_bytes(), b"." | b"..") {
            entries.push(FolderEntry { name: name.to_bytes().to_vec(), info: None });
        }
    })?;
    for entry in &mut entries {
        entry.info = info_of(root, path, folder.as_fd(), &entry.name);
    }
    Ok(entries)
}

/// The attributes of the file that a name leads to. A symbolic link is resolved as in a request, so
/// that every file in a listing can be requested.
fn info_of(root: &Root, path: &CStr, folder: BorrowedFd<'_>, name: &[u8]) -> Option<FileInfo> {
    match sys::entry_info(folder, &CString::new(name).ok()?) {
        Ok(Some(info)) => Some(info),
        Ok(None) => {
            let path = CString::new([path.to_bytes(), b"/", name].concat()).ok()?;
            sys::file_info(resolve_beneath::look(root, &path).ok()?.as_fd()).ok()
        }
        Err(_) => None,
    }
}

/// Fills `memory` from `offset`, blocking on the disk. The result is shorter only at the end of the
/// file.
pub(super) fn read_fully(file: BorrowedFd<'_>, mut memory: ReadMemory, offset: u64) -> io::Result<ReadMemory> {
    while !memory.is_full() {
        let at = offset + memory.filled() as u64;
        match sys::read_at(file, memory.rest(), at) {
            Ok(0) => break,
            Ok(count) => memory.add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(memory)
}
