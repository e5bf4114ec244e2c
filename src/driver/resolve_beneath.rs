//! Opens paths beneath a root folder. No `..` and no symbolic link in a path leads outside of it.
//!
//! The kernel does this in one call, `openat2(2)` with `RESOLVE_BENEATH` (Linux 5.6). If that call
//! is missing or a seccomp profile forbids it, [`walk`] does the same step by step. It opens one
//! name at a time without following it. It keeps the folders on the way on a stack, so that `..`
//! pops the stack and never is the kernel's `..`. It follows a symbolic link by walking the link's
//! target. Both ways fail with `EXDEV` on a path that leaves the root: `..` above the root, an
//! absolute path, an absolute symbolic link.
//!
//! Only regular files and folders are opened. Opening a FIFO wakes its writer, which then gets
//! SIGPIPE when the FIFO is closed again; opening a device may rewind a tape; an automount point is
//! mounted. So a path is looked up with `O_PATH` first, which opens nothing, unless the caller
//! knows that the path leads to a regular file. If another file takes its name between the lookup
//! and the open, that file is opened: reopening the one that was looked up needs `/proc`.
//!
//! The functions block on the disk, but an open never blocks on the other end of a FIFO. This
//! module does not parse paths of requests and does not decide which files are served.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, OFlags};

use super::sys::{self, FOLDER_FLAGS, LOOK_FLAGS, Lookup, OPEN_FLAGS};
use super::{FileInfo, FileKind, Root, SymlinkPolicy};

/// The most symbolic links in the resolution of one path; the kernel has the same limit
/// (path_resolution(7)).
const SYMLINKS_MAX: usize = 40;

/// The deepest folder of a walk; each level holds a descriptor open meanwhile.
const DEPTH_MAX: usize = 64;

/// The most names of one path, including those of its symbolic links.
const NAMES_MAX: usize = 4096;

/// The most calls for one lookup: a rename at the same time makes one fail (`EAGAIN`, openat2(2)).
const ATTEMPTS_MAX: usize = 8;

/// Opens `path` for reading if it leads to a regular file; anything else only with `O_PATH`.
/// Returns the attributes of the file.
pub(super) fn open(root: &Root, path: &CStr, known_regular: bool) -> io::Result<(OwnedFd, FileInfo)> {
    if !known_regular {
        let looked_at = with_info(look(root, path)?)?;
        if looked_at.1.kind != FileKind::Regular {
            return Ok(looked_at);
        }
    }
    with_info(resolve(root, path, OPEN_FLAGS)?)
}

/// [`open`], if the kernel can do it from its caches alone. `None`: it would block, or cannot do
/// this without blocking; then [`open`] must be called on a thread that may block.
pub(super) fn open_cached(root: &Root, path: &CStr, known_regular: bool) -> Option<io::Result<(OwnedFd, FileInfo)>> {
    if !known_regular {
        match resolve_cached(root, path, LOOK_FLAGS)?.and_then(with_info) {
            Ok((_, info)) if info.kind == FileKind::Regular => {}
            looked_at => return Some(looked_at),
        }
    }
    Some(resolve_cached(root, path, OPEN_FLAGS)?.and_then(with_info))
}

/// The file that `path` leads to, not opened (`O_PATH`).
pub(super) fn look(root: &Root, path: &CStr) -> io::Result<OwnedFd> {
    resolve(root, path, LOOK_FLAGS)
}

/// Opens a folder for listing. `ENOTDIR` if the path leads to anything else, which is not opened.
pub(super) fn open_folder(root: &Root, path: &CStr) -> io::Result<OwnedFd> {
    resolve(root, path, FOLDER_FLAGS)
}

/// Adds the file's attributes.
pub(super) fn with_info(file: OwnedFd) -> io::Result<(OwnedFd, FileInfo)> {
    let info = sys::file_info(file.as_fd())?;
    Ok((file, info))
}

fn resolve(root: &Root, path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match sys::open_beneath(root, path, flags, Lookup::Full) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && attempt < ATTEMPTS_MAX => {}
            Err(error) if is_unavailable(&error) => return walk(root, path, flags),
            result => return result,
        }
    }
}

fn resolve_cached(root: &Root, path: &CStr, flags: OFlags) -> Option<io::Result<OwnedFd>> {
    match sys::open_beneath(root, path, flags, Lookup::CachedOnly) {
        // Before Linux 5.12 the kernel does not know `RESOLVE_CACHED` (EINVAL).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL)) => None,
        Err(error) if is_unavailable(&error) => None,
        result => Some(result),
    }
}

/// Whether `openat2(2)` is missing, or a seccomp profile denies it. A genuine `EPERM` recurs in
/// [`walk`].
fn is_unavailable(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// [`resolve`] without `openat2(2)`.
fn walk(root: &Root, path: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let mut names = VecDeque::new();
    prepend(&mut names, path.to_bytes())?;
    let mut folders: Vec<OwnedFd> = Vec::new();
    let mut symlinks = 0;
    while let Some(name) = names.pop_front() {
        let here = folders.last().map_or(root.directory().as_fd(), AsFd::as_fd);
        if name.as_bytes() == b"." {
            continue;
        }
        if name.as_bytes() == b".." {
            folders.pop().ok_or_else(|| errno(libc::EXDEV))?;
            continue;
        }
        let found = sys::open_at(here, &name, LOOK_FLAGS)?;
        match sys::file_type(found.as_fd())? {
            FileType::Directory if folders.len() == DEPTH_MAX => return Err(errno(libc::ENAMETOOLONG)),
            FileType::Directory => folders.push(found),
            FileType::Symlink if root.symlinks() == SymlinkPolicy::Refuse => return Err(errno(libc::ELOOP)),
            FileType::Symlink => {
                symlinks += 1;
                if symlinks > SYMLINKS_MAX {
                    return Err(errno(libc::ELOOP));
                }
                prepend(&mut names, &sys::link_target(found.as_fd())?)?;
            }
            // If a symbolic link takes this name meanwhile, the open fails with ELOOP.
            _ if names.is_empty() => return sys::open_at(here, &name, flags),
            _ => return Err(errno(libc::ENOTDIR)),
        }
    }
    sys::open_at(folders.last().map_or(root.directory().as_fd(), AsFd::as_fd), c".", flags)
}

/// Puts the names of a path before those that remain. A slash at the end requires a folder; a final
/// name `.` has the same effect.
fn prepend(names: &mut VecDeque<CString>, path: &[u8]) -> io::Result<()> {
    match path {
        [] => return Err(errno(libc::ENOENT)),
        [b'/', ..] => return Err(errno(libc::EXDEV)),
        _ => {}
    }
    if path.ends_with(b"/") {
        names.push_front(c".".to_owned());
    }
    for name in path.split(|byte| *byte == b'/').rev().filter(|name| !name.is_empty()) {
        names.push_front(CString::new(name)?);
    }
    if names.len() > NAMES_MAX { Err(errno(libc::ENAMETOOLONG)) } else { Ok(()) }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;

    /// A root with a file, a folder and symbolic links of every kind, and a secret file outside of
    /// it.
    fn tree(symlinks: SymlinkPolicy) -> (tempfile::TempDir, Arc<Root>) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(root.join("file"), "file").unwrap();
        fs::write(root.join("sub/deep/leaf"), "leaf").unwrap();
        symlink("sub/deep", root.join("inside")).unwrap();
        symlink("../file", root.join("sub/up")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("../../..", root.join("sub/far")).unwrap();
        symlink(root.join("file"), root.join("absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fifo = CString::new(root.join("fifo").to_str().unwrap()).unwrap();
        // SAFETY: the path is a live string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        let root = Root::open_with(&root, symlinks).unwrap();
        (outer, root)
    }

    /// The file's content, or the error of opening it.
    fn read(result: io::Result<OwnedFd>) -> Result<String, i32> {
        let mut text = String::new();
        let file = result.map_err(|error| error.raw_os_error().unwrap())?;
        match fs::File::from(file).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Ok(format!("{:?}", error.kind())),
        }
    }

    /// Each path, with the expected result of opening it beneath the root, either way.
    fn cases() -> Vec<(&'static CStr, Result<&'static str, i32>)> {
        vec![
            (c"file", Ok("file")),
            (c"./sub//deep/leaf", Ok("leaf")),
            (c"sub/../file", Ok("file")),
            (c"inside/leaf", Ok("leaf")),
            (c"sub/up", Ok("file")),
            (c"inside/../../file", Ok("file")),
            (c".", Ok("IsADirectory")),
            (c"sub/", Ok("IsADirectory")),
            (c"fifo", Ok("")),
            (c"file/", Err(libc::ENOTDIR)),
            (c"file/more", Err(libc::ENOTDIR)),
            (c"missing", Err(libc::ENOENT)),
            (c"", Err(libc::ENOENT)),
            (c"loop", Err(libc::ELOOP)),
            (c"..", Err(libc::EXDEV)),
            (c"../secret", Err(libc::EXDEV)),
            (c"sub/../../secret", Err(libc::EXDEV)),
            (c"out", Err(libc::EXDEV)),
            (c"sub/far/secret", Err(libc::EXDEV)),
            (c"absolute", Err(libc::EXDEV)),
            (c"/etc/passwd", Err(libc::EXDEV)),
        ]
    }

    #[test]
    fn the_walk_opens_what_lies_beneath_and_nothing_else() {
        let (_outer, root) = tree(SymlinkPolicy::Follow);
        for (path, expected) in cases() {
            assert_eq!(read(walk(&root, path, OPEN_FLAGS)), expected.map(str::to_owned), "{path:?}");
        }
    }

    #[test]
    fn the_kernel_and_the_walk_agree() {
        let (_outer, root) = tree(SymlinkPolicy::Follow);
        for (path, expected) in cases() {
            assert_eq!(read(resolve(&root, path, OPEN_FLAGS)), expected.map(str::to_owned), "{path:?}");
        }
    }

    #[test]
    fn links_are_refused_by_either_way() {
        let (_outer, root) = tree(SymlinkPolicy::Refuse);
        for path in [c"inside", c"inside/leaf", c"sub/up", c"out", c"absolute", c"loop"] {
            assert_eq!(read(walk(&root, path, OPEN_FLAGS)), Err(libc::ELOOP), "{path:?}");
            assert_eq!(read(resolve(&root, path, OPEN_FLAGS)), Err(libc::ELOOP), "{path:?}");
        }
        for path in [c"file", c"sub/../file", c"./file"] {
            assert_eq!(read(walk(&root, path, OPEN_FLAGS)), Ok("file".to_owned()), "{path:?}");
            assert_eq!(read(resolve(&root, path, OPEN_FLAGS)), Ok("file".to_owned()), "{path:?}");
        }
    }

    #[test]
    fn a_path_without_end_is_refused() {
        let (_outer, root) = tree(SymlinkPolicy::Follow);
        let long = CString::new("./".repeat(NAMES_MAX + 1)).unwrap();
        assert_eq!(read(walk(&root, &long, OPEN_FLAGS)), Err(libc::ENAMETOOLONG));
    }

    #[test]
    fn a_look_up_from_the_caches_never_leaves_the_root_either() {
        let (_outer, root) = tree(SymlinkPolicy::Follow);
        if let Some(result) = resolve_cached(&root, c"out", OPEN_FLAGS) {
            assert_eq!(read(result), Err(libc::EXDEV));
        }
    }
}
