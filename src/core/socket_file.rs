//! Listening on a unix socket, and the file that it has then.
//!
//! The file outlives whoever made it, so one that is left over is replaced, and ours is removed in the end; but only as long
//! as the path still leads to it, since somebody else may have taken the path meanwhile.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::file::FileMode;
use crate::driver::UnixPath;

/// The file of a listening socket. It is removed with this, unless it is somebody else's.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: UnixPath,
    /// As long as it is open, no other file can have the same number.
    file: File,
    is_ours: AtomicBool,
}

/// Listens on `path`, with `backlog` connections waiting there. Workers share the one socket, each by a descriptor of its own.
///
/// # Errors
/// `AddrInUse` if somebody listens there, `AlreadyExists` if there is something that is no socket; else what the system says.
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
        // Before it listens, nobody can connect.
        file.set_mode(mode)?;
    }
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// Removes a file that a server left behind.
fn remove_stale(path: &UnixPath, name: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file already, and it is not a socket"));
    }
    let probe = Socket::new_raw(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match probe.connect(name) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(%path, "removing the file of a socket on which nobody listens");
            fs::remove_file(path)
        }
        // `EAGAIN`: it accepts too slowly.
        Ok(()) => Err(is_live()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(is_live()),
        Err(error) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("there is a socket already, and whether somebody listens on it cannot be told: {error}"),
        )),
    }
}

fn is_live() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")
}

impl SocketFile {
    /// The file of a socket that is bound there, to be removed only once it is [owned](Self::own).
    ///
    /// # Errors
    /// There is none.
    pub(super) fn find(path: &UnixPath) -> io::Result<Self> {
        // `O_PATH`: a socket cannot be opened otherwise (open(2)).
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
        }
        Ok(Self { path: path.clone(), file, is_ours: AtomicBool::new(false) })
    }

    /// From now on it goes when this goes.
    pub(super) fn own(&self) {
        self.is_ours.store(true, Ordering::Relaxed);
    }

    /// From now on it is another process's to remove.
    pub(super) fn disown(&self) {
        self.is_ours.store(false, Ordering::Relaxed);
    }

    /// Whether it is ours to remove.
    pub(super) fn is_owned(&self) -> bool {
        self.is_ours.load(Ordering::Relaxed)
    }

    /// Sets who may connect: those who may write to it (unix(7)).
    ///
    /// # Errors
    /// The path leads elsewhere by now, or what `chmod(2)` says.
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
                tracing::debug!(path = %self.path, "another server has taken the path, its file stays");
                Ok(())
            }
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path, %error, "the socket's file cannot be removed");
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
        // Its file may get the number of ours, were that not held.
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
