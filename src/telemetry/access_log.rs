//! The access log: one line for each request, written by a thread of its own.
//!
//! A disk that is slow or full never delays a request: lines are lost instead, counted and reported.
//! A log is closed when its last handle is dropped.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use clap::ValueEnum;

use super::line_writer::{self, Event, LineWriter, Output, remedy};
use crate::driver::access::may_write;
use crate::driver::{Peer, signals};
use crate::http::date::HttpDate;
use crate::http::error_page::escape_json;
use crate::http::fields::Known;
use crate::http::response::push_decimal;
use crate::http::{ErrorResponse, RequestHead, Target, Version};
use crate::tls::ConnectionFacts;

/// Bytes of a target that are logged, before escaping. 2 KiB.
const TARGET_BYTES_MAX: usize = 2 << 10;

/// Bytes of a field value that are logged, before escaping. 1 KiB.
const FIELD_BYTES_MAX: usize = 1 << 10;

/// Replaces the rest of a truncated text.
const ELLIPSIS: &str = "...";

/// Formats of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, ValueEnum)]
pub enum AccessFormat {
    /// Combined log format of nginx and Apache, followed by the duration in milliseconds
    #[default]
    Combined,
    /// One JSON object per line
    Json,
}

/// Where an access log goes. Nothing is open yet: see [`AccessLogs`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLogConfig {
    /// The file.
    pub output: AccessLogOutput,
    /// The format of its lines.
    pub format: AccessFormat,
}

/// The file of an access log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccessLogOutput {
    /// Standard output, as it is at the start.
    Stdout,
    /// Standard error, as it is at the start.
    Stderr,
    /// A file. It is appended to, and reopened after SIGUSR1. The path is absolute.
    File(PathBuf),
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
    format: AccessFormat,
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
    request: Written,
}

impl AccessLogEntry {
    /// Writes the entry. `duration` counts from the arrival of the request head; without a valid
    /// head from its beginning, as far as that is known.
    pub fn finish(self, status: u16, body_bytes: u64, duration: Duration) {
        let Self { log, request } = self;
        log.write(request.line(log.0.format, status, body_bytes, duration));
    }
}

/// The parts of a line that are known when a request has arrived.
#[derive(Debug)]
struct Written {
    /// The line up to the status.
    before: Vec<u8>,
    /// The line after the body length; in JSON after the duration.
    after: Vec<u8>,
    /// What the line ends with.
    tls: Option<Rc<ConnectionFacts>>,
}

impl Written {
    fn new(
        format: AccessFormat,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        head: &RequestHead<'_>,
        unix_seconds: u64,
    ) -> Self {
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
        Self { before, after, tls: tls.cloned() }
    }

    /// The parts for bytes that could not be parsed as a request.
    fn malformed(
        format: AccessFormat,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        error: ErrorResponse,
        unix_seconds: u64,
    ) -> Self {
        let (mut before, mut after) = (Vec::with_capacity(128), Vec::with_capacity(128));
        match format {
            AccessFormat::Combined => {
                begin_combined(&mut before, Address(peer), unix_seconds);
                before.extend_from_slice(b"-\" ");
                after.extend_from_slice(b" \"-\" \"-\"");
            }
            AccessFormat::Json => {
                begin_json(&mut before, Address(peer), unix_seconds);
                before.extend_from_slice(b"\"status\":");
                after.extend_from_slice(b",\"refused\":\"");
                escape_json(error.reason, &mut after);
                after.push(b'"');
            }
        }
        Self { before, after, tls: tls.cloned() }
    }

    fn line(self, format: AccessFormat, status: u16, body_bytes: u64, duration: Duration) -> Vec<u8> {
        let Self { before: mut line, after, tls } = self;
        push_decimal(&mut line, u64::from(status));
        match format {
            AccessFormat::Combined => {
                line.push(b' ');
                push_decimal(&mut line, body_bytes);
                line.extend_from_slice(&after);
                line.push(b' ');
                push_decimal(&mut line, duration.as_millis() as u64);
                if let Some(tls) = tls {
                    combined_tls(&mut line, &tls);
                }
                line.push(b'\n');
            }
            AccessFormat::Json => {
                line.extend_from_slice(b",\"bytes\":");
                push_decimal(&mut line, body_bytes);
                line.extend_from_slice(b",\"duration_us\":");
                push_decimal(&mut line, duration.as_micros() as u64);
                line.extend_from_slice(&after);
                if let Some(tls) = tls {
                    json_tls(&mut line, &tls);
                }
                line.extend_from_slice(b"}\n");
            }
        }
        line
    }
}

impl AccessLog {
    fn open(config: &AccessLogConfig) -> io::Result<Self> {
        let format = config.format;
        match &config.output {
            AccessLogOutput::Stdout => Self::new(duplicate(io::stdout().as_fd())?, "standard output", format),
            AccessLogOutput::Stderr => Self::new(duplicate(io::stderr().as_fd())?, "standard error", format),
            AccessLogOutput::File(path) => Self::new(Reopening::new(path)?, &path.display().to_string(), format),
        }
    }

    fn new(output: impl Output, name: &str, format: AccessFormat) -> io::Result<Self> {
        let name = name.to_owned();
        let report = Box::new(move |event: Event<'_>| {
            report(&name, &event);
            None
        });
        Ok(Self(Arc::new(Inner { writer: LineWriter::start("xps-access-log", output, report, &LOST)?, format })))
    }

    /// A handle that does not keep the log open.
    fn downgrade(&self) -> WeakAccessLog {
        WeakAccessLog(Arc::downgrade(&self.0))
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
        AccessLogEntry { log: self.clone(), request: Written::new(self.0.format, peer, tls, head, unix_seconds) }
    }

    /// Begins an entry for bytes that could not be parsed as a request.
    pub fn begin_malformed(
        &self,
        peer: Peer,
        tls: Option<&Rc<ConnectionFacts>>,
        error: ErrorResponse,
        unix_seconds: u64,
    ) -> AccessLogEntry {
        AccessLogEntry { log: self.clone(), request: Written::malformed(self.0.format, peer, tls, error, unix_seconds) }
    }

    fn write(&self, line: Vec<u8>) {
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
    LOST.load(Ordering::Relaxed)
}

/// Lines lost so far by all access logs.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Writes a line up to the quote before the request line.
fn begin_combined(line: &mut Vec<u8>, peer: Address, unix_seconds: u64) {
    // Writing to a vector cannot fail.
    let _ = write!(line, "{peer} - - [");
    line.extend_from_slice(&HttpDate::new(unix_seconds).in_log_form());
    line.extend_from_slice(b"] \"");
}

/// Writes the first two members of the object, and the comma after them.
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
        push_quoted(before, part);
    }
    before.extend_from_slice(match head.version {
        Version::Http10 => b" HTTP/1.0\" ",
        Version::Http11 => b" HTTP/1.1\" ",
        Version::Http2 => b" HTTP/2.0\" ",
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
        escape_json(&String::from_utf8_lossy(part), before);
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

/// Writes what is known of a TLS connection, at the end of a line. What is missing is `-`.
#[cold]
fn combined_tls(line: &mut Vec<u8>, tls: &ConnectionFacts) {
    for word in [&tls.version, &tls.cipher_suite] {
        line.push(b' ');
        push_quoted(line, word.as_bytes());
    }
    let (name, protocol, subject) = (tls.server_name.as_deref(), tls.protocol.as_deref(), tls.client_subject());
    for text in [name.map(str::as_bytes), protocol, subject.map(str::as_bytes)] {
        line.extend_from_slice(b" \"");
        let (text, rest) = cut(text.unwrap_or(b"-"), FIELD_BYTES_MAX);
        push_quoted(line, text);
        line.extend_from_slice(rest.as_bytes());
        line.push(b'"');
    }
}

/// The same as members of the object. What is missing has none.
#[cold]
fn json_tls(line: &mut Vec<u8>, tls: &ConnectionFacts) {
    let (name, protocol, subject) = (tls.server_name.as_deref(), tls.protocol.as_deref(), tls.client_subject());
    for (member, value) in [
        ("tls", Some(tls.version.as_bytes())),
        ("cipher", Some(tls.cipher_suite.as_bytes())),
        ("server_name", name.map(str::as_bytes)),
        ("alpn", protocol),
        ("client_subject", subject.map(str::as_bytes)),
    ] {
        let Some(value) = value else { continue };
        line.extend_from_slice(b",\"");
        line.extend_from_slice(member.as_bytes());
        line.extend_from_slice(b"\":\"");
        let (value, rest) = cut(value, FIELD_BYTES_MAX);
        escape_json(&String::from_utf8_lossy(value), line);
        line.extend_from_slice(rest.as_bytes());
        line.push(b'"');
    }
}

/// The parts of a target as logged: path, question mark, query, and [`ELLIPSIS`] if truncated.
fn target_parts<'b>(target: &Target<'b>) -> [&'b [u8]; 4] {
    let (path, query) = match *target {
        Target::Asterisk | Target::AsteriskOf(_) => ("*", None),
        Target::Authority(authority) => (authority, None),
        Target::Origin { path, query } | Target::Absolute { path, query, .. } => (path, query),
    };
    let path = path.as_bytes();
    match (cut(path, TARGET_BYTES_MAX), query) {
        ((shown, rest @ ELLIPSIS), _) => [shown, b"", b"", rest.as_bytes()],
        (_, None) => [path, b"", b"", b""],
        (_, Some(query)) => {
            let (shown, rest) = cut(query, TARGET_BYTES_MAX - path.len());
            [path, b"?", shown, rest.as_bytes()]
        }
    }
}

/// Truncates a text. Returns the beginning, and [`ELLIPSIS`] or an empty text.
fn cut(text: &[u8], bytes_max: usize) -> (&[u8], &'static str) {
    match text.split_at_checked(bytes_max) {
        Some((shown, rest)) if !rest.is_empty() => (shown, ELLIPSIS),
        Some(_) | None => (text, ""),
    }
}

/// Writes text with escapes, so that it cannot end the quotes or begin a new line.
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
    use super::super::line_writer::BYTES_WAITING_MAX;
    use super::*;
    use crate::http::request::{HeadLimits, Parsed, parse};

    fn line(format: AccessFormat, request: &str) -> String {
        line_over(format, None, request)
    }

    fn line_over(format: AccessFormat, tls: Option<&Rc<ConnectionFacts>>, request: &str) -> String {
        let Ok(Parsed::Complete { head, .. }) = parse(request.as_bytes(), &HeadLimits::default()) else {
            panic!("{request:?} is no request");
        };
        let peer = Peer::Inet("192.0.2.7:4711".parse().unwrap());
        let line = Written::new(format, peer, tls, &head, 784_111_777);
        String::from_utf8(line.line(format, 200, 612, Duration::from_micros(1500))).unwrap()
    }

    #[test]
    fn the_combined_format_is_as_others_write_it() {
        let request = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nUser-Agent: x \"y\"\r\n\r\n";
        assert_eq!(
            line(AccessFormat::Combined, request),
            "192.0.2.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 612 \"-\" \"x \\x22y\\x22\" 1\n"
        );
    }

    /// Otherwise a client could make the server hold 128 KiB per request while a disk stalls.
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

    #[test]
    fn row_33_octets_beyond_ascii_in_a_query_are_escaped() {
        let request = "GET /a?q=\u{2019}% HTTP/1.1\r\nHost: h\r\n\r\n";
        assert!(line(AccessFormat::Combined, request).contains("\"GET /a?q=\\xE2\\x80\\x99% HTTP/1.1\""));
        let entry: serde_json::Value = serde_json::from_str(&line(AccessFormat::Json, request)).unwrap();
        assert_eq!(entry["target"], "/a?q=\u{2019}%");
    }

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
    fn lines_that_wait_for_a_stalled_disk_hold_bounded_memory() {
        let (resume, stalled) = std::sync::mpsc::channel();
        let log = AccessLog::new(Stalled(stalled), "stalled", AccessFormat::Combined).unwrap();
        let line = vec![b'x'; 16 << 10];
        let room = BYTES_WAITING_MAX / line.len();
        for _ in 0..2 * room {
            log.write(line.clone());
        }
        assert_eq!(log.0.writer.lost(), room);
        drop(resume);
        while !log.0.writer.is_at_rest() {
            std::thread::yield_now();
        }
        log.write(line);
        assert_eq!(log.0.writer.lost(), room);
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

    #[test]
    fn over_tls_a_line_ends_with_what_was_agreed_on() {
        let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut facts = ConnectionFacts::sample();
        let over = |format, facts: &ConnectionFacts| line_over(format, Some(&Rc::new(facts.clone())), request);
        let plain = line(AccessFormat::Combined, request);
        assert_eq!(
            over(AccessFormat::Combined, &facts),
            format!("{} TLSv1.3 TLS_AES_128_GCM_SHA256 \"a.org\" \"h2\" \"CN=a\\x5C\\x22b\"\n", plain.trim_end())
        );
        let entry: serde_json::Value = serde_json::from_str(&over(AccessFormat::Json, &facts)).unwrap();
        let member = |name: &str| entry[name].as_str().unwrap().to_owned();
        assert_eq!(
            ["tls", "cipher", "server_name", "alpn", "client_subject"].map(member),
            ["TLSv1.3", "TLS_AES_128_GCM_SHA256", "a.org", "h2", "CN=a\\\"b"]
        );
        (facts.server_name, facts.certificate, facts.protocol) = (None, None, Some(Box::from(&b"\n\"\xff"[..])));
        let combined = over(AccessFormat::Combined, &facts);
        assert!(combined.ends_with(" \"-\" \"\\x0A\\x22\\xFF\" \"-\"\n"), "{combined}");
        let entry: serde_json::Value = serde_json::from_str(&over(AccessFormat::Json, &facts)).unwrap();
        assert_eq!((&entry["alpn"], entry.get("server_name")), (&"\n\"\u{fffd}".into(), None));
    }
}
