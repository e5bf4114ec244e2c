//! The wish that the thread ends, seen by whatever it waits in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the thread waits for anything without looking whether it has to end.
pub(super) const GLANCE: Duration = Duration::from_millis(50);

/// Set once, by the thread that stops the server.
#[derive(Debug, Default)]
pub(super) struct StopFlag(AtomicBool);

/// The thread has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server stops")]
pub(super) struct Stopped;

impl StopFlag {
    pub(super) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn check(&self) -> Result<(), Stopped> {
        if self.0.load(Ordering::Acquire) { Err(Stopped) } else { Ok(()) }
    }

    /// Waits so long, or until the thread has to end.
    pub(super) fn sleep(&self, time: Duration) -> Result<(), Stopped> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(GLANCE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_wait() {
        let stop = StopFlag::default();
        assert_eq!(stop.sleep(Duration::from_millis(1)), Ok(()));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop.sleep(Duration::from_secs(3600)));
            stop.stop();
            assert_eq!(waiting.join().unwrap(), Err(Stopped));
        });
        assert_eq!(stop.sleep(Duration::ZERO), Err(Stopped));
    }
}
