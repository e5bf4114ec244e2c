//! Safe wrappers for the system calls that both kernel drivers use.
//!
//! Each function makes one call and returns its error. There are no decisions and no retries.

use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use socket2::{SockAddr, Type};

use super::{Address, Fault, FileInfo, FileKind, Peer, Root, SymlinkPolicy};
use crate::buffer::Chain;

/// The most chunks that one `sendmsg` gathers; a longer chain takes several calls.
pub(super) const GATHER_MAX: usize = 64;

/// Seconds since 1970 (`CLOCK_REALTIME_COARSE`, accurate to the kernel's tick): cheap enough for
/// every turn.
pub fn unix_seconds() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to writable memory of the right type; the clock exists since Linux 2.6.32, so the call
    // initialises it.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, now.as_mut_ptr());
        now.assume_init()
    };
    u64::try_from(now.tv_sec).unwrap_or(0)
}

/// The monotonic clock, in nanoseconds.
pub(super) fn monotonic_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to writable memory of the right type; CLOCK_MONOTONIC always exists,
    // so the call initialises it.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Sets the nice value of the calling thread: the greater it is, the lower the priority. On Linux
/// the value belongs to the thread, unlike in POSIX (setpriority(2)).
pub(super) fn lower_thread_priority(nice: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed, and the call always succeeds.
    let thread = unsafe { libc::gettid() };
    // SAFETY: no pointers are passed.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS as _, thread as libc::id_t, nice) }).map(drop)
}

/// Whether calls on a new socket may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// They may block: for io_uring, which does the waiting.
    Allowed,
    /// They return at once (`O_NONBLOCK`).
    Never,
}

/// `accept4(2)` on a non-blocking listener. The same call returns the peer's address.
pub(super) fn accept_from(listener: BorrowedFd<'_>, waiting: Waiting) -> io::Result<(OwnedFd, Peer)> {
    let flags = match waiting {
        Waiting::Allowed => libc::SOCK_CLOEXEC,
        Waiting::Never => libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
    };
    // SAFETY: the closure passes on the storage and its length, and the kernel fills both in.
    let (fd, address) = unsafe {
        SockAddr::try_init(|storage, length| check(libc::accept4(listener.as_raw_fd(), storage.cast(), length, flags)))
    }?;
    // SAFETY: the descriptor is new and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((socket, address.as_socket().map_or(Peer::Local, Peer::Inet)))
}

/// The remote end of a connected socket (`getpeername(2)`).
pub(super) fn peer_of(socket: BorrowedFd<'_>) -> Peer {
    match socket2::SockRef::from(&socket).peer_addr() {
        Ok(address) => address.as_socket().map_or(Peer::Local, Peer::Inet),
        Err(_) => Peer::Gone,
    }
}

/// The local address of a connected socket (`getsockname(2)`); `None` if it is not an IP socket.
pub(super) fn local_address(socket: BorrowedFd<'_>) -> io::Result<Option<std::net::SocketAddr>> {
    Ok(socket2::SockRef::from(&socket).local_addr()?.as_socket())
}

/// `recv(2)` without blocking.
pub(super) fn recv(socket: BorrowedFd<'_>, memory: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live exclusive slice.
    check_len(unsafe { libc::recv(socket.as_raw_fd(), memory.as_mut_ptr().cast(), memory.len(), libc::MSG_DONTWAIT) })
}

/// Sends the start of a chain without blocking. Returns the number of bytes that the kernel took.
pub(super) fn send(socket: BorrowedFd<'_>, chain: &Chain) -> io::Result<usize> {
    send_with(socket, chain, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
}

/// [`send`], if more data follows at once: the kernel holds the last, partial segment back for it
/// (`MSG_MORE`).
pub(super) fn send_before_more(socket: BorrowedFd<'_>, chain: &Chain) -> io::Result<usize> {
    send_with(socket, chain, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE)
}

/// Sends the start of `bytes` without blocking. Returns the number of bytes that the kernel took.
pub(super) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length are those of a live slice.
    check_len(unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
}

fn send_with(socket: BorrowedFd<'_>, chain: &Chain, flags: i32) -> io::Result<usize> {
    if let [chunk] = chain.chunks() {
        // SAFETY: pointer and length are those of a live slice.
        return check_len(unsafe { libc::send(socket.as_raw_fd(), chunk.as_ptr().cast(), chunk.len(), flags) });
    }
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; GATHER_MAX];
    let count = gather(chain, &mut pieces);
    let message = message_of(&mut pieces[..count]);
    // SAFETY: the message points to `pieces`, which point to the chain's chunks; all outlive the call.
    check_len(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// Points `pieces` at the chain's first chunks. Returns the number of pieces in use.
pub(super) fn gather(chain: &Chain, pieces: &mut [libc::iovec]) -> usize {
    let mut count = 0;
    for (piece, chunk) in pieces.iter_mut().zip(chain.chunks()) {
        *piece = libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() };
        count += 1;
    }
    count
}

/// A message header over these pieces, without address or control data.
pub(super) fn message_of(pieces: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeroes is a valid header: no address, no pieces, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_mut_ptr();
    message.msg_iovlen = pieces.len() as _;
    message
}

/// `sendfile(2)` from `offset`; the socket must be non-blocking. Zero: the end of the file.
pub(super) fn send_file(socket: BorrowedFd<'_>, file: BorrowedFd<'_>, offset: u64, length: usize) -> io::Result<usize> {
    let mut offset = offset as libc::off_t;
    // SAFETY: the offset is a live local.
    check_len(unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut offset, length) })
}

/// Whether the byte at `offset` is in the page cache. `true` also if the file system does not
/// support the query.
pub(super) fn is_cached(file: BorrowedFd<'_>, offset: u64) -> bool {
    let mut byte = 0_u8;
    let piece = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: one piece, pointing to a live local byte.
    let result = check_len(unsafe {
        libc::preadv2(file.as_raw_fd(), &raw const piece, 1, offset as libc::off_t, libc::RWF_NOWAIT)
    });
    !matches!(result, Err(error) if error.raw_os_error() == Some(libc::EAGAIN))
}

/// Reads from the page cache without blocking (`preadv2(2)` with `RWF_NOWAIT`).
pub(super) fn read_cached_at(file: BorrowedFd<'_>, memory: &mut [u8], offset: u64) -> io::Result<usize> {
    let piece = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() };
    // SAFETY: one piece, which is a live exclusive slice.
    check_len(unsafe { libc::preadv2(file.as_raw_fd(), &raw const piece, 1, offset as libc::off_t, libc::RWF_NOWAIT) })
}

/// `pread(2)`; blocks on the disk. Zero: the end of the file.
pub(super) fn read_at(file: BorrowedFd<'_>, memory: &mut [u8], offset: u64) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live exclusive slice.
    check_len(unsafe { libc::pread(file.as_raw_fd(), memory.as_mut_ptr().cast(), memory.len(), offset as libc::off_t) })
}

/// `pwrite(2)`; blocks on the disk.
pub(super) fn write_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live slice.
    check_len(unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), offset as libc::off_t) })
}

/// Flushes the bytes of a file, or the names of a folder, to the disk (`fsync(2)`).
pub(super) fn sync(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is live, and no pointers are passed.
    check(unsafe { libc::fsync(file.as_raw_fd()) }).map(drop)
}

/// Creates a new file for writing (`O_EXCL`), with permissions 0666 less the umask.
pub(super) fn create_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    const PERMISSIONS: libc::c_uint = 0o666;
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a live string.
    let fd = check(unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), flags, PERMISSIONS) })?;
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Renames within a folder (`renameat2(2)`). Without `replaces`, an existing name is `EEXIST`.
pub(super) fn rename_at(folder: BorrowedFd<'_>, from: &CStr, to: &CStr, replaces: bool) -> io::Result<()> {
    let folder = folder.as_raw_fd();
    let flags = if replaces { 0 } else { libc::RENAME_NOREPLACE };
    // SAFETY: both names are live strings.
    let result = unsafe { libc::syscall(libc::SYS_renameat2, folder, from.as_ptr(), folder, to.as_ptr(), flags) };
    check(result as i32).map(drop)
}

/// Adds a second name to a file in the same folder (`linkat(2)`).
pub(super) fn link_at(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    let folder = folder.as_raw_fd();
    // SAFETY: both names are live strings.
    check(unsafe { libc::linkat(folder, from.as_ptr(), folder, to.as_ptr(), 0) }).map(drop)
}

/// Removes the name of a file from a folder (`unlinkat(2)`).
pub(super) fn remove_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a live string.
    check(unsafe { libc::unlinkat(folder.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}

/// A new non-blocking stream socket for connecting to `address`; over TCP, with `TCP_NODELAY`.
pub(super) fn stream_socket(address: &Address) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = socket2::Socket::new_raw(address.domain(), kind, None)?;
    match address {
        Address::Inet(_) => socket.set_tcp_nodelay(true)?,
        Address::Unix(_) => {}
    }
    Ok(socket.into())
}

/// `connect(2)`; on a non-blocking TCP socket usually `EINPROGRESS`, on a unix socket `EAGAIN` if the backlog is full.
pub(super) fn connect(socket: BorrowedFd<'_>, address: &Address) -> io::Result<()> {
    socket2::SockRef::from(&socket).connect(&address.to_sockaddr()?)
}

/// The pending error of a socket, or the result of a connect in progress (`SO_ERROR`). Reading
/// clears it.
pub(super) fn take_error(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).take_error()?.map_or(Ok(()), Err)
}

/// Shuts down the sending half. A direct call, since io_uring would pass it to a kernel worker
/// thread.
pub(super) fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).shutdown(std::net::Shutdown::Write)
}

/// Wakes every waiter on a listening socket, in all processes. It has no other effect: a listener
/// has no sending half, and the kernel's `inet_shutdown` and `unix_shutdown` only wake the waiters,
/// which check the socket again.
pub(super) fn wake_waiters(listener: BorrowedFd<'_>) -> io::Result<()> {
    shutdown_write(listener)
}

/// Whether the socket is a listener; `false` if the query fails.
pub(super) fn is_listener(socket: BorrowedFd<'_>) -> bool {
    socket2::SockRef::from(&socket).is_listener().unwrap_or(false)
}

/// Sets `O_NONBLOCK`: no call on the socket blocks, including `sendfile(2)`, which has no flag for
/// that.
pub(super) fn set_nonblocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_nonblocking(true)
}

/// The number of sent bytes that the peer's kernel has not acknowledged (`SIOCOUTQ`, tcp(7)). Zero
/// on a unix socket, where sent bytes are in the peer's receive queue at once.
pub(super) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut domain: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and length are live locals of the size that the option has.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut length,
        )
    })?;
    if domain == libc::AF_UNIX {
        return Ok(0);
    }
    let mut queued: libc::c_int = 0;
    // SAFETY: the request fills in a live local of its type (`SIOCOUTQ` is `TIOCOUTQ`).
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) })?;
    Ok(u64::try_from(queued).unwrap_or(0))
}

/// The reason why nothing more can be sent, if the connection is broken or ended in both
/// directions.
pub(super) fn broken(socket: BorrowedFd<'_>) -> Option<Fault> {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one live structure; a timeout of zero does not block.
    let count = unsafe { libc::poll(&raw mut poll, 1, 0) };
    if count < 1 {
        return None;
    }
    Some(take_error(socket).err().map_or(Fault::Os(libc::EPIPE), |error| Fault::from_io(&error)))
}

/// The next `close(2)` sends a reset instead of an end (`SO_LINGER` with zero, socket(7)).
pub(super) fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO))
}

/// How [`open_beneath`] resolves the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Only from the kernel's caches: `EAGAIN` if it would block.
    CachedOnly,
    /// It may block on the disk.
    Full,
}

/// Flags to open a regular file for reading. `O_NONBLOCK`: the open does not block if the file is
/// of another type by now.
pub(super) const OPEN_FLAGS: i32 = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;

/// Flags to look a path up: the file is not opened, and a final automount point is not mounted.
pub(super) const LOOK_FLAGS: i32 = libc::O_PATH | libc::O_CLOEXEC;

/// Flags to open a folder for listing. Anything else fails with `ENOTDIR` and is not opened.
pub(super) const FOLDER_FLAGS: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;

/// The `resolve` flags of `openat2(2)`: no symbolic link and no `..` leads outside of the root.
pub(super) const fn open_resolve(symlinks: SymlinkPolicy) -> u64 {
    let resolve_beneath = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    match symlinks {
        SymlinkPolicy::Follow => resolve_beneath,
        SymlinkPolicy::Refuse => resolve_beneath | libc::RESOLVE_NO_SYMLINKS,
    }
}

/// Opens a path beneath a folder with `openat2(2)` (Linux 5.6).
pub(super) fn open_beneath(root: &Root, path: &CStr, flags: i32, lookup: Lookup) -> io::Result<OwnedFd> {
    let cached = match lookup {
        Lookup::CachedOnly => libc::RESOLVE_CACHED,
        Lookup::Full => 0,
    };
    openat2(root.directory().as_raw_fd(), path, flags, open_resolve(root.symlinks()) | cached)
}

/// The file that a path, not beneath a root, leads to, not opened, and only from the kernel's
/// caches (`RESOLVE_CACHED`, Linux 5.12).
pub(super) fn look_cached(path: &CStr) -> io::Result<OwnedFd> {
    openat2(libc::AT_FDCWD, path, LOOK_FLAGS, libc::RESOLVE_CACHED)
}

fn openat2(folder: RawFd, path: &CStr, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = flags as u64;
    how.resolve = resolve;
    // SAFETY: path and how are live, and the size is the structure's.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat2, folder, path.as_ptr(), &raw const how, size_of::<libc::open_how>()) };
    let fd = check(fd as i32)?;
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `openat(2)` of one name. A symbolic link is not followed.
pub(super) fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is a live string.
    let fd = check(unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags) })?;
    // SAFETY: the descriptor is new and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The file type of a descriptor, as the `S_IFMT` bits of `fstat(2)`; also for `O_PATH`.
pub(super) fn file_type(file: BorrowedFd<'_>) -> io::Result<libc::mode_t> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is to writable memory of the right type.
    check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the structure.
    Ok(unsafe { stat.assume_init() }.st_mode & libc::S_IFMT)
}

/// The target of a symbolic link that was opened with `O_PATH` (`readlinkat(2)`).
pub(super) fn link_target(link: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the name is a static string, and pointer and length are those of a live exclusive slice.
    let length = check_len(unsafe {
        libc::readlinkat(link.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len())
    })?;
    if length == target.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    target.truncate(length);
    Ok(target)
}

/// `fstat(2)`. A direct call, since io_uring would pass `statx` to a kernel worker thread.
pub(super) fn file_info(file: BorrowedFd<'_>) -> io::Result<FileInfo> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the pointer is to writable memory of the right type.
    check(unsafe { libc::fstat(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the structure.
    Ok(info_of(&unsafe { stat.assume_init() }))
}

/// The attributes of an entry of a folder (`fstatat(2)`), without opening or mounting it. `None`: a
/// symbolic link.
pub(super) fn entry_info(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<FileInfo>> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    // SAFETY: the name is a live string, and the pointer is to writable memory of the right type.
    check(unsafe { libc::fstatat(folder.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), flags) })?;
    // SAFETY: the call succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_mode & libc::S_IFMT != libc::S_IFLNK).then(|| info_of(&stat)))
}

fn info_of(stat: &libc::stat) -> FileInfo {
    FileInfo {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec),
        kind: match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFDIR => FileKind::Directory,
            _ => FileKind::Special,
        },
        inode: stat.st_ino,
        device: stat.st_dev,
    }
}

/// A folder that is read name by name (`readdir(3)`). The standard library reads folders only by
/// path, and the path of a descriptor needs `/proc`.
#[derive(Debug)]
pub(super) struct FolderStream(std::ptr::NonNull<libc::DIR>);

impl FolderStream {
    /// Reads the folder of a descriptor that was opened for reading.
    pub(super) fn new(folder: OwnedFd) -> io::Result<Self> {
        // SAFETY: the descriptor is open; if the call succeeds, it belongs to the stream.
        let stream = std::ptr::NonNull::new(unsafe { libc::fdopendir(folder.as_raw_fd()) });
        let stream = stream.ok_or_else(io::Error::last_os_error)?;
        // The stream owns and closes the descriptor.
        let _ = folder.into_raw_fd();
        Ok(Self(stream))
    }

    /// The folder's descriptor.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream is open, and so is its descriptor for as long as the stream is borrowed.
        unsafe { BorrowedFd::borrow_raw(libc::dirfd(self.0.as_ptr())) }
    }

    /// The next name, including `.` and `..`, valid until the next call; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<&CStr>> {
        // SAFETY: errno belongs to this thread. The stream is open and has no other user.
        let entry = unsafe {
            *libc::__errno_location() = 0;
            libc::readdir64(self.0.as_ptr())
        };
        if entry.is_null() {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(0) { Ok(None) } else { Err(error) };
        }
        // SAFETY: the entry is valid until the next call, which the exclusive borrow prevents; its name
        // is a string. The name's address is computed without a reference to the whole entry, which
        // may be shorter than its type.
        Ok(Some(unsafe { CStr::from_ptr((&raw const (*entry).d_name).cast()) }))
    }
}

impl Drop for FolderStream {
    fn drop(&mut self) {
        // SAFETY: the stream is open, and not used after this.
        unsafe { libc::closedir(self.0.as_ptr()) };
    }
}

/// Closes a descriptor if the io_uring close operation did not. Some file systems flush on close,
/// which takes a kernel worker thread; if none can be started, the operation ends with `ECANCELED`.
/// The caller then blocks on the flush, so that the descriptor does not leak.
pub(super) fn close_if_left(descriptor: RawFd, result: i32) {
    if result == -libc::ECANCELED {
        // SAFETY: the operation owned the descriptor, and has ended without using it.
        drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
    }
}

/// The descriptor that an io_uring operation returned, or its error.
pub(super) fn adopt_result(result: i32) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    // SAFETY: the operation created the descriptor, and its completion is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// Clears `O_NONBLOCK`: calls on the socket may block.
pub(super) fn set_blocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_nonblocking(false)
}

/// Converts a result that is −1 on error, with the reason in `errno`.
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
