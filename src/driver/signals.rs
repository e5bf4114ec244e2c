//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.
//! SIGUSR1 asks for log files to be opened anew, SIGHUP for the configuration to be read anew, SIGUSR2 for a new
//! program to take over.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use super::Waker;
use super::sys;

/// What the signal handler may touch: plain atomics.
static WAKER_DESCRIPTOR: AtomicI32 = AtomicI32::new(NONE);
static RECEIVED: AtomicI32 = AtomicI32::new(NONE);
static REOPEN_REQUESTS: AtomicU32 = AtomicU32::new(0);
static RELOAD_REQUESTS: AtomicU32 = AtomicU32::new(0);
static UPGRADE_REQUESTS: AtomicU32 = AtomicU32::new(0);
static IS_KEPT: AtomicBool = AtomicBool::new(false);
const NONE: i32 = -1;

const SIGNALS: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP];

/// How often SIGUSR1 has come.
pub fn reopen_requests() -> u32 {
    REOPEN_REQUESTS.load(Ordering::Relaxed)
}

/// Asks a process to read its configuration anew.
///
/// # Errors
/// What `kill(2)` says: no such process, or one of somebody else.
pub fn ask_to_reload(process: i32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    sys::check(unsafe { libc::kill(process, libc::SIGHUP) }).map(drop)
}

/// Has SIGHUP ask for the configuration to be read anew, from now on: to be called before anybody can know of this process,
/// since what the signal does otherwise is to end it.
///
/// # Errors
/// What `sigaction(2)` says.
pub fn take_hangup() -> io::Result<()> {
    let action = ours();
    // SAFETY: the structure is live.
    sys::check(unsafe { libc::sigaction(libc::SIGHUP, &raw const action, std::ptr::null_mut()) }).map(drop)
}

/// Has a write beyond the limit of file size (`RLIMIT_FSIZE`) fail with `EFBIG` from now on, instead of ending the process:
/// a log that has grown too large must not end the server.
pub fn ignore_file_size_limit() {
    // SAFETY: all zeroes is a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_IGN;
    // SAFETY: the structure is live; the call cannot fail for a signal that there is and that may be ignored.
    unsafe { libc::sigaction(libc::SIGXFSZ, &raw const action, std::ptr::null_mut()) };
}

/// What has been asked for since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// SIGHUP has come.
    pub reload: bool,
    /// SIGUSR2 has come.
    pub upgrade: bool,
}

/// The process's handling of these signals, for as long as this lives. One at a time.
#[derive(Debug)]
pub struct StopSignals {
    previous: [libc::sigaction; SIGNALS.len()],
    /// Kept open while the handler may write to it.
    _waker: Waker,
}

impl StopSignals {
    /// Handles the signals from now on, SIGHUP excepted; those that ask for something use `waker`.
    ///
    /// # Errors
    /// What `sigaction(2)` says.
    pub fn install(waker: Waker) -> io::Result<Self> {
        RECEIVED.store(NONE, Ordering::Relaxed);
        WAKER_DESCRIPTOR.store(waker.descriptor().as_raw_fd(), Ordering::Relaxed);
        // SAFETY: all zeroes is a valid `sigaction`: default action, empty mask, no flags.
        let mut previous: [libc::sigaction; SIGNALS.len()] = unsafe { std::mem::zeroed() };
        for (signal, previous) in SIGNALS.iter().zip(&mut previous) {
            // SIGHUP is only asked for: it keeps its meaning, that the terminal is gone.
            let action = (*signal != libc::SIGHUP).then(ours);
            let action = action.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the structures are live, or there is none.
            sys::check(unsafe { libc::sigaction(*signal, action, previous) })?;
        }
        Ok(Self { previous, _waker: waker })
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<i32> {
        Some(RECEIVED.load(Ordering::Relaxed)).filter(|signal| *signal != NONE)
    }
}

/// What has been asked for since this was called last.
pub fn take_asked() -> Asked {
    let is_asked = |requests: &AtomicU32| requests.swap(0, Ordering::Relaxed) > 0;
    Asked { reload: is_asked(&RELOAD_REQUESTS), upgrade: is_asked(&UPGRADE_REQUESTS) }
}

/// Has the signals stay handled when [`StopSignals`] is gone, for a program that ends then: one that comes at the last moment
/// should not make an orderly end look like a death by a signal.
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
                // SAFETY: signal-safety(7) allows `_exit`; nobody is waited for, as was asked twice.
                unsafe { libc::_exit(128 + signal) };
            }
        }
    }
    let one = 1_u64.to_ne_bytes();
    // SAFETY: signal-safety(7) allows `write`; the bytes are live. A failure has nobody to be told to. The
    // interrupted code may be about to read `errno`, which is this thread's own, so it stays as it was.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKER_DESCRIPTOR.load(Ordering::Relaxed), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}
