//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.
//! SIGUSR1 asks for log files to be opened anew.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::Waker;
use super::sys;

/// What the signal handler may touch: plain atomics.
static WAKER_DESCRIPTOR: AtomicI32 = AtomicI32::new(NONE);
static RECEIVED: AtomicI32 = AtomicI32::new(NONE);
static REOPEN_REQUESTS: AtomicU32 = AtomicU32::new(0);
const NONE: i32 = -1;

const SIGNALS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1];

/// How often SIGUSR1 has come.
pub fn reopen_requests() -> u32 {
    REOPEN_REQUESTS.load(Ordering::Relaxed)
}

/// The process's handling of these signals, for as long as this lives. One at a time.
#[derive(Debug)]
pub struct StopSignals {
    previous: [libc::sigaction; SIGNALS.len()],
    /// Kept open while the handler may write to it.
    _waker: Waker,
}

impl StopSignals {
    /// Handles the signals from now on; the first one uses `waker`.
    ///
    /// # Errors
    /// What `sigaction(2)` says.
    pub fn install(waker: Waker) -> io::Result<Self> {
        RECEIVED.store(NONE, Ordering::Relaxed);
        WAKER_DESCRIPTOR.store(waker.descriptor().as_raw_fd(), Ordering::Relaxed);
        // SAFETY: all zeroes is a valid `sigaction`: default action, empty mask, no flags.
        let mut previous: [libc::sigaction; SIGNALS.len()] = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
        action.sa_flags = libc::SA_RESTART;
        for (signal, previous) in SIGNALS.iter().zip(&mut previous) {
            // SAFETY: both structures are live; the handler does only what signal-safety(7) allows.
            sys::check(unsafe { libc::sigaction(*signal, &raw const action, previous) })?;
        }
        Ok(Self { previous, _waker: waker })
    }

    /// The signal that came, if one did.
    pub fn received(&self) -> Option<i32> {
        Some(RECEIVED.load(Ordering::Relaxed)).filter(|signal| *signal != NONE)
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        for (signal, previous) in SIGNALS.iter().zip(&self.previous) {
            // SAFETY: the structure is live, and was filled by the kernel.
            unsafe { libc::sigaction(*signal, previous, std::ptr::null_mut()) };
        }
        WAKER_DESCRIPTOR.store(NONE, Ordering::Relaxed);
    }
}

extern "C" fn on_signal(signal: i32) {
    if signal == libc::SIGUSR1 {
        REOPEN_REQUESTS.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if RECEIVED.swap(signal, Ordering::Relaxed) != NONE {
        // SAFETY: signal-safety(7) allows `_exit`; nobody is waited for, as was asked twice.
        unsafe { libc::_exit(128 + signal) };
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
