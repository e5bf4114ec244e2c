//! Logging: levels, formats, and a writer that never blocks a worker.

pub mod access_log;
mod line_writer;
mod log_rate_limit;
pub mod metrics;
mod records;
mod syslog;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use self::line_writer::{Event, LineWriter, Output};
use self::log_rate_limit::LogRateLimit;
use self::records::{RecordForm, RecordWriter};
pub use self::syslog::{BadSyslog, SyslogConfig};
use self::syslog::{Lines, Syslog};

/// Time that the end of the program waits for a slow reader of the log. 1 s.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Lines of the log of the server lost so far.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Lines lost so far, by the logs that lost them: a fixed set of names, however many access logs there are.
fn lines_lost() -> [(&'static str, usize); 2] {
    [("server", LOST.load(Ordering::Relaxed)), ("access", access_log::lines_lost())]
}

/// The filter of the log, once it is started.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Whether repeated warnings are left out.
static IS_RATE_LIMITED: AtomicBool = AtomicBool::new(true);

/// Length of directives at most, in bytes.
const DIRECTIVES_BYTES_MAX: usize = 1024;

/// Log levels, by their names on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogLevel {
    /// Nothing
    Off,
    /// Bugs in xps
    Error,
    /// Failures of peers, upstreams or resources
    Warn,
    /// Events of the server, and connections without an access log
    Info,
    /// State transitions
    Debug,
    /// Every operation and outcome
    Trace,
}

/// Log formats, by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text, coloured on a terminal unless NO_COLOR is set
    Human,
    /// One JSON object per line
    Json,
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error. If that is the stream of the journal, lines have its form.
    #[default]
    Stderr,
    /// A syslog daemon.
    Syslog(SyslogConfig),
}

impl FromStr for LogTarget {
    type Err = BadSyslog;

    /// `-`: standard error.
    fn from_str(text: &str) -> Result<Self, BadSyslog> {
        if text == "-" { Ok(Self::Stderr) } else { text.parse().map(Self::Syslog) }
    }
}

/// Level, format and target of the log.
#[derive(Clone, Debug)]
pub struct LogSetup {
    level: &'static str,
    format: LogFormat,
    target: LogTarget,
}

impl LogSetup {
    /// For commands that serve. The default level is `info`.
    pub fn for_servers(level: Option<LogLevel>, format: LogFormat, target: LogTarget) -> Self {
        Self { level: level_name(level, "info"), format, target }
    }

    /// For commands that show their result to the user. The default level is `error`: only bugs.
    pub fn for_clients(level: Option<LogLevel>, format: LogFormat) -> Self {
        Self { level: level_name(level, "error"), format, target: LogTarget::Stderr }
    }
}

/// Starts the log. Dropping the guard flushes it.
///
/// `XPS_LOG` holds directives of `tracing` (`xps::tcp=trace,info`) and overrides the level.
/// `XPS_DEBUG=1` means level `debug`, as in eXpServer.
///
/// # Errors
/// See [`LogError`].
pub fn start(setup: LogSetup) -> Result<LogGuard, LogError> {
    let filter = match std::env::var("XPS_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(directives).map_err(|error| LogError::Directives(error.to_string()))?
        }
        Ok(_) | Err(_) => EnvFilter::new(setup.level),
    };
    let has_severity = matches!(setup.target, LogTarget::Syslog(_)) || is_journal();
    let form = RecordForm { format: setup.format, has_severity };
    let writer = match setup.target {
        LogTarget::Stderr => start_writer(io::stderr(), form),
        LogTarget::Syslog(config) => start_writer(Syslog::new(config, Lines::Server), form),
    }
    .map_err(LogError::Thread)?;
    limit_rate_for(&filter);
    let log = RecordWriter { writer: writer.clone(), form };
    let rate_limit = LogRateLimit::new(log.clone());
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter).with(rate_limit);
    let layer = tracing_subscriber::fmt::layer().with_writer(log);
    match (form.format, form.has_severity) {
        (LogFormat::Human, false) => {
            let is_colourful =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry.with(layer.with_ansi(is_colourful).with_target(false)).try_init()
        }
        (LogFormat::Human, true) => registry.with(layer.with_ansi(false).with_target(false).without_time()).try_init(),
        (LogFormat::Json, false) => registry.with(layer.json()).try_init(),
        (LogFormat::Json, true) => registry.with(layer.json().without_time()).try_init(),
    }
    .map_err(|error| LogError::Second(error.to_string()))?;
    // There is no other: starting a second log has failed.
    let _ = FILTER.set(handle);
    Ok(LogGuard(writer))
}

fn start_writer(output: impl Output, form: RecordForm) -> io::Result<LineWriter> {
    let report = Box::new(move |event: Event<'_>| describe_event(&event, form));
    // Without delay: a record is what was known before a crash.
    LineWriter::start("xps-log", output, Duration::ZERO, report, &LOST)
}

/// Whether standard error is the stream of the journal that `JOURNAL_STREAM` names (systemd.exec(5)). A
/// program that was started with another standard error has inherited the variable only.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let metadata = io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    metadata.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// The directives of the log. `None`: it is not started.
pub fn filter() -> Option<String> {
    FILTER.get()?.with_current(EnvFilter::to_string).ok()
}

/// Replaces the directives of the log: a level, or levels of targets as in `xps::tcp=trace,info`.
///
/// # Errors
/// They are invalid, or the log is not started. Nothing has changed.
pub fn set_filter(directives: &str) -> Result<(), LogError> {
    let bad = |reason: String| LogError::Filter { directives: directives.to_owned(), reason };
    if directives.len() > DIRECTIVES_BYTES_MAX {
        return Err(LogError::Filter { directives: "…".to_owned(), reason: "it is longer than 1 KiB".to_owned() });
    }
    // A word alone is a target, of which everything would be logged, and nothing else.
    let is_level = |text: &str| !text.is_empty() && text.parse::<LevelFilter>().is_ok();
    let unknown = directives.split(',').find(|directive| {
        let level = directive.rsplit_once('=').map_or(*directive, |(_, level)| level);
        !is_level(level.trim())
    });
    if let Some(unknown) = unknown {
        return Err(bad(format!("`{unknown}` has no level")));
    }
    let filter = EnvFilter::try_new(directives).map_err(|error| bad(error.to_string()))?;
    limit_rate_for(&filter);
    let handle = FILTER.get().ok_or_else(|| bad("there is no log".to_owned()))?;
    handle.reload(filter).map_err(|error| bad(error.to_string()))
}

/// No rate limit at `debug` and `trace`: these levels are for finding a problem.
fn limit_rate_for(filter: &EnvFilter) {
    let is_everything_wanted = filter.max_level_hint().is_some_and(|level| level > LevelFilter::INFO);
    IS_RATE_LIMITED.store(!is_everything_wanted, Ordering::Relaxed);
}

/// Flushes the log when it is dropped.
#[derive(Debug)]
pub struct LogGuard(LineWriter);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// A log line about lost lines of the log itself. Write failures are reported afterwards, once the
/// log can be written again.
fn describe_event(event: &Event<'_>, form: RecordForm) -> Option<Vec<u8>> {
    let (lost, reason) = match event {
        Event::Recovered { lost: 0 } | Event::Failing { .. } => return None,
        Event::TooSlow { lost } => (*lost, "its reader is too slow"),
        Event::Recovered { lost } => (*lost, "it could not be written"),
    };
    let message = format!("lines of this log were lost: {reason}");
    let fields = json!({ "message": message, "lost": lost });
    Some(form.warning(&format!("{message} lost={lost}"), &fields, module_path!()))
}

/// Why the log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `XPS_LOG` is invalid.
    #[error("XPS_LOG: {0}; write levels such as `debug` or `xps::tcp=trace,info`")]
    Directives(String),
    /// Directives of an operator are invalid.
    #[error("`{directives}` is no level of the log: {reason}; write levels such as `debug` or `xps::tcp=trace,info`")]
    Filter {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A log was started before.
    #[error("{0}")]
    Second(String),
    /// The thread that writes it cannot be started.
    #[error("cannot start its thread: {0}")]
    Thread(#[source] io::Error),
}

/// A JSON log line for the error that ends the program. It is independent of the log, because it must
/// be written at every log level, and also before the log is started and after it is flushed.
pub fn last_record(level: tracing::Level, message: &str, help: Option<&str>) -> String {
    let mut fields = json!({ "message": message });
    if let Some(help) = help {
        fields["help"] = help.into();
    }
    let record = json!({ "timestamp": timestamp(), "level": level.as_str(), "fields": fields, "target": "xps::cli" });
    format!("{record}\n")
}

/// A text for standard error that is no record of the log: with its severity, if the journal reads it.
pub fn for_standard_error(level: tracing::Level, text: String) -> String {
    if !is_journal() {
        return text;
    }
    String::from_utf8_lossy(&records::with_severity(level, text.as_bytes())).into_owned()
}

/// The current time in the format of log records.
fn timestamp() -> String {
    let mut now = String::new();
    // A record without a time is still useful.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    now
}

fn level_name(level: Option<LogLevel>, default: &'static str) -> &'static str {
    match level {
        None if std::env::var("XPS_DEBUG").is_ok_and(|value| value == "1") => "debug",
        None => default,
        Some(LogLevel::Off) => "off",
        Some(LogLevel::Error) => "error",
        Some(LogLevel::Warn) => "warn",
        Some(LogLevel::Info) => "info",
        Some(LogLevel::Debug) => "debug",
        Some(LogLevel::Trace) => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_json_whatever_is_in_it() {
        let line = last_record(tracing::Level::WARN, "it said \"no\"\nand left", Some("ask again"));
        assert_eq!(line.matches('\n').count(), 1);
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["level"], "WARN");
        assert_eq!(record["fields"]["message"], "it said \"no\"\nand left");
        assert_eq!(record["fields"]["help"], "ask again");
        assert!(record["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{record}");
    }

    #[test]
    fn directives_of_an_operator_have_levels() {
        for bad in ["", "loud", "xps::tcp", "xps::tcp=loud", "info,", &"a".repeat(2000)] {
            assert!(matches!(set_filter(bad), Err(LogError::Filter { .. })), "{bad}");
        }
    }

    #[test]
    fn a_level_that_was_asked_for_is_the_level() {
        assert_eq!(level_name(Some(LogLevel::Off), "info"), "off");
        assert_eq!(level_name(Some(LogLevel::Trace), "error"), "trace");
    }
}
