//! Finds the folder that a path leads to now.
//!
//! It may differ from the folder before: a symbolic link was changed, the folder was removed and
//! created again, or a file system was mounted or unmounted there.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::{FolderId, Root, SymlinkPolicy, sys};

/// The folder that the path leads to; `present`, if that is still the same folder. Blocks on the
/// disk.
pub(super) fn find(path: &Path, symlinks: SymlinkPolicy, present: Option<Arc<Root>>) -> io::Result<Arc<Root>> {
    if let Some(present) = present {
        let metadata = path.metadata()?;
        if present.id() == (FolderId { device: metadata.dev(), inode: metadata.ino() }) {
            return Ok(present);
        }
    }
    Root::open_with(path, symlinks)
}

/// Whether the path still leads to this folder, according to the kernel's caches alone. `false`
/// also if the caches do not suffice: then [`find`] must be called on a thread that may block.
pub(super) fn leads_to(path: &Path, root: &Root) -> bool {
    // A path with a NUL byte is not valid; `find` reports the error.
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    sys::look_cached(&path)
        .and_then(|found| sys::file_info(found.as_fd()))
        .is_ok_and(|info| root.id() == FolderId { device: info.device, inode: info.inode })
}
