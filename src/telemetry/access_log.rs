//! The access log: one line for each request, written by a thread of its own.
//!
//! A disk that is slow or full never delays a request: lines are lost instead, counted and reported.
//! A log is closed when its last handle is dropped. What is in a line: `access_log/line.rs`.

mod facts;
mod line;
mod template;

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use clap::ValueEnum;

pub use self::facts::{CacheState, EndedAt, EndedBy, ExchangeEnd, Facts, FailureReason, Forwarded, Termination};
use self::line::{RequestPart, give_back};
pub use self::template::{BadTemplate, Template, VARIABLES};
use super::line_writer::{self, Event, LineWriter, Output, remedy};
use super::syslog::{Lines, Syslog, SyslogConfig};
use crate::driver::access::may_write;
use crate::driver::{Peer, signals};
use crate::http::{ErrorResponse, RequestHead};
use crate::tls::ConnectionFacts;

/// How long lines wait for others, so that the thread is not woken for each. 100 ms.
const DELAY: Duration = Duration::from_millis(100);

/// Formats of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum AccessFormat {
    /// Combined log format of nginx and Apache, followed by the duration in milliseconds
    #[default]
    Combined,
    /// One JSON object per line
    Json,
}

/// What lines of an access log look like.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LineFormat {
    /// See [`AccessFormat::Combined`].
    Combined,
    /// See [`AccessFormat::Json`].
    Json,
    /// A format of the operator's own.
    Template(Arc<Template>),
}

impl From<AccessFormat> for LineFormat {
    fn from(format: AccessFormat) -> Self {
        match format {
            AccessFormat::Combined => Self::Combined,
            AccessFormat::Json => Self::Json,
        }
    }
}

/// The share of requests that are logged, in millionths. Failed ones are logged in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample(u32);

impl Sample {
    const WHOLE: u32 = 1_000_000;

    /// All requests.
    pub const ALL: Self = Self(Self::WHOLE);

    /// A share from 0 to 1.
    pub fn new(share: f64) -> Self {
        // What does not fit is cut off.
        Self((share * f64::from(Self::WHOLE)).round() as u32)
    }

    /// Whether the request of this number, from 0, is logged. Those that are are spread evenly.
    fn includes(self, number: u64) -> bool {
        let (share, whole) = (u64::from(self.0.min(Self::WHOLE)), u64::from(Self::WHOLE));
        let number = number % whole;
        (number + 1) * share / whole > number * share / whole
    }
}

/// Where an access log goes. Nothing is open yet: see [`AccessLogs`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLogConfig {
    /// Where lines go.
    pub output: AccessLogOutput,
    /// The format of its lines.
    pub format: LineFormat,
    /// The share of requests that are logged.
    pub sample: Sample,
}

/// The destination of an access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogOutput {
    /// Standard output, as it is at the start.
    Stdout,
    /// Standard error, as it is at the start.
    Stderr,
    /// A file. It is appended to, and reopened after SIGUSR1. The path is absolute.
    File(PathBuf),
    /// A syslog daemon.
    Syslog(SyslogConfig),
}

impl AccessLogOutput {
    /// The output of this path.
    ///
    /// `/dev/stdout`, `/dev/stderr` and their equivalents mean the descriptors 1 and 2 and are not
    /// opened: opening fails if they are sockets, as under systemd (unix(7), `ENXIO`), and if they
    /// are files, two open descriptions would overwrite each other's lines.
    pub fn of_path(path: PathBuf) -> Self {
        match path.to_str() {
            Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => Self::Stdout,
            Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => Self::Stderr,
            Some(_) | None => Self::File(path),
        }
    }

    /// Checks that it can be written to, or created. Nothing is created.
    ///
    /// # Errors
    /// Opening it would fail in the same way.
    pub fn look(&self) -> io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            Ok(_) => may_write(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => may_write(path.parent().unwrap_or(Path::new("/"))),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for AccessLogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("on standard output"),
            Self::Stderr => f.write_str("on standard error"),
            Self::File(path) => path.display().fmt(f),
            Self::Syslog(config) => config.fmt(f),
        }
    }
}

/// The access logs that are open. One that is asked for again, as by a reload, is shared.
#[derive(Debug, Default)]
pub struct AccessLogs(HashMap<AccessLogConfig, WeakAccessLog>);

impl AccessLogs {
    /// The log of this configuration.
    ///
    /// # Errors
    /// The file cannot be opened, or no descriptor or thread is available.
    pub fn open(&mut self, config: &AccessLogConfig) -> io::Result<AccessLog> {
        if let Some(log) = self.0.get(config).and_then(WeakAccessLog::upgrade) {
            return Ok(log);
        }
        let log = AccessLog::open(config)?;
        self.0.retain(|_, log| log.upgrade().is_some());
        self.0.insert(config.clone(), log.downgrade());
        Ok(log)
    }
}

/// A handle to an access log. Cheap to clone; the log is closed with the last clone.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: LineWriter,
    format: LineFormat,
    sample: Sample,
    /// Number of requests so far, if not all are logged.
    requests: AtomicU64,
}

/// A handle that does not keep the log open.
#[derive(Clone, Debug)]
struct WeakAccessLog(Weak<Inner>);

impl WeakAccessLog {
    /// The log, if it is still open.
    fn upgrade(&self) -> Option<AccessLog> {
        self.0.upgrade().map(AccessLog)
    }
}

/// The entry of a request whose response is not complete: the parts of the line known so far.
#[derive(Debug)]
pub struct AccessLogEntry {
    log: AccessLog,
    request: RequestPart,
    facts: Facts,
}

impl AccessLogEntry {
    /// What is noted of the exchange.
    pub const fn facts(&mut self) -> &mut Facts {
        &mut self.facts
    }

    /// Sets the request id that was passed on, instead of that of the request.
    pub fn set_request_id(&mut self, id: &str) {
        self.request.set_request_id(id);
    }

    /// Writes the entry, if it is in the sample.
    pub fn finish(self, end: &ExchangeEnd) {
        let Self { log, request, facts } = self;
        let has_failed =
            end.status >= 500 || facts.forwarded.as_ref().is_some_and(|forwarded| forwarded.reason.is_some());
        if !log.0.is_sampled() && !has_failed {
            return request.discard();
        }
        let line = request.line(&log.0.format, &facts, end);
        log.write(&line);
        give_back(line);
    }
}

impl Inner {
    /// Whether the next request is in the sample.
    fn is_sampled(&self) -> bool {
        self.sample == Sample::ALL || self.sample.includes(self.requests.fetch_add(1, Ordering::Relaxed))
    }
}

impl AccessLog {
    fn open(config: &AccessLogConfig) -> io::Result<Self> {
        let (format, sample) = (config.format.clone(), config.sample);
        match &config.output {
            AccessLogOutput::Stdout => Self::new(duplicate(io::stdout().as_fd())?, "standard output", format, sample),
            AccessLogOutput::Stderr => Self::new(duplicate(io::stderr().as_fd())?, "standard error", format, sample),
            AccessLogOutput::File(path) => {
                Self::new(Reopening::new(path)?, &path.display().to_string(), format, sample)
            }
            AccessLogOutput::Syslog(syslog) => {
                Self::new(Syslog::new(syslog.clone(), Lines::Access), &syslog.to_string(), format, sample)
            }
        }
    }

    fn new(output: impl Output, name: &str, format: LineFormat, sample: Sample) -> io::Result<Self> {
        let name = name.to_owned();
        let report = Box::new(move |event: Event<'_>| {
            report(&name, &event);
            None
        });
        let writer = LineWriter::start("xps-access-log", output, DELAY, report, &LOST)?;
        Ok(Self(Arc::new(Inner { writer, format, sample, requests: AtomicU64::new(0) })))
    }

    /// A handle that does not keep the log open.
    fn downgrade(&self) -> WeakAccessLog {
        WeakAccessLog(Arc::downgrade(&self.0))
    }

    /// Whether requests that have no id get one for their lines.
    pub fn makes_request_ids(&self) -> bool {
        matches!(&self.0.format, LineFormat::Template(template) if template.shows_request_id())
    }

    /// Begins an entry from the request head, whose bytes are not kept until the response ends.
    /// `tls`: of its connection.
    pub fn begin(
        &self,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        head: &RequestHead<'_>,
        unix_seconds: u64,
    ) -> AccessLogEntry {
        self.entry(RequestPart::new(&self.0.format, peer, tls, head, unix_seconds))
    }

    /// Begins an entry for bytes that could not be parsed as a request.
    pub fn begin_malformed(
        &self,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        error: ErrorResponse,
        unix_seconds: u64,
    ) -> AccessLogEntry {
        self.entry(RequestPart::malformed(&self.0.format, peer, tls, error, unix_seconds))
    }

    fn entry(&self, request: RequestPart) -> AccessLogEntry {
        AccessLogEntry { log: self.clone(), request, facts: Facts::default() }
    }

    fn write(&self, line: &[u8]) {
        self.0.writer.line(line);
    }
}

/// A duplicate of a stream, which bypasses the buffer of the standard library: that would keep bytes
/// that could not be written.
fn duplicate(stream: BorrowedFd<'_>) -> io::Result<File> {
    stream.try_clone_to_owned().map(File::from)
}

/// Reports lost lines in the log of the program.
fn report(path: &str, event: &Event<'_>) {
    match event {
        Event::TooSlow { lost } => {
            tracing::warn!(path, dropped = lost, "access log lines were lost: the reader is too slow")
        }
        Event::Failing { error, lost } => {
            let remedy = remedy(error);
            tracing::warn!(path, %error, lost, remedy, "the access log cannot be written, and lines are lost");
        }
        Event::Recovered { lost } => tracing::warn!(path, lost, "the access log is written again"),
    }
}

/// At the end of the program: waits at most `timeout` until all access logs without handles are
/// written. Returns the number of lines that all access logs have lost.
pub(crate) fn finish(timeout: Duration) -> usize {
    // The writer of the program's own log continues.
    line_writer::wait_for_others(1, timeout);
    lines_lost()
}

/// Lines lost so far by all access logs.
pub(super) fn lines_lost() -> usize {
    LOST.load(Ordering::Relaxed)
}

static LOST: AtomicUsize = AtomicUsize::new(0);

/// A file that is reopened by its path after SIGUSR1, for log rotation.
struct Reopening {
    path: PathBuf,
    file: File,
    /// The count of SIGUSR1 when the file was opened.
    opened_at: u32,
}

impl Reopening {
    fn new(path: &Path) -> io::Result<Self> {
        let opened_at = signals::reopen_requests();
        Ok(Self { path: path.to_owned(), file: open(path)?, opened_at })
    }
}

/// Opens a log for appending. Opening a FIFO without reader would block (fifo(7)), so it is an error.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    if !path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return options.open(path);
    }
    let without_waiting = options.clone().custom_flags(libc::O_NONBLOCK).open(path);
    // Held until the blocking descriptor is open, or the reader would see the end of its input.
    let _held = without_waiting.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::new(error.kind(), "this FIFO has no reader"),
        _ => error,
    })?;
    options.open(path)
}

impl Output for Reopening {
    fn renew(&mut self) -> bool {
        if self.opened_at == signals::reopen_requests() {
            return false;
        }
        match Self::new(&self.path) {
            Ok(reopened) => {
                *self = reopened;
                true
            }
            Err(error) => {
                self.opened_at = signals::reopen_requests();
                tracing::warn!(path = %self.path.display(), %error, "cannot reopen the access log");
                false
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::line_writer::BYTES_WAITING_MAX;
    use super::*;

    /// A disk that stalls until the other end of the channel is dropped.
    struct Stalled(std::sync::mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sample_is_spread_evenly() {
        for (share, expected) in [(1.0, 1000), (0.5, 500), (0.1, 100), (0.001, 1), (0.0, 0)] {
            let sample = Sample::new(share);
            for start in [0, 999_500, u64::MAX - 1_000_000] {
                let logged: Vec<u64> = (start..start + 1000).filter(|number| sample.includes(*number)).collect();
                assert!(logged.len().abs_diff(expected) <= 1, "{share}: {}", logged.len());
                let gaps = || logged.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(gaps().min() >= gaps().max().map(|gap| gap - 1), "{share}");
            }
        }
    }

    #[test]
    fn lines_that_wait_for_a_stalled_disk_hold_bounded_memory() {
        let (resume, stalled) = std::sync::mpsc::channel();
        let log = AccessLog::new(Stalled(stalled), "stalled", LineFormat::Combined, Sample::ALL).unwrap();
        let line = vec![b'x'; 16 << 10];
        let room = BYTES_WAITING_MAX / line.len();
        for _ in 0..2 * room {
            log.write(&line);
        }
        assert_eq!(log.0.writer.lost(), room);
        drop(resume);
        while !log.0.writer.is_at_rest() {
            std::thread::yield_now();
        }
        log.write(&line);
        assert_eq!(log.0.writer.lost(), room);
    }
}
