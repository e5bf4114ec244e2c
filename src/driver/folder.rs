//! What takes a thread off the loop: listing a folder, reading a file that is not in the cache.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::{FolderEntry, Root, beneath, sys};

/// Everything in the folder at `path` beneath `root`, in no order, with what each name leads to.
pub(super) fn list(root: &Root, path: &CStr) -> io::Result<Vec<FolderEntry>> {
    let folder = beneath::open(root, path)?;
    // The standard library lists folders by path only; this one leads to the descriptor (proc(5)).
    let by_descriptor = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(Path::new(OsStr::from_bytes(by_descriptor.as_bytes())))? {
        let name = entry?.file_name().into_vec();
        let info = info_of(root, path, &name);
        entries.push(FolderEntry { name, info });
    }
    Ok(entries)
}

/// What a name leads to. It is opened as a request for it would be, so that what a listing promises can be had.
fn info_of(root: &Root, folder: &CStr, name: &[u8]) -> Option<super::FileInfo> {
    let path = std::ffi::CString::new([folder.to_bytes(), b"/", name].concat()).ok()?;
    let file = beneath::open(root, &path).ok()?;
    sys::file_info(file.as_fd()).ok()
}

/// Fills `bytes` from `offset` on, however long the disk takes; shorter only where the file ends.
pub(super) fn read_fully(file: BorrowedFd<'_>, mut bytes: Vec<u8>, offset: u64) -> io::Result<Vec<u8>> {
    let mut filled = 0;
    while filled < bytes.len() {
        match sys::read_at(file, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
