//! When the next request is to be sent.
//!
//! In a *closed loop* a request may be sent whenever a connection is free: the server sets the pace. In
//! an *open loop* the clock sets it: request `k` is due `k / rate` after the start, whether or not a
//! connection is free. What is due and has not been sent is a number, not a queue, so a server that
//! cannot follow costs no memory.

use std::time::Duration;

use crate::driver::Time;

/// The requests of one thread.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    /// Requests may be sent.
    is_running: bool,
    /// Nothing becomes due from here on.
    end: Option<Time>,
}

#[derive(Debug)]
enum Pace {
    Closed {
        /// Requests that may still be sent; `None`: any number.
        left: Option<u64>,
    },
    Open {
        start: Time,
        interval_nanos: f64,
        /// Requests whose time has come. Never more than `due_max`.
        due: u64,
        due_max: u64,
        /// Requests that were sent. Never more than `due`.
        sent: u64,
    },
}

impl Schedule {
    /// Requests at `rate` a second, or as many as there are connections free.
    pub fn new(rate: Option<f64>) -> Self {
        let pace = match rate {
            None => Pace::Closed { left: None },
            Some(rate) => {
                Pace::Open { start: Time::ZERO, interval_nanos: 1e9 / rate, due: 0, due_max: u64::MAX, sent: 0 }
            }
        };
        Self { pace, is_running: false, end: None }
    }

    /// The first request is due at `now`.
    pub const fn begin(&mut self, now: Time) {
        self.is_running = true;
        if let Pace::Open { start, .. } = &mut self.pace {
            *start = now;
        }
    }

    /// No more than these are sent from `now` on. What was due before is not one of them.
    pub fn limit(&mut self, requests: u64, now: Time) {
        match &mut self.pace {
            Pace::Closed { left } => *left = Some(requests),
            Pace::Open { start, interval_nanos, due_max, .. } => {
                let mut first = (now.since(*start).as_nanos() as f64 / *interval_nanos) as u64;
                // The quotient is rounded.
                while first > 0 && moment(*start, *interval_nanos, first - 1) >= now {
                    first -= 1;
                }
                while moment(*start, *interval_nanos, first) < now {
                    first += 1;
                }
                *due_max = first.saturating_add(requests);
            }
        }
    }

    /// Nothing becomes due at this time or later.
    pub const fn end_at(&mut self, end: Time) {
        self.end = Some(end);
    }

    /// Nothing becomes due any more. What is due is still sent.
    pub const fn stop(&mut self) {
        self.is_running = false;
    }

    /// Takes note of the requests that have become due, with the delay of each.
    pub fn advance(&mut self, now: Time, mut on_due: impl FnMut(Duration)) {
        let Pace::Open { start, interval_nanos, due, due_max, .. } = &mut self.pace else { return };
        while self.is_running && *due < *due_max {
            let at = moment(*start, *interval_nanos, *due);
            if at > now || self.end.is_some_and(|end| at >= end) {
                break;
            }
            on_due(now.since(at));
            *due += 1;
        }
    }

    /// The time at which the next request to send was due, if there is one. It counts as sent.
    pub fn take(&mut self, now: Time) -> Option<Time> {
        match &mut self.pace {
            Pace::Closed { left } => {
                if !self.is_running || *left == Some(0) {
                    return None;
                }
                if let Some(left) = left {
                    *left -= 1;
                }
                Some(now)
            }
            Pace::Open { start, interval_nanos, due, sent, .. } => {
                if sent == due {
                    return None;
                }
                *sent += 1;
                Some(moment(*start, *interval_nanos, *sent - 1))
            }
        }
    }

    /// Whether a request could be sent now.
    pub const fn has_any(&self) -> bool {
        match &self.pace {
            Pace::Closed { left } => self.is_running && !matches!(left, Some(0)),
            Pace::Open { due, sent, .. } => *sent < *due,
        }
    }

    /// Requests that are due and not sent.
    pub const fn unsent(&self) -> u64 {
        match &self.pace {
            Pace::Closed { .. } => 0,
            Pace::Open { due, sent, .. } => *due - *sent,
        }
    }

    /// When the next request becomes due.
    pub fn next_due(&self) -> Option<Time> {
        let Pace::Open { start, interval_nanos, due, due_max, .. } = &self.pace else { return None };
        (self.is_running && due < due_max).then(|| moment(*start, *interval_nanos, *due))
    }

    /// Whether every request has been sent that may be.
    pub const fn is_used_up(&self) -> bool {
        match &self.pace {
            Pace::Closed { left } => matches!(left, Some(0)),
            Pace::Open { sent, due_max, .. } => *sent >= *due_max,
        }
    }
}

/// When request `number` is due.
fn moment(start: Time, interval_nanos: f64, number: u64) -> Time {
    start + Duration::from_nanos((number as f64 * interval_nanos) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Time {
        Time::ZERO + Duration::from_micros(micros)
    }

    #[test]
    fn a_closed_loop_takes_a_request_whenever_it_runs() {
        let mut schedule = Schedule::new(None);
        schedule.limit(2, at(0));
        assert_eq!(schedule.take(at(1)), None);
        schedule.begin(at(1));
        assert_eq!(
            (schedule.take(at(2)), schedule.take(at(3)), schedule.take(at(4))),
            (Some(at(2)), Some(at(3)), None)
        );
        assert!(schedule.is_used_up());
    }

    #[test]
    fn an_open_loop_keeps_the_times_of_its_schedule_though_it_is_late() {
        let mut schedule = Schedule::new(Some(10_000.0));
        schedule.begin(at(1000));
        assert_eq!(schedule.next_due(), Some(at(1000)));
        let mut delays = Vec::new();
        schedule.advance(at(1250), |delay| delays.push(delay.as_micros()));
        assert_eq!(delays, [250, 150, 50]);
        assert_eq!((schedule.unsent(), schedule.next_due()), (3, Some(at(1300))));
        assert_eq!((schedule.take(at(2000)), schedule.take(at(2000))), (Some(at(1000)), Some(at(1100))));
        schedule.stop();
        schedule.advance(at(9000), |_| panic!("it has stopped"));
        // What was due is still sent.
        assert_eq!((schedule.take(at(9000)), schedule.take(at(9000))), (Some(at(1200)), None));
    }

    #[test]
    fn an_open_loop_ends_with_the_number_of_its_requests() {
        let mut schedule = Schedule::new(Some(1000.0));
        schedule.begin(at(0));
        schedule.limit(3, at(0));
        assert!(schedule.take(at(0)).is_none());
        schedule.advance(at(1_000_000), |_| {});
        assert_eq!((schedule.unsent(), schedule.next_due()), (3, None));
        assert_eq!((0..5).filter_map(|_| schedule.take(at(1_000_000))).count(), 3);
        assert!(schedule.is_used_up());
    }

    #[test]
    fn a_number_of_requests_does_not_include_what_was_due_before() {
        // One is due each millisecond: at 3 ms four of them, of which the last is at the limit's own time.
        for (micros, before) in [(3000, 3), (3001, 4), (2999, 3)] {
            let mut schedule = Schedule::new(Some(1000.0));
            schedule.begin(at(0));
            schedule.limit(2, at(micros));
            schedule.advance(at(1_000_000), |_| {});
            assert_eq!(schedule.unsent(), before + 2, "from {micros} µs on");
        }
    }

    #[test]
    fn times_do_not_drift() {
        let mut schedule = Schedule::new(Some(3.0));
        schedule.begin(at(0));
        let mut due = 0;
        for second in 0..1000 {
            schedule.advance(at(second * 1_000_000), |_| due += 1);
        }
        assert_eq!(due, 999 * 3 + 1);
    }
}
