//! For how long this thread was ready to run and had no processor.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::processor::parse_schedstat;
use crate::driver::Time;

/// Reads the kernel's account of this thread (`/proc/thread-self/schedstat`, proc(5)).
///
/// A reading costs a microsecond, so it is taken at most once in [`INTERVAL`], and what it says is about the time
/// since the one before.
#[derive(Debug)]
pub struct RunDelay {
    file: Option<File>,
    total: Duration,
    last: Time,
}

/// The time between two readings. What happens between them counts for the later one.
const INTERVAL: Duration = Duration::from_micros(200);

impl RunDelay {
    /// For the thread that makes it: it must be the one that reads it.
    pub const fn new() -> Self {
        Self { file: None, total: Duration::ZERO, last: Time::ZERO }
    }

    /// How long the thread waited for a processor since the last reading; zero if that is not long ago. `None`:
    /// the kernel does not tell.
    pub fn since_last(&mut self, now: Time) -> Option<Duration> {
        if self.file.is_none() {
            self.file = Some(File::open("/proc/thread-self/schedstat").ok()?);
            self.total = self.read()?;
        }
        if now.since(self.last) < INTERVAL {
            return Some(Duration::ZERO);
        }
        let total = self.read()?;
        let found = total.saturating_sub(self.total);
        self.total = total;
        self.last = now;
        Some(found)
    }

    fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.file.as_ref()?.read_at(&mut text, 0).ok()?;
        let (_, waited) = parse_schedstat(str::from_utf8(&text[..length]).ok()?)?;
        Some(waited)
    }
}
