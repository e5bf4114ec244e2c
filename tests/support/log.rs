//! The log of the program under test, read line by line on a thread of its own.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::patience;

/// One line of the log.
#[derive(Clone, Debug)]
pub enum Record {
    /// What the program logged.
    Json(Value),
    /// Anything else on standard error: a banner, a panic, a wrapper's words.
    Text(String),
}

impl Record {
    /// The message, or the empty string.
    pub fn message(&self) -> &str {
        self.text("message").unwrap_or_default()
    }

    /// The level, or the empty string.
    pub fn level(&self) -> &str {
        match self {
            Self::Json(value) => value["level"].as_str().unwrap_or_default(),
            Self::Text(_) => "",
        }
    }

    /// A field that is a string.
    pub fn text(&self, field: &str) -> Option<&str> {
        match self {
            Self::Json(value) => value["fields"][field].as_str(),
            Self::Text(_) => None,
        }
    }

    /// A field that is a number.
    pub fn number(&self, field: &str) -> Option<u64> {
        match self {
            Self::Json(value) => value["fields"][field].as_u64(),
            Self::Text(_) => None,
        }
    }

    /// Whether it says that the program, not a peer, did something wrong.
    fn is_alarm(&self) -> bool {
        match self {
            Self::Json(_) => self.level() == "ERROR",
            Self::Text(line) => line.contains("panicked at"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(value) => value.fmt(f),
            Self::Text(line) => f.write_str(line),
        }
    }
}

/// A log that grows is looked at as often as this at least.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Every line so far; the reading goes on until the program closes its standard error.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    records: Vec<Record>,
    ended: bool,
}

impl Log {
    /// Follows a program's standard error.
    pub fn follow(stderr: impl Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Some(Ok(line)) = lines.next() {
                let text = String::from_utf8_lossy(&line).into_owned();
                let record = match serde_json::from_str(&text) {
                    Ok(value @ Value::Object(_)) => Record::Json(value),
                    Ok(_) | Err(_) => Record::Text(text),
                };
                writer.lock().records.push(record);
                writer.0.grown.notify_all();
            }
            writer.lock().ended = true;
            writer.0.grown.notify_all();
        });
        log
    }

    /// Waits for the first record, old or new, of which `matches` is true.
    #[track_caller]
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Record) -> bool) -> Record {
        self.wait_until(what, |records| records.iter().find(|record| matches(record)).cloned())
    }

    /// Waits until the records so far hold what is looked for.
    #[track_caller]
    pub fn wait_until<T>(&self, what: &str, find: impl Fn(&[Record]) -> Option<T>) -> T {
        self.wait_until_or_end(what, find)
            .unwrap_or_else(|| panic!("not in the log, and the program ended: {what}\n{self}"))
    }

    /// The same; `None` if the log ends without it.
    #[track_caller]
    pub fn wait_until_or_end<T>(&self, what: &str, find: impl Fn(&[Record]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience();
        let mut lines = self.lock();
        loop {
            let found = find(&lines.records);
            if found.is_some() || lines.ended {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!("not in the log after {:?}: {what}\n{self}", patience());
            }
            // While all records are looked at, none can be added, and a program whose log is not read stops. So the more there
            // are, the more must have come before they are looked at again, or the longer it must have been.
            let (enough, look_at) = (lines.records.len() * 17 / 16 + 1, Instant::now() + LOOK_INTERVAL.min(left));
            while lines.records.len() < enough && !lines.ended && Instant::now() < look_at {
                let left = look_at.saturating_duration_since(Instant::now());
                lines = self.0.grown.wait_timeout(lines, left).unwrap_or_else(|poison| poison.into_inner()).0;
            }
        }
    }

    /// Waits for the end of the log.
    #[track_caller]
    pub fn wait_for_end(&self) {
        let deadline = Instant::now() + patience();
        let mut lines = self.lock();
        while !lines.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "standard error is still open");
            lines = self.0.grown.wait_timeout(lines, left).unwrap_or_else(|poison| poison.into_inner()).0;
        }
    }

    /// Fails if the program reported an error of its own, or panicked.
    #[track_caller]
    pub fn assert_no_alarm(&self) {
        let alarm = self.lock().records.iter().find(|record| record.is_alarm()).cloned();
        if let Some(alarm) = alarm {
            panic!("the program reports a fault of its own: {alarm}\n{self}");
        }
    }

    /// Every record so far.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render(&self.lock().records))
    }
}

/// The last lines of the log, for a failure's message.
fn render(records: &[Record]) -> String {
    let skipped = records.len().saturating_sub(LINES_SHOWN_MAX);
    let mut text = format!("--- the program's log ({skipped} older lines left out) ---\n");
    for record in &records[skipped..] {
        text.push_str(&format!("{record}\n"));
    }
    text
}

const LINES_SHOWN_MAX: usize = 60;
