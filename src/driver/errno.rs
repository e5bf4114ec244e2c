//! Classification of kernel errors: of one connection, temporary, or permanent.
//!
//! One table, in the words of the man pages. The drivers act on the [`Kind`] and have no lists of
//! their own. An error of one connection is skipped. After a temporary error the call is tried
//! again, and the error is never cached. A permanent error ends the operation.

use self::Call::{Accept, File};
use self::Kind::{Connection, Final, Moment};

/// The scope of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An error of the one connection to be accepted. The next one may succeed.
    Connection,
    /// Temporary: the same call may succeed later. It is tried again, after a pause, and the error
    /// is not cached.
    Moment,
    /// Permanent, an error of the descriptor or the path itself: the same call fails again.
    Final,
}

/// The call that failed: one error number means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// accept(2), and epoll_ctl(2) on the accepted socket.
    Accept,
    /// open(2), openat2(2), read(2), getdents(2), statx(2).
    File,
}

/// Every error with a known meaning. An error that is not listed is temporary: a listener must not
/// end, and a file must not be reported as missing, for an error that only some kernel, file system
/// or filter returns.
const TABLE: &[(Call, i32, Kind, &str)] = &[
    (Accept, libc::ECONNABORTED, Connection, "a connection has been aborted"),
    (Accept, libc::EINTR, Connection, "interrupted by a signal before a valid connection arrived"),
    (Accept, libc::EPROTO, Connection, "protocol error"),
    // "Already-pending network errors on the new socket … treat them like EAGAIN by retrying" (accept(2)).
    (Accept, libc::ENETDOWN, Connection, "network is down"),
    (Accept, libc::ENOPROTOOPT, Connection, "protocol not available"),
    (Accept, libc::EHOSTDOWN, Connection, "host is down"),
    (Accept, libc::ENONET, Connection, "machine is not on the network"),
    (Accept, libc::EHOSTUNREACH, Connection, "host is unreachable"),
    (Accept, libc::EOPNOTSUPP, Connection, "operation not supported on transport endpoint"),
    (Accept, libc::ENETUNREACH, Connection, "network is unreachable"),
    // "Network errors for the new socket and as defined for the protocol may be returned" (accept(2), tcp(7), ip(7)).
    (Accept, libc::ECONNRESET, Connection, "connection reset by peer"),
    (Accept, libc::ETIMEDOUT, Connection, "the other end didn't acknowledge retransmitted data after some time"),
    (Accept, libc::ESOCKTNOSUPPORT, Connection, "socket type not supported"),
    (Accept, libc::EPROTONOSUPPORT, Connection, "protocol not supported"),
    (Accept, libc::EPIPE, Connection, "the connection was shut down"),
    (Accept, libc::EMFILE, Moment, "the per-process limit on open file descriptors has been reached"),
    (Accept, libc::ENFILE, Moment, "the system-wide limit on open files has been reached"),
    (Accept, libc::ENOBUFS, Moment, "not enough free memory, often limited by the socket buffer limits"),
    (Accept, libc::ENOMEM, Moment, "not enough free memory"),
    (Accept, libc::ENOSR, Moment, "out of streams resources"),
    (Accept, libc::ENOSPC, Moment, "the limit of /proc/sys/fs/epoll/max_user_watches was met"),
    // The connection stays in the backlog, and accepting again at once would spin.
    (Accept, libc::EPERM, Moment, "firewall rules forbid connection"),
    (Accept, libc::EACCES, Moment, "a security module forbids it"),
    (Accept, libc::EBADF, Final, "not an open file descriptor"),
    (Accept, libc::EFAULT, Final, "the address is not writable"),
    (Accept, libc::EINVAL, Final, "socket is not listening for connections"),
    (Accept, libc::ENOTSOCK, Final, "the descriptor does not refer to a socket"),
    (Accept, libc::ENOSYS, Final, "the kernel has no such call"),
    (File, libc::ENOENT, Final, "a directory component does not exist or is a dangling symbolic link"),
    (File, libc::ENOTDIR, Final, "a component used as a directory is not a directory"),
    (File, libc::ENAMETOOLONG, Final, "pathname was too long"),
    (File, libc::EACCES, Final, "search or read permission is denied"),
    (File, libc::EPERM, Final, "the operation was prevented by a file seal or a security module"),
    (File, libc::ELOOP, Final, "too many symbolic links, or one where none is allowed"),
    (File, libc::EXDEV, Final, "an escape from the root was detected"),
    (File, libc::EISDIR, Final, "the descriptor refers to a directory"),
    (File, libc::EINVAL, Final, "the object is unsuitable for reading, or the name is invalid"),
    (File, libc::ENXIO, Final, "the file is a UNIX domain socket, or no corresponding device exists"),
    (File, libc::ENODEV, Final, "no corresponding device exists"),
    (File, libc::EOVERFLOW, Final, "the file is too large to be opened"),
    (File, libc::EFBIG, Final, "the file is too large to be opened"),
    (File, libc::ENOSYS, Final, "the file system has no such call"),
    (File, libc::EINTR, Moment, "interrupted by a signal handler, on a slow device"),
    (File, libc::EIO, Moment, "a low-level I/O error, or a communications failure of a network file system"),
    (File, libc::ESTALE, Moment, "stale file handle: the server has replaced the file"),
    (File, libc::ENOMEM, Moment, "insufficient kernel memory was available"),
    (File, libc::EMFILE, Moment, "the per-process limit on open file descriptors has been reached"),
    (File, libc::ENFILE, Moment, "the system-wide limit on open files has been reached"),
    (File, libc::EAGAIN, Moment, "the kernel could not ensure that .. did not escape, because of a rename"),
    (File, libc::EBUSY, Moment, "the device is in use"),
    (File, libc::ETXTBSY, Moment, "the file is in use as a swap file, or being read by the kernel"),
    (File, libc::ECANCELED, Moment, "the kernel could start no thread for it"),
];

/// Failed connections in a row after which accepting pauses: an error that is classified as one
/// connection's, and recurs with every accept, must not keep the loop busy.
pub(super) const FAILURES_MAX: u32 = 64;

/// The kind of an error of accept(2).
pub(super) fn of_accept(errno: i32) -> Kind {
    kind_of(Accept, errno)
}

/// The kind of an error of opening, reading or listing a file; never [`Kind::Connection`].
pub(super) fn of_file(errno: i32) -> Kind {
    kind_of(File, errno)
}

fn kind_of(call: Call, errno: i32) -> Kind {
    TABLE.iter().find(|row| (row.0, row.1) == (call, errno)).map_or(Moment, |row| row.2)
}

/// Whether a failed access to a file is worth repeating on a thread that may block: the error is
/// temporary, and not a limit on descriptors, which the second try would also hit.
pub(super) fn is_worth_another_try(errno: i32) -> bool {
    of_file(errno) == Moment && !matches!(errno, libc::EMFILE | libc::ENFILE)
}

/// Whether `sendfile(2)`, or another call that only saves a copy, is not available here: a filter
/// denies it, or the file system does not support it. Reading and sending may still work.
pub(super) const fn is_unsupported(errno: i32) -> bool {
    matches!(errno, libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_one_row_a_call() {
        for (index, row) in TABLE.iter().enumerate() {
            assert!(!row.3.is_empty());
            assert!(TABLE[..index].iter().all(|other| (other.0, other.1) != (row.0, row.1)), "twice: {row:?}");
            assert!(row.0 == Accept || row.2 != Connection, "{row:?}");
        }
    }

    #[test]
    fn only_what_is_wrong_with_the_listener_itself_ends_it() {
        let last = 133;
        let ends: Vec<i32> = (1..=last).filter(|errno| of_accept(*errno) == Final).collect();
        let mut expected = [libc::EBADF, libc::EFAULT, libc::EINVAL, libc::ENOTSOCK, libc::ENOSYS];
        expected.sort_unstable();
        assert_eq!(ends, expected);
    }

    #[test]
    fn errors_of_one_connection_are_those_that_the_man_page_says_to_retry() {
        for errno in [
            libc::ENETDOWN,
            libc::EPROTO,
            libc::ENOPROTOOPT,
            libc::EHOSTDOWN,
            libc::ENONET,
            libc::EHOSTUNREACH,
            libc::EOPNOTSUPP,
            libc::ENETUNREACH,
            libc::ECONNABORTED,
            libc::ECONNRESET,
            libc::ETIMEDOUT,
            libc::EINTR,
        ] {
            assert_eq!(of_accept(errno), Connection, "{errno}");
        }
    }

    #[test]
    fn what_a_disk_or_a_limit_says_of_a_file_is_of_the_moment() {
        for errno in
            [libc::EIO, libc::EINTR, libc::ENOMEM, libc::ESTALE, libc::EMFILE, libc::ECANCELED, libc::EREMOTEIO]
        {
            assert_eq!(of_file(errno), Moment, "{errno}");
        }
        for errno in [libc::ENOENT, libc::EACCES, libc::EXDEV, libc::ELOOP] {
            assert_eq!(of_file(errno), Final, "{errno}");
        }
    }
}
