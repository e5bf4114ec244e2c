//! Listening on a unix socket, and ownership of the socket's file.
//!
//! A socket file outlives the process that made it. A stale file is replaced at start. The file of
//! this process is removed at the end, but only while the path still leads to it: another process
//! may have taken the path since.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::file::FileMode;
use crate::driver::UnixPath;

/// The file of a listening socket. Dropping this removes the file, unless another process owns it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: UnixPath,
    /// Held open, so that the inode number cannot be reused by another file.
    file: File,
    is_ours: AtomicBool,
}

/// Listens on `path` with the given `backlog`. All workers share the one socket, each by a
/// duplicate of the descriptor.
///
/// # Errors
/// `AddrInUse` if another process listens there, `AlreadyExists` if the file is not a socket, else
/// the error of the system call.
pub(super) fn listen(path: &UnixPath, mode: Option<FileMode>, backlog: i32) -> io::Result<(OwnedFd, SocketFile)> {
    let socket = Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    let name = SockAddr::unix(path)?;
    match socket.bind(&name) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &name)?;
            socket.bind(&name)?;
        }
        bound => bound?,
    }
    let file = SocketFile::find(path)?;
    file.own();
    if let Some(mode) = mode {
        // No client can connect before listen(2).
        file.set_mode(mode)?;
    }
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Removes the file of a socket on which no process listens.
fn remove_stale(path: &UnixPath, name: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file already, and it is not a socket"));
    }
    let probe = Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(%path, "removing stale socket file");
            fs::remove_file(path)
        }
        // `EAGAIN`: the backlog is full.
        Ok(()) => Err(is_live()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(is_live()),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("the socket exists, and connecting to it failed: {error}"),
        )),
    }
}

fn is_live() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")
}

impl SocketFile {
    /// The file of the socket bound to `path`. It is removed at the end only if it is
    /// [owned](Self::own).
    ///
    /// # Errors
    /// The file does not exist or is not a socket.
    pub(super) fn find(path: &UnixPath) -> io::Result<Self> {
        // `O_PATH`: a socket cannot be opened otherwise (open(2)).
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
        }
        Ok(Self { path: path.clone(), file, is_ours: AtomicBool::new(false) })
    }

    /// Makes this process remove the file when this is dropped.
    pub(super) fn own(&self) {
        self.is_ours.store(true, Ordering::Relaxed);
    }

    /// Leaves removal of the file to another process.
    pub(super) fn disown(&self) {
        self.is_ours.store(false, Ordering::Relaxed);
    }

    /// Whether this process removes the file.
    pub(super) fn is_owned(&self) -> bool {
        self.is_ours.load(Ordering::Relaxed)
    }

    /// Sets the file mode. Write permission is needed to connect (unix(7)).
    ///
    /// # Errors
    /// The path leads to another file by now, or the error of `chmod(2)`.
    pub(super) fn set_mode(&self, mode: FileMode) -> io::Result<()> {
        if !self.is_there()? {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the file was replaced"));
        }
        fs::set_permissions(&self.path, Permissions::from_mode(mode.0))
    }

    fn is_there(&self) -> io::Result<bool> {
        let (ours, there) = (self.file.metadata()?, fs::symlink_metadata(&self.path)?);
        Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_owned() {
            return;
        }
        let removed = match self.is_there() {
            Ok(true) => fs::remove_file(&self.path),
            Ok(false) => {
                tracing::debug!(path = %self.path, "another process has taken the path; its socket file is kept");
                Ok(())
            }
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path, %error, "cannot remove the socket file");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    fn folder() -> (TempDir, UnixPath) {
        let folder = TempDir::new().unwrap();
        let path = UnixPath::new(folder.path().join("socket")).unwrap();
        (folder, path)
    }

    fn exists(path: &UnixPath) -> bool {
        Path::new(path.as_ref()).symlink_metadata().is_ok()
    }

    #[test]
    fn the_file_has_the_mode_that_was_asked_for_and_goes_in_the_end() {
        let (_folder, path) = folder();
        for mode in [0o600, 0o666] {
            let (_socket, _file) = listen(&path, Some(FileMode(mode)), 1).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, mode);
            UnixStream::connect(&path).unwrap();
        }
        assert!(!exists(&path));
    }

    #[test]
    fn a_stale_file_is_replaced_a_live_one_is_not() {
        let (_folder, path) = folder();
        let theirs = UnixListener::bind(&path).unwrap();
        let error = listen(&path, None, 1).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::AddrInUse, "another server listens there")
        );
        drop(theirs);
        let _ours = listen(&path, None, 1).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_live_server_with_a_full_backlog_is_live() {
        let (_folder, path) = folder();
        let _theirs = listen(&path, None, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert_eq!(listen(&path, None, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let (_folder, path) = folder();
        fs::write(&path, "precious").unwrap();
        assert_eq!(listen(&path, None, 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn another_server_s_file_is_left_alone() {
        let (_folder, path) = folder();
        let (socket, file) = listen(&path, None, 1).unwrap();
        // The next file may get the same inode number, unless the old file is held open.
        drop(socket);
        let (_next_socket, next) = listen(&path, None, 1).unwrap();
        drop(file);
        assert!(exists(&path), "the path is the next server's");
        drop(next);
        assert!(!exists(&path));
    }

    #[test]
    fn a_file_that_was_handed_on_stays() {
        let (_folder, path) = folder();
        let (_socket, file) = listen(&path, None, 1).unwrap();
        let theirs = SocketFile::find(&path).unwrap();
        file.disown();
        drop(file);
        assert!(exists(&path));
        theirs.own();
        drop(theirs);
        assert!(!exists(&path));
    }
}
