//! A new file in a folder: made under one name, written, then given another name in one step.
//!
//! So a reader of the folder sees the file whole or not at all. Names are names of entries in the folder, never paths. Each
//! call waits for the disk, so the drivers make them off the loop (io_uring writes by itself).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Root, sys};

/// Makes a file for writing; `EEXIST` if the name is taken, also by a link that leads nowhere.
pub(super) fn create(root: &Root, name: &CStr) -> io::Result<OwnedFd> {
    check_name(name)?;
    sys::create_at(root.directory().as_fd(), name)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_fully(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match sys::write_at(file, &bytes[written..], offset + written as u64) {
            // Not in write(2)'s power for a regular file; it would be tried for ever.
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sees to it that the file's bytes are on the disk, then renames it, then sees to it that the name is on the disk.
/// Unless it `replaces`, a name that is taken is `EEXIST`, and nothing has changed.
pub(super) fn publish(root: &Root, file: BorrowedFd<'_>, from: &CStr, to: &CStr, replaces: bool) -> io::Result<()> {
    check_name(from)?;
    check_name(to)?;
    let folder = root.directory().as_fd();
    sys::sync(file)?;
    match sys::rename_at(folder, from, to, replaces) {
        // The file system knows no such flag (renameat2(2)). A second name, and then not the first one, is the same.
        Err(error) if !replaces && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            sys::link_at(folder, from, to)?;
            sys::remove_at(folder, from)?;
        }
        result => result?,
    }
    match sys::sync(folder) {
        // Some file systems cannot do that for folders (fsync(2)): the rename is as safe there as it gets.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS | libc::EBADF)) => Ok(()),
        result => result,
    }
}

/// Removes a file.
pub(super) fn remove(root: &Root, name: &CStr) -> io::Result<()> {
    check_name(name)?;
    sys::remove_at(root.directory().as_fd(), name)
}

fn check_name(name: &CStr) -> io::Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        bytes if bytes.contains(&b'/') => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        _ => Ok(()),
    }
}
