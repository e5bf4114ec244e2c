//! Where this process was started: what relative paths are relative to, however long it runs.
//!
//! The kernel keeps the working folder itself, not the way to it. If `/srv/current` is switched to another release, or a
//! folder is removed and made again, `.` goes on meaning the old one. So paths are taken from the top at the start.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder that this process was started in: as the shell knows it (`PWD`), through links that may be switched, if
/// that leads there; else as the kernel does.
///
/// # Errors
/// The working folder is gone, or may not be looked at.
pub fn folder() -> io::Result<PathBuf> {
    let known = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute() && is_here(path));
    known.map_or_else(std::env::current_dir, Ok)
}

/// The path from the top, with nothing on its way resolved.
///
/// # Errors
/// As [`folder`], for a relative path.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = if path.is_absolute() { path.to_owned() } else { folder()?.join(path) };
    // Without the dots that mean nothing; two of them may follow a link, and stay.
    Ok(path.components().collect())
}

fn is_here(path: &Path) -> bool {
    match (path.metadata(), Path::new(".").metadata()) {
        (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_taken_from_the_top_without_dots() {
        let here = folder().unwrap();
        assert!(here.is_absolute() && is_here(&here));
        assert_eq!(absolute(Path::new(".")).unwrap(), here.components().collect::<PathBuf>());
        assert_eq!(absolute(Path::new("./a/./b")).unwrap(), here.join("a/b"));
        assert_eq!(absolute(Path::new("/a/../b/")).unwrap(), Path::new("/a/../b"));
    }
}
