//! A new file in a folder: created under one name, written, then renamed in one step.
//!
//! Readers of the folder see the whole file or none. Names are entries of the folder, never paths.
//! Each call blocks on the disk, so the drivers make them off the loop, except that writes may go
//! through io_uring.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Root, sys};

/// Creates a file for writing; `EEXIST` if the name exists, even as a dangling symbolic link.
pub(super) fn create(root: &Root, name: &CStr) -> io::Result<OwnedFd> {
    check_name(name)?;
    sys::create_at(root.directory().as_fd(), name)
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_fully(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match sys::write_at(file, &bytes[written..], offset + written as u64) {
            // write(2) does not return 0 for a regular file; without this, the loop would not end.
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Flushes the file to the disk, renames it, then flushes the folder to the disk. Without
/// `replaces`, an existing name is `EEXIST`, and nothing has changed.
pub(super) fn publish(root: &Root, file: BorrowedFd<'_>, from: &CStr, to: &CStr, replaces: bool) -> io::Result<()> {
    check_name(from)?;
    check_name(to)?;
    let folder = root.directory().as_fd();
    sys::sync(file)?;
    match sys::rename_at(folder, from, to, replaces) {
        // The file system does not support `RENAME_NOREPLACE` (renameat2(2)). Adding the second
        // name, then removing the first one, has the same result.
        Err(error) if !replaces && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            sys::link_at(folder, from, to)?;
            sys::remove_at(folder, from)?;
        }
        result => result?,
    }
    match sys::sync(folder) {
        // Some file systems cannot flush a folder (fsync(2)): there is no stronger guarantee there.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS | libc::EBADF)) => Ok(()),
        result => result,
    }
}

/// Removes a file.
pub(super) fn remove(root: &Root, name: &CStr) -> io::Result<()> {
    check_name(name)?;
    sys::remove_at(root.directory().as_fd(), name)
}

/// `EINVAL` unless this can be the name of an entry of a folder.
pub(super) fn check_name(name: &CStr) -> io::Result<()> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        bytes if bytes.contains(&b'/') => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        _ => Ok(()),
    }
}
