//! Rate limit for repeated warnings: after the first 20 in a second, further ones are only counted.
//!
//! Otherwise one upstream that is down would fill the disk with equal lines. The number of suppressed
//! warnings is logged with the next record of any kind after that second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::IS_RATE_LIMITED;
use super::records::RecordWriter;

/// Maximum records of the same warning per interval. 20.
const REPEATS_MAX: u32 = 20;

/// The interval. 1 s.
const INTERVAL: Duration = Duration::from_secs(1);

/// A layer that suppresses warnings above the rate.
#[derive(Debug)]
pub(super) struct LogRateLimit {
    log: RecordWriter,
    began: Instant,
    repeats: Mutex<Repeats<Identifier>>,
    /// A suppressed warning has not been reported yet. While `false`, records below `warn` skip the
    /// lock.
    is_behind: AtomicBool,
}

impl LogRateLimit {
    pub(super) fn new(log: RecordWriter) -> Self {
        let (began, repeats) = (Instant::now(), Mutex::default());
        Self { log, began, repeats, is_behind: AtomicBool::new(false) }
    }

    fn report(&self, leftovers: Vec<Leftover>) {
        for Leftover { message, count } in leftovers {
            let text = format!("repeated, and left out: {message} count={count}");
            let fields = json!({ "message": "repeated, and left out", "warning": message, "count": count });
            // Does not block: the writer queues the line or drops it.
            self.log.writer.line(&self.log.form.warning(&text, &fields, module_path!()));
        }
    }
}

impl<S: Subscriber> Layer<S> for LogRateLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !IS_RATE_LIMITED.load(Ordering::Relaxed) {
            return true;
        }
        let is_warning = *metadata.level() <= Level::WARN;
        if !is_warning && !self.is_behind.load(Ordering::Relaxed) {
            return true;
        }
        let now = self.began.elapsed();
        let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        let leftovers = repeats.take_over(now);
        let is_allowed = !is_warning || repeats.is_allowed(metadata.callsite(), now, || message_of(event));
        self.is_behind.store(repeats.is_behind(), Ordering::Relaxed);
        drop(repeats);
        self.report(leftovers);
        is_allowed
    }
}

/// Counts of each warning in the current interval.
#[derive(Debug)]
struct Repeats<K>(HashMap<K, Count>);

#[derive(Debug)]
struct Count {
    /// Start of the interval.
    since: Duration,
    told: u32,
    left_out: u64,
    message: String,
}

/// Suppressed warnings of one interval.
#[derive(Debug, PartialEq, Eq)]
struct Leftover {
    message: String,
    count: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// Counts a warning. Returns whether it may be logged.
    fn is_allowed(&mut self, key: K, now: Duration, message: impl FnOnce() -> String) -> bool {
        let fresh = Count { since: now, told: 0, left_out: 0, message: String::new() };
        let count = self.0.entry(key).or_insert(fresh);
        if count.told < REPEATS_MAX {
            count.told += 1;
            return true;
        }
        if count.left_out == 0 {
            count.message = message();
        }
        count.left_out += 1;
        false
    }

    /// Removes the intervals that are over. Returns their suppressed warnings.
    fn take_over(&mut self, now: Duration) -> Vec<Leftover> {
        let is_over = |count: &Count| now.saturating_sub(count.since) >= INTERVAL;
        let over = self.0.extract_if(|_, count| is_over(count)).map(|(_, count)| count);
        let left_out = over.filter(|count| count.left_out > 0);
        left_out.map(|Count { message, left_out, .. }| Leftover { message, count: left_out }).collect()
    }

    fn is_behind(&self) -> bool {
        self.0.values().any(|count| count.left_out > 0)
    }
}

fn message_of(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_counted_and_the_count_is_told_once_the_second_is_over() {
        let mut repeats = Repeats::default();
        let at = Duration::from_millis;
        let mut told = 0;
        for number in 0..50 {
            assert_eq!(repeats.take_over(at(10 * number)), []);
            told += u32::from(repeats.is_allowed("down", at(10 * number), || "it is down".into()));
        }
        assert!(told == REPEATS_MAX && repeats.is_behind());
        assert!(repeats.is_allowed("other", at(500), String::new), "each by itself");
        assert_eq!(repeats.take_over(at(999)), []);
        assert_eq!(repeats.take_over(at(1000)), [Leftover { message: "it is down".into(), count: 30 }]);
        assert!(!repeats.is_behind() && repeats.is_allowed("down", at(1000), String::new));
    }

    #[test]
    fn what_seldom_comes_is_always_told_and_not_remembered() {
        let mut repeats = Repeats::default();
        for second in 0..100 {
            assert_eq!(repeats.take_over(Duration::from_secs(second)), []);
            assert!(repeats.is_allowed("down", Duration::from_secs(second), || panic!("it is logged")));
        }
        assert_eq!(repeats.0.len(), 1);
    }
}
