//! Finds the folder that a path leads to now, which may be another one than before: a link was switched, the folder was
//! removed and made again, something was mounted there or is not any more.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{FolderId, Root, SymlinkPolicy, sys};

/// What the path leads to: `present`, if it still does. Waits for the disk.
pub(super) fn find(path: &Path, symlinks: SymlinkPolicy, present: Option<Arc<Root>>) -> io::Result<Arc<Root>> {
    if let Some(present) = present {
        let metadata = path.metadata()?;
        if present.id() == (FolderId { device: metadata.dev(), inode: metadata.ino() }) {
            return Ok(present);
        }
    }
    Root::open_with(path, symlinks)
}

/// Whether the path still leads to this folder, as far as the kernel's caches tell. If not, [`find`] is to be called where
/// waiting does no harm.
pub(super) fn leads_to(path: &Path, root: &Root) -> bool {
    // A path with a NUL leads nowhere, which `find` will say.
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    sys::look_cached(&path)
        .and_then(|found| sys::file_info(found.as_fd()))
        .is_ok_and(|info| root.id() == FolderId { device: info.device, inode: info.inode })
}
