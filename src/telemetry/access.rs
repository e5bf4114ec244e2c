//! The access log: one line for each request, written off the loop.
//!
//! A reader that is too slow loses lines, which are counted and told; it never holds up a request.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::driver::{Peer, signals};
use crate::http::date::HttpDate;
use crate::http::error_page::escape_json;
use crate::http::fields::Known;
use crate::http::response::push_decimal;
use crate::http::{Refusal, RequestHead, Target, Version};

/// Lines that may wait for a slow disk.
const LINES_WAITING_MAX: usize = 64 << 10;

/// Bytes of lines that may wait for it: a stalled disk costs no more memory than this.
const BYTES_WAITING_MAX: usize = 32 << 20;

/// Of a target no more is written down than so many bytes, which escaping may make longer.
const TARGET_BYTES_MAX: usize = 2 << 10;

/// The same of a field's value.
const FIELD_BYTES_MAX: usize = 1 << 10;

/// What stands for the rest of something too long.
const ELLIPSIS: &str = "...";

/// Lost lines are told of no more often than this.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

/// How requests are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum AccessFormat {
    /// The combined format of other servers, and the milliseconds at the end
    #[default]
    Combined,
    /// One JSON object a line
    Json,
}

/// Where requests are written down. Cheap to clone; one for each worker.
#[derive(Clone)]
pub struct AccessLog {
    writer: NonBlocking,
    format: AccessFormat,
    waiting: Arc<Waiting>,
    guard: Arc<Mutex<WorkerGuard>>,
}

/// What waits to be written, and how much did not find room to.
#[derive(Debug, Default)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    dropped_lines: AtomicUsize,
}

impl Waiting {
    /// Takes room for a line, if there is enough.
    fn take(&self, bytes: usize) -> bool {
        let lines_before = self.lines.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = lines_before < LINES_WAITING_MAX && bytes_before + bytes <= BYTES_WAITING_MAX;
        if !has_room {
            self.give_back(1, bytes);
            self.dropped_lines.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    fn give_back(&self, lines: usize, bytes: usize) {
        self.lines.fetch_sub(lines, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn dropped_lines(&self) -> usize {
        self.dropped_lines.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).finish_non_exhaustive()
    }
}

/// A request whose answer is not known yet, half written down.
#[derive(Debug)]
pub struct Draft {
    log: AccessLog,
    request: Written,
}

impl Draft {
    /// Writes it down, with the answer's status, the bytes of its body, and the time from the head's arrival.
    pub fn finish(self, status: u16, body_bytes: u64, duration: Duration) {
        let Self { log, request } = self;
        log.write(&request.line(log.format, status, body_bytes, duration));
    }
}

/// The parts of a line that tell of the request.
#[derive(Debug)]
struct Written {
    /// Up to where the status belongs.
    before: Vec<u8>,
    /// What follows the length of the body, and in one format the time it took.
    after: Vec<u8>,
}

impl Written {
    fn new(format: AccessFormat, peer: Peer, head: &RequestHead<'_>, unix_seconds: u64) -> Self {
        let (mut before, mut after) = (Vec::with_capacity(256), Vec::with_capacity(128));
        match format {
            AccessFormat::Combined => {
                begin_combined(&mut before, Address(peer), unix_seconds);
                combined(&mut before, &mut after, head);
            }
            AccessFormat::Json => {
                begin_json(&mut before, Address(peer), unix_seconds);
                json(&mut before, &mut after, head);
            }
        }
        Self { before, after }
    }

    fn line(self, format: AccessFormat, status: u16, body_bytes: u64, duration: Duration) -> Vec<u8> {
        let Self { before: mut line, after } = self;
        push_decimal(&mut line, u64::from(status));
        match format {
            AccessFormat::Combined => {
                line.push(b' ');
                push_decimal(&mut line, body_bytes);
                line.extend_from_slice(&after);
                line.push(b' ');
                push_decimal(&mut line, duration.as_millis() as u64);
                line.push(b'\n');
            }
            AccessFormat::Json => {
                line.extend_from_slice(b",\"bytes\":");
                push_decimal(&mut line, body_bytes);
                line.extend_from_slice(b",\"duration_us\":");
                push_decimal(&mut line, duration.as_micros() as u64);
                line.extend_from_slice(&after);
                line.extend_from_slice(b"}\n");
            }
        }
        line
    }
}

impl AccessLog {
    /// A log on standard output.
    pub fn to_stdout(format: AccessFormat) -> Self {
        Self::new(io::stdout(), format)
    }

    /// A log in a file, which is appended to, and opened anew after SIGUSR1.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn to_file(path: &Path, format: AccessFormat) -> io::Result<Self> {
        Ok(Self::new(Reopening::new(path)?, format))
    }

    fn new(output: impl Write + Send + 'static, format: AccessFormat) -> Self {
        let waiting = Arc::<Waiting>::default();
        let output = Complaining { output, waiting: Arc::clone(&waiting), told: 0, told_at: None };
        // Who has taken room finds it: nothing is lost there, but for what tells of its end.
        let (writer, guard) =
            NonBlockingBuilder::default().buffered_lines_limit(LINES_WAITING_MAX + 1).lossy(true).finish(output);
        Self { writer, format, waiting, guard: Arc::new(Mutex::new(guard)) }
    }

    /// Whether both write to the same place.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.guard, &other.guard)
    }

    /// Lines that were dropped so far, since the reader was too slow.
    pub fn dropped_lines(&self) -> usize {
        self.waiting.dropped_lines()
    }

    /// Begins to write a request down, as long as its head is there.
    pub fn begin(&self, peer: Peer, head: &RequestHead<'_>, unix_seconds: u64) -> Draft {
        Draft { log: self.clone(), request: Written::new(self.format, peer, head, unix_seconds) }
    }

    /// Writes bytes down that were not a request.
    pub fn record_refusal(&self, peer: Peer, refusal: Refusal, body_bytes: u64, unix_seconds: u64) {
        let mut line = Vec::with_capacity(128);
        let (code, peer) = (refusal.status.code(), Address(peer));
        match self.format {
            AccessFormat::Combined => {
                begin_combined(&mut line, peer, unix_seconds);
                // Writing to a vector cannot fail, here and below.
                let _ = writeln!(line, "-\" {code} {body_bytes} \"-\" \"-\" 0");
            }
            AccessFormat::Json => {
                begin_json(&mut line, peer, unix_seconds);
                let _ = write!(line, "\"status\":{code},\"bytes\":{body_bytes},\"refused\":\"");
                escape_json(refusal.reason, &mut line);
                line.extend_from_slice(b"\"}\n");
            }
        }
        self.write(&line);
    }

    fn write(&self, line: &[u8]) {
        if self.waiting.take(line.len()) {
            // It hands the line to its thread.
            let _ = self.writer.clone().write_all(line);
        }
    }
}

/// Up to the quote before the request line.
fn begin_combined(line: &mut Vec<u8>, peer: Address, unix_seconds: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(line, "{peer} - - [");
    line.extend_from_slice(&HttpDate::new(unix_seconds).in_log_form());
    line.extend_from_slice(b"] \"");
}

/// The first two members of the object, and the comma behind them.
fn begin_json(line: &mut Vec<u8>, peer: Address, unix_seconds: u64) {
    line.extend_from_slice(b"{\"time\":\"");
    line.extend_from_slice(&HttpDate::new(unix_seconds).in_rfc3339());
    // Writing to a vector cannot fail.
    let _ = write!(line, "\",\"peer\":\"{peer}\",");
}

fn combined(before: &mut Vec<u8>, after: &mut Vec<u8>, head: &RequestHead<'_>) {
    before.extend_from_slice(head.method.as_str().as_bytes());
    before.push(b' ');
    for part in target_parts(&head.target) {
        push_quoted(before, part.as_bytes());
    }
    before.extend_from_slice(match head.version {
        Version::Http10 => b" HTTP/1.0\" ",
        Version::Http11 => b" HTTP/1.1\" ",
    });
    for known in [Known::Referer, Known::UserAgent] {
        after.extend_from_slice(b" \"");
        let (value, rest) = cut(head.fields.known(known).unwrap_or(b"-"), FIELD_BYTES_MAX);
        push_quoted(after, value);
        after.extend_from_slice(rest.as_bytes());
        after.push(b'"');
    }
}

fn json(before: &mut Vec<u8>, after: &mut Vec<u8>, head: &RequestHead<'_>) {
    before.extend_from_slice(b"\"method\":\"");
    escape_json(head.method.as_str(), before);
    before.extend_from_slice(b"\",\"target\":\"");
    for part in target_parts(&head.target) {
        escape_json(part, before);
    }
    before.extend_from_slice(b"\",\"status\":");
    for (name, known) in [("host", Known::Host), ("referer", Known::Referer), ("agent", Known::UserAgent)] {
        if let Some(value) = head.fields.known(known) {
            after.extend_from_slice(b",\"");
            after.extend_from_slice(name.as_bytes());
            after.extend_from_slice(b"\":\"");
            let (value, rest) = cut(value, FIELD_BYTES_MAX);
            escape_json(&String::from_utf8_lossy(value), after);
            after.extend_from_slice(rest.as_bytes());
            after.push(b'"');
        }
    }
}

/// A target as it is written down: path, question mark, query, and what stands for more.
fn target_parts<'b>(target: &Target<'b>) -> [&'b str; 4] {
    let (path, query) = match *target {
        Target::Asterisk | Target::AsteriskOf(_) => ("*", None),
        Target::Authority(authority) => (authority, None),
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => (path, query),
    };
    let shown = &path[..path.floor_char_boundary(TARGET_BYTES_MAX)];
    match query {
        _ if shown.len() < path.len() => [shown, "", "", ELLIPSIS],
        None => [path, "", "", ""],
        Some(query) => {
            let shown = &query[..query.floor_char_boundary(TARGET_BYTES_MAX - path.len())];
            [path, "?", shown, if shown.len() < query.len() { ELLIPSIS } else { "" }]
        }
    }
}

/// The beginning of something that may be too long, and what stands for the rest.
fn cut(text: &[u8], bytes_max: usize) -> (&[u8], &'static str) {
    match text.split_at_checked(bytes_max) {
        Some((shown, rest)) if !rest.is_empty() => (shown, ELLIPSIS),
        Some(_) | None => (text, ""),
    }
}

/// Nothing that a client sends can end the quotes, or begin a line.
fn push_quoted(line: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => {
                // Writing to a vector cannot fail.
                let _ = write!(line, "\\x{byte:02X}");
            }
            _ => line.push(byte),
        }
    }
}

/// A peer without its port.
#[derive(Clone, Copy)]
struct Address(Peer);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Peer::Inet(address) => address.ip().fmt(f),
            Peer::Local | Peer::Gone => f.write_str("-"),
        }
    }
}

/// Writes on, and tells of lines that were lost, whenever more have been.
struct Complaining<W> {
    output: W,
    waiting: Arc<Waiting>,
    told: usize,
    told_at: Option<Instant>,
}

impl<W> Complaining<W> {
    fn complain(&mut self) {
        let dropped = self.waiting.dropped_lines();
        let is_soon = self.told_at.is_some_and(|told_at| told_at.elapsed() < COMPLAINT_INTERVAL);
        if dropped > self.told && !is_soon {
            tracing::warn!(dropped, "access log lines were lost: its reader is too slow");
            (self.told, self.told_at) = (dropped, Some(Instant::now()));
        }
    }
}

impl<W: Write> Write for Complaining<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes);
        match &written {
            Ok(count @ 1..) => self.waiting.give_back(usize::from(*count == bytes.len()), *count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The rest of the line is given up.
            Ok(0) | Err(_) => self.waiting.give_back(1, bytes.len()),
        }
        self.complain();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A file that is opened anew when it was moved away and SIGUSR1 said so.
struct Reopening {
    path: PathBuf,
    file: File,
    /// How often the signal had come when the file was opened.
    opened_at: u32,
}

impl Reopening {
    fn new(path: &Path) -> io::Result<Self> {
        let opened_at = signals::reopen_requests();
        Ok(Self { path: path.to_owned(), file: OpenOptions::new().create(true).append(true).open(path)?, opened_at })
    }
}

impl Write for Reopening {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.opened_at != signals::reopen_requests() {
            match Self::new(&self.path) {
                Ok(reopened) => *self = reopened,
                Err(error) => {
                    self.opened_at = signals::reopen_requests();
                    tracing::warn!(path = %self.path.display(), %error, "cannot reopen the access log");
                }
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::{HeadLimits, Parsed, parse};

    fn line(format: AccessFormat, request: &str) -> String {
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes(), &HeadLimits::default()) else {
            panic!("{request:?} is no request");
        };
        let peer = Peer::Inet("192.0.2.7:4711".parse().unwrap());
        let line = Written::new(format, peer, &head, 784_111_777).line(format, 200, 612, Duration::from_micros(1500));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_combined_format_is_as_others_write_it() {
        let request = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nUser-Agent: x \"y\"\r\n\r\n";
        assert_eq!(
            line(AccessFormat::Combined, request),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 612 \"-\" \"x \\x22y\\x22\" 1\n"
        );
    }

    /// Else a client could have us hold 128 KiB a request for a disk that stalls.
    #[test]
    fn a_line_is_bounded_whatever_is_asked() {
        let long = "\"".repeat(5000);
        for target in
            [format!("/{long}"), format!("/a?{long}"), format!("/{}?{long}", "b".repeat(TARGET_BYTES_MAX - 1))]
        {
            let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nUser-Agent: {long}\r\nReferer: {long}\r\n\r\n");
            let combined = line(AccessFormat::Combined, &request);
            let fields = TARGET_BYTES_MAX + 2 * FIELD_BYTES_MAX;
            assert!(combined.len() < 4 * fields + 200, "{}", combined.len());
            assert_eq!(combined.matches("...").count(), 3);
            let json = line(AccessFormat::Json, &request);
            assert!(json.len() < 6 * fields + 200);
            let entry: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(entry["agent"], format!("{}...", "\"".repeat(FIELD_BYTES_MAX)));
        }
    }

    /// A disk that has stalled, until the other end is dropped.
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
    fn lines_that_wait_for_a_stalled_disk_hold_bounded_memory() {
        let (resume, stalled) = std::sync::mpsc::channel();
        let log = AccessLog::new(Stalled(stalled), AccessFormat::Combined);
        let line = vec![b'x'; 16 << 10];
        let room = BYTES_WAITING_MAX / line.len();
        for _ in 0..2 * room {
            log.write(&line);
        }
        assert_eq!(log.dropped_lines(), room);
        drop(resume);
        while log.waiting.lines.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        log.write(&line);
        assert_eq!(log.dropped_lines(), room);
    }

    #[test]
    fn the_json_format_is_json() {
        let request = "GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: x \"y\"\r\n\r\n";
        let entry: serde_json::Value = serde_json::from_str(&line(AccessFormat::Json, request)).unwrap();
        assert_eq!(
            (&entry["target"], &entry["agent"], &entry["status"]),
            (&"/a".into(), &"x \"y\"".into(), &200.into())
        );
        assert_eq!((&entry["time"], &entry["peer"]), (&"1994-11-06T08:49:37Z".into(), &"192.0.2.7".into()));
    }
}
