//! [`PidFile`]: the file with the number of the process that serves.
//!
//! It is written once the server serves, and removed at the end, unless another process has written it
//! since: after a replacement it is that one's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// The file. Dropping this removes it, if it still holds the number of this process.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file. A reader sees the old content or the new one.
    ///
    /// # Errors
    /// The folder does not exist or may not be written, or the path is that of a folder.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(format!(".{}", process::id()));
        let written = fs::write(&new, content()).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // Most often it was not made.
            let _ = fs::remove_file(&new);
        }
        written.map(|()| Self { path: path.to_owned() })
    }
}

fn content() -> String {
    format!("{}\n", process::id())
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read(&self.path).is_ok_and(|found| found == content().as_bytes())
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the pid file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_removed_at_the_end_unless_it_is_another_process_s() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xps.pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content());
        drop(file);
        assert!(!path.exists());
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(PidFile::write(folder.path()).is_err());
        assert!(PidFile::write(&folder.path().join("no/xps.pid")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
