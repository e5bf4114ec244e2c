//! Checks what this process may do with a path, without doing it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD};

/// Checks that the file may be written, or that files may be created in the folder.
///
/// # Errors
/// As `access(2)`: the path does not exist, may not be written, or is on a file system that is
/// mounted read-only.
pub fn may_write(path: &Path) -> io::Result<()> {
    // `EACCESS`: the write will use the effective user, not the real one.
    Ok(rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?)
}

/// Whether the path does not exist. `false` also if that cannot be determined.
pub fn is_missing(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_ours_may_be_written_and_one_that_is_not_there_may_not() {
        let read_dir = tempfile::tempdir().unwrap();
        assert!(may_write(read_dir.path()).is_ok());
        let missing = read_dir.path().join("missing");
        assert_eq!(may_write(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(is_missing(&missing) && !is_missing(read_dir.path()));
    }
}
