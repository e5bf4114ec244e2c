//! Safe wrappers for the system calls that both kernel drivers use.
//!
//! Each function makes one call and returns its error. There are no decisions and no retries. The
//! calls of a connection's life and of sending cached files go through libc; the rest through
//! rustix, which needs no `unsafe` here (docs/dependencies.md).

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Type};

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
    Ok(rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice)?)
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
    Ok(rustix::io::pread(file, memory, offset)?)
}

/// `pwrite(2)`; blocks on the disk.
pub(super) fn write_at(file: BorrowedFd<'_>, bytes: &[u8], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwrite(file, bytes, offset)?)
}

/// Flushes the bytes of a file, or the names of a folder, to the disk (`fsync(2)`).
pub(super) fn sync(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

/// Creates a new file for writing (`O_EXCL`), with permissions 0666 less the umask.
pub(super) fn create_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    const PERMISSIONS: Mode = Mode::from_bits_retain(0o666);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, PERMISSIONS)?)
}

/// Renames within a folder (`renameat2(2)`). Without `replaces`, an existing name is `EEXIST`.
pub(super) fn rename_at(folder: BorrowedFd<'_>, from: &CStr, to: &CStr, replaces: bool) -> io::Result<()> {
    let flags = if replaces { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    Ok(rustix::fs::renameat_with(folder, from, folder, to, flags)?)
}

/// Adds a second name to a file in the same folder (`linkat(2)`).
pub(super) fn link_at(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> io::Result<()> {
    Ok(rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?)
}

/// Removes the name of a file from a folder (`unlinkat(2)`).
pub(super) fn remove_at(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
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
    if socket2::SockRef::from(&socket).domain()? == Domain::UNIX {
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
    let mut poll = [PollFd::new(&socket, PollFlags::empty())];
    let without_waiting = Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut poll, Some(&without_waiting)) {
        Ok(0) | Err(_) => return None,
        Ok(_) => {}
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
pub(super) const OPEN_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Flags to look a path up: the file is not opened, and a final automount point is not mounted.
pub(super) const LOOK_FLAGS: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Flags to open a folder for listing. Anything else fails with `ENOTDIR` and is not opened.
pub(super) const FOLDER_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The `resolve` flags of `openat2(2)`: no symbolic link and no `..` leads outside of the root.
pub(super) const fn open_resolve(symlinks: SymlinkPolicy) -> ResolveFlags {
    let resolve_beneath = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
    match symlinks {
        SymlinkPolicy::Follow => resolve_beneath,
        SymlinkPolicy::Refuse => resolve_beneath.union(ResolveFlags::NO_SYMLINKS),
    }
}

/// Opens a path beneath a folder with `openat2(2)` (Linux 5.6).
pub(super) fn open_beneath(root: &Root, path: &CStr, flags: OFlags, lookup: Lookup) -> io::Result<OwnedFd> {
    let cached = match lookup {
        Lookup::CachedOnly => ResolveFlags::CACHED,
        Lookup::Full => ResolveFlags::empty(),
    };
    let resolve = open_resolve(root.symlinks()) | cached;
    Ok(rustix::fs::openat2(root.directory(), path, flags, Mode::empty(), resolve)?)
}

/// The file that a path, not beneath a root, leads to, not opened, and only from the kernel's
/// caches (`RESOLVE_CACHED`, Linux 5.12).
pub(super) fn look_cached(path: &CStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat2(CWD, path, LOOK_FLAGS, Mode::empty(), ResolveFlags::CACHED)?)
}

/// `openat(2)` of one name. A symbolic link is not followed.
pub(super) fn open_at(directory: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// The file type of a descriptor (`fstat(2)`); also for `O_PATH`.
pub(super) fn file_type(file: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// The target of a symbolic link that was opened with `O_PATH` (`readlinkat(2)`).
pub(super) fn link_target(link: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut target = vec![0_u8; libc::PATH_MAX as usize];
    let length = rustix::fs::readlinkat_raw(link, c"", target.as_mut_slice())?;
    if length == target.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    target.truncate(length);
    Ok(target)
}

/// `fstat(2)`. A direct call, since io_uring would pass `statx` to a kernel worker thread.
pub(super) fn file_info(file: BorrowedFd<'_>) -> io::Result<FileInfo> {
    Ok(info_of(&rustix::fs::fstat(file)?))
}

/// The attributes of an entry of a folder (`fstatat(2)`), without opening or mounting it. `None`: a
/// symbolic link.
pub(super) fn entry_info(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<FileInfo>> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?;
    Ok((FileType::from_raw_mode(stat.st_mode) != FileType::Symlink).then(|| info_of(&stat)))
}

fn info_of(stat: &Stat) -> FileInfo {
    FileInfo {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec as i64),
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::Regular,
            FileType::Directory => FileKind::Directory,
            _ => FileKind::Special,
        },
        inode: stat.st_ino,
        device: stat.st_dev,
    }
}

/// Calls `each` with every name in a folder, including `.` and `..` (`getdents64(2)`). The standard
/// library reads folders only by path, and the path of a descriptor needs `/proc`.
pub(super) fn for_each_name(folder: BorrowedFd<'_>, mut each: impl FnMut(&CStr)) -> io::Result<()> {
    const BYTES_PER_CALL: usize = 32 << 10;
    let mut buffer = Vec::with_capacity(BYTES_PER_CALL);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => each(entry.file_name()),
            // The folder was removed meanwhile, and is empty.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
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
