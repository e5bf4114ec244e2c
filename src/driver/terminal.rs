//! The keyboard of a terminal.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What has come of a wait for the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyboard {
    /// There is something to read.
    Ready,
    /// Nothing, or a signal, such as that of another size of the terminal.
    Silent,
    /// The terminal has hung up.
    Gone,
}

impl Keyboard {
    /// Waits for standard input, which is a terminal, for at most `time`.
    ///
    /// # Errors
    /// See poll(2).
    pub fn wait(time: Duration) -> io::Result<Self> {
        let stdin = io::stdin();
        let mut keyboard = [PollFd::new(&stdin, PollFlags::IN)];
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        match poll(&mut keyboard, Some(&time)) {
            Ok(0) | Err(Errno::INTR) => Ok(Self::Silent),
            Ok(_) if keyboard[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => Ok(Self::Gone),
            Ok(_) => Ok(Self::Ready),
            Err(error) => Err(error.into()),
        }
    }
}
