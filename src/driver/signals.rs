//! Signals of the server.
//!
//! The first SIGTERM or SIGINT requests an orderly stop, the second ends the process at once.
//! SIGUSR1 requests that log files be reopened, SIGHUP that the configuration be reloaded, and
//! SIGUSR2 that a new process of the program take over.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use super::Waker;
use super::sys;

// The state that the signal handler accesses: only atomics are safe there (signal-safety(7)).
static WAKER_DESCRIPTOR: AtomicI32 = AtomicI32::new(NONE);
static RECEIVED: AtomicI32 = AtomicI32::new(NONE);
static REOPEN_REQUESTS: AtomicU32 = AtomicU32::new(0);
static RELOAD_REQUESTS: AtomicU32 = AtomicU32::new(0);
static UPGRADE_REQUESTS: AtomicU32 = AtomicU32::new(0);
static IS_KEPT: AtomicBool = AtomicBool::new(false);
const NONE: i32 = -1;

const SIGNALS: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP];

/// The number of SIGUSR1 received.
pub fn reopen_requests() -> u32 {
    REOPEN_REQUESTS.load(Ordering::Relaxed)
}

/// Requests that log files be reopened, as SIGUSR1 does.
pub fn request_reopening() {
    REOPEN_REQUESTS.fetch_add(1, Ordering::Relaxed);
}

/// Requests that a process reload its configuration (SIGHUP).
///
/// # Errors
/// As `kill(2)`: there is no such process, or it belongs to another user.
pub fn ask_to_reload(process: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::kill(process, libc::SIGHUP) }).map(drop)
}

/// Requests that a process end in order (SIGTERM).
///
/// # Errors
/// As `kill(2)`: there is no such process, or it belongs to another user.
pub fn ask_to_stop(process: u32) -> io::Result<()> {
    let process = i32::try_from(process).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::kill(process, libc::SIGTERM) }).map(drop)
}

/// Handles SIGHUP as a request to reload from now on. It must be called before another process can
/// know this process's id, since the default action of the signal ends the process.
///
/// # Errors
/// As `sigaction(2)`.
pub fn take_hangup() -> io::Result<()> {
    let action = ours();
    // SAFETY: the structure is live.
    sys::check(unsafe { libc::sigaction(libc::SIGHUP, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Ignores SIGXFSZ from now on: a write beyond the limit of file size (`RLIMIT_FSIZE`) fails with
/// `EFBIG` instead of ending the process. A log file at that limit must not end the server.
pub fn ignore_file_size_limit() {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_IGN;
    // SAFETY: the structure is live; the call cannot fail for a signal that exists and may be ignored.
    unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut()) };
}

/// The requests since the last [`take_asked`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// SIGHUP was received.
    pub reload: bool,
    /// SIGUSR2 was received.
    pub upgrade: bool,
}

/// Handles the signals until it is dropped. At most one may exist at a time.
#[derive(Debug)]
pub struct StopSignals {
    previous: [libc::sigaction; SIGNALS.len()],
    /// Kept open while the handler may write to it.
    _waker: Waker,
}

impl StopSignals {
    /// Handles the signals from now on, except SIGHUP (see [`take_hangup`]). Each signal but
    /// SIGUSR1 uses `waker`.
    ///
    /// # Errors
    /// As `sigaction(2)`.
    pub fn install(waker: Waker) -> io::Result<Self> {
        RECEIVED.store(NONE, Ordering::Relaxed);
        WAKER_DESCRIPTOR.store(waker.descriptor().as_raw_fd(), Ordering::Relaxed);
        // SAFETY: all zeroes is a valid `sigaction`: default action, empty mask, no flags.
        let mut previous: [libc::sigaction; SIGNALS.len()] = unsafe { std::mem::zeroed() };
        for (signal, previous) in SIGNALS.iter().zip(&mut previous) {
            // For SIGHUP the action is only read, not set: without `take_hangup` it means that the
            // terminal is gone.
            let action = (*signal != libc::SIGHUP).then(ours);
            let action = action.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the structures are live, or there is none.
            sys::check(unsafe { libc::sigaction(*signal, action, previous) })?;
        }
        Ok(Self { previous, _waker: waker })
    }

    /// The stop signal that was received, if any.
    pub fn received(&self) -> Option<i32> {
        Some(RECEIVED.load(Ordering::Relaxed)).filter(|signal| *signal != NONE)
    }
}

/// Takes the requests since the last call.
pub fn take_asked() -> Asked {
    let is_asked = |requests: &AtomicU32| requests.swap(0, Ordering::Relaxed) > 0;
    Asked { reload: is_asked(&RELOAD_REQUESTS), upgrade: is_asked(&UPGRADE_REQUESTS) }
}

/// Keeps the signals handled after [`StopSignals`] is dropped, for a program that ends then. A
/// signal that arrives at the last moment must not turn the exit status into that of a killed
/// process.
pub fn keep_to_the_end() {
    IS_KEPT.store(true, Ordering::Relaxed);
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        WAKER_DESCRIPTOR.store(NONE, Ordering::Relaxed);
        if IS_KEPT.load(Ordering::Relaxed) {
            return;
        }
        for (signal, previous) in SIGNALS.iter().zip(&self.previous) {
            // SAFETY: the structure is live, and was filled by the kernel.
            unsafe { libc::sigaction(*signal, previous, std::ptr::null_mut()) };
        }
    }
}

/// The handler does only what signal-safety(7) allows.
fn ours() -> libc::sigaction {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
    action.sa_flags = libc::SA_RESTART;
    action
}

extern "C" fn on_signal(signal: i32) {
    match signal {
        libc::SIGUSR1 => {
            REOPEN_REQUESTS.fetch_add(1, Ordering::Relaxed);
            return;
        }
        libc::SIGHUP => {
            RELOAD_REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
        libc::SIGUSR2 => {
            UPGRADE_REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            if RECEIVED.swap(signal, Ordering::Relaxed) != NONE {
                // SAFETY: signal-safety(7) allows `_exit`. The second stop signal ends the process
                // without waiting for connections.
                unsafe { libc::_exit(128 + signal) };
            }
        }
    }
    let one = 1_u64.to_ne_bytes();
    // SAFETY: signal-safety(7) allows `write`; the bytes are live. A failure cannot be reported here.
    // The interrupted code may be about to read `errno`, which belongs to this thread, so it is
    // restored.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKER_DESCRIPTOR.load(Ordering::Relaxed), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}
