//! The folder in which this process was started. Relative paths start there for the whole run.
//!
//! The kernel keeps the working folder itself, not its path. If the link `/srv/current` is switched
//! to another release, or a folder is removed and created again, `.` still refers to the old one.
//! So paths are made absolute at the start.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder in which this process was started. It is the path in `PWD`, if that leads to the
/// working folder: it may contain symbolic links, which can be switched later. Otherwise it is the
/// kernel's path.
///
/// # Errors
/// The working folder has been removed, or cannot be read.
pub fn folder() -> io::Result<PathBuf> {
    let known = std::env::var_os("PWD").map(PathBuf::from).filter(|path| path.is_absolute() && is_here(path));
    known.map_or_else(std::env::current_dir, Ok)
}

/// The absolute path. Symbolic links are not resolved.
///
/// # Errors
/// As [`folder`], for a relative path.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = if path.is_absolute() { path.to_owned() } else { folder()?.join(path) };
    // Removes `.` components. `..` stays, since it may follow a symbolic link.
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
