//! Lines handed to a thread that writes them: no slow disk and no full pipe holds up a worker.
//!
//! What waits is bounded, and what finds no room is lost and counted. So is what cannot be written. Of a line that was
//! written in part the rest goes out before anything else, so that lines never run into each other. The thread ends once
//! the last [`LineWriter`] is gone and everything is written.
//!
//! It does not know what the lines say. Its owner is told how writing goes, by an [`Event`].

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait for a slow disk.
pub(super) const LINES_WAITING_MAX: usize = 64 << 10;

/// Bytes of lines that may wait for it: a stalled disk costs no more memory than this.
pub(super) const BYTES_WAITING_MAX: usize = 32 << 20;

/// An event of a kind is told no more often than this.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is told that lines still cannot be written.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// How long to wait where a descriptor that does not block takes no more.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Where lines go.
pub(super) trait Output: Send + 'static {
    /// Before each line. `true`: from now on they go elsewhere than before.
    fn renew(&mut self) -> bool {
        false
    }

    /// As [`io::Write::write`], without a buffer behind it.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

impl<W: io::Write + Send + 'static> Output for W {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }
}

/// What happened to lines.
#[derive(Debug)]
pub(super) enum Event<'e> {
    /// The queue was full; `lost` lines since this event came last.
    TooSlow { lost: usize },
    /// Lines cannot be written; `lost` of them since they last could be.
    Failing { error: &'e io::Error, lost: usize },
    /// They can be written again.
    Recovered { lost: usize },
}

/// Is told of events on the writer's thread. A line that it returns is written, if that is possible.
pub(super) type Report = Box<dyn FnMut(Event<'_>) -> Option<Vec<u8>> + Send>;

/// The end that takes lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LineWriter {
    sender: Sender<Message>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

/// What waits to be written, and how many lines were lost.
#[derive(Debug)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// For want of room.
    dropped: AtomicUsize,
    /// For want of room, or since writing failed.
    lost: AtomicUsize,
    lost_in_all: &'static AtomicUsize,
}

impl LineWriter {
    /// Starts the thread. Lines that are lost are also counted in `lost_in_all`.
    ///
    /// # Errors
    /// There may be no further thread.
    pub(super) fn start(
        name: &str,
        output: impl Output,
        report: Report,
        lost_in_all: &'static AtomicUsize,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let count = AtomicUsize::default;
        let waiting =
            Arc::new(Waiting { lines: count(), bytes: count(), dropped: count(), lost: count(), lost_in_all });
        let thread = Thread {
            output,
            waiting: Arc::clone(&waiting),
            rest: Vec::new(),
            failing: None,
            report,
            dropped_reported: 0,
            reported_at: None,
        };
        let alive = Alive::new();
        thread::Builder::new().name(name.into()).spawn(move || {
            let _alive = alive;
            thread.run(&receiver);
        })?;
        Ok(Self { sender, waiting })
    }

    /// Hands a line on, with its end; or loses it, if too many wait.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.waiting.take(line.len()) {
            // The thread lives as long as there is a sender.
            let _ = self.sender.send(Message::Line(line));
        }
    }

    /// Waits, at most for `timeout`, until everything handed on so far is written or lost.
    pub(super) fn flush(&self, timeout: Duration) {
        let (done, is_done) = mpsc::channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(timeout);
        }
    }

    #[cfg(test)]
    pub(super) fn lost(&self) -> usize {
        self.waiting.lost.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting.lines.load(Ordering::Relaxed) == 0
    }
}

impl Waiting {
    /// Takes room for a line, if there is enough.
    fn take(&self, bytes: usize) -> bool {
        let lines_before = self.lines.fetch_add(1, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let has_room = lines_before < LINES_WAITING_MAX && bytes_before + bytes <= BYTES_WAITING_MAX;
        if !has_room {
            self.give_back(bytes);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.lose(1);
        }
        has_room
    }

    fn give_back(&self, bytes: usize) {
        self.lines.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lose(&self, lines: usize) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.lost_in_all.fetch_add(lines, Ordering::Relaxed);
    }
}

/// What the thread knows.
struct Thread<O> {
    output: O,
    waiting: Arc<Waiting>,
    /// Of a line whose beginning is written.
    rest: Vec<u8>,
    failing: Option<Failing>,
    report: Report,
    dropped_reported: usize,
    /// When [`Event::TooSlow`] was told.
    reported_at: Option<Instant>,
}

/// Lines cannot be written.
#[derive(Default)]
struct Failing {
    lost: usize,
    reported_at: Option<Instant>,
}

impl<O: Output> Thread<O> {
    fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Line(line) => {
                    self.write(&line);
                    self.waiting.give_back(line.len());
                    self.report_dropped();
                }
                Message::Flush(done) => drop(done.send(())),
            }
        }
        if !self.rest.is_empty() {
            self.waiting.lose(1);
        }
    }

    fn write(&mut self, line: &[u8]) {
        if self.output.renew() && !self.rest.is_empty() {
            // Its beginning is elsewhere.
            self.rest.clear();
            self.lose();
        }
        let result = self.write_rest().and_then(|()| self.write_line(line));
        match result {
            Ok(()) => self.on_success(),
            Err(error) => self.on_failure(&error),
        }
    }

    /// Completes what was begun. The line that was to follow is lost if that fails.
    fn write_rest(&mut self) -> io::Result<()> {
        let (written, result) = put_all(&mut self.output, &self.rest);
        self.rest.drain(..written);
        if result.is_err() {
            self.lose();
        }
        result
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let (written, result) = put_all(&mut self.output, line);
        if result.is_err() {
            match written {
                0 => self.lose(),
                written => self.rest.extend_from_slice(&line[written..]),
            }
        }
        result
    }

    fn lose(&mut self) {
        self.waiting.lose(1);
        // Told with the failure that is the reason.
        self.failing.get_or_insert_default().lost += 1;
    }

    fn on_failure(&mut self, error: &io::Error) {
        let failing = self.failing.get_or_insert_default();
        if failing.reported_at.is_none_or(|reported_at| reported_at.elapsed() >= REMIND_INTERVAL) {
            failing.reported_at = Some(Instant::now());
            let lost = failing.lost;
            let _ = (self.report)(Event::Failing { error, lost });
        }
    }

    fn on_success(&mut self) {
        if let Some(Failing { lost, .. }) = self.failing.take()
            && lost > 0
        {
            self.report_and_write(|report| report(Event::Recovered { lost }));
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.waiting.dropped.load(Ordering::Relaxed);
        let is_soon = self.reported_at.is_some_and(|reported_at| reported_at.elapsed() < TELL_INTERVAL);
        if dropped > self.dropped_reported && !is_soon {
            let lost = dropped - self.dropped_reported;
            (self.dropped_reported, self.reported_at) = (dropped, Some(Instant::now()));
            self.report_and_write(|report| report(Event::TooSlow { lost }));
        }
    }

    fn report_and_write(&mut self, event: impl FnOnce(&mut Report) -> Option<Vec<u8>>) {
        if let Some(line) = event(&mut self.report)
            && self.rest.is_empty()
        {
            // It tells of lost lines; if it is lost itself, the next one tells of more.
            let _ = self.write_line(&line);
        }
    }
}

/// Writes as much as can be: how much that was, and why no more.
fn put_all(output: &mut impl Output, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.put(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A pipe or a terminal that others have made non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// What to do about a failure to write, if that is known.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space there",
        io::ErrorKind::FileTooLarge => {
            "rotate it and send SIGUSR1, or raise the limit of file size (ulimit -f, LimitFSIZE=)"
        }
        io::ErrorKind::BrokenPipe => "whatever read it is gone",
        _ => "see that it can be written",
    }
}

/// Threads that have not ended, of all writers.
static THREADS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Alive;

impl Alive {
    fn new() -> Self {
        *THREADS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        *THREADS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        THREADS.1.notify_all();
    }
}

/// Waits, at most for `timeout`, until no more than `left` writers are left: one whose last handle is gone writes what it
/// has, and ends.
pub(super) fn wait_for_others(left: usize, timeout: Duration) {
    let threads = THREADS.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = THREADS.1.wait_timeout_while(threads, timeout, |threads| *threads > left);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails while it is full.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn room(&self, bytes: usize) {
            self.0.lock().unwrap().1 += bytes;
        }

        fn content(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.lock().unwrap();
            let count = bytes.len().min(state.1).min(5);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.0.extend_from_slice(&bytes[..count]);
            state.1 -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started(disk: &Disk) -> (LineWriter, Receiver<String>) {
        let (events, told) = mpsc::channel();
        let report = move |event: Event<'_>| {
            events.send(format!("{event:?}")).unwrap();
            matches!(event, Event::Recovered { .. }).then(|| b"told\n".to_vec())
        };
        (LineWriter::start("test", disk.clone(), Box::new(report), &LOST).unwrap(), told)
    }

    static LOST: AtomicUsize = AtomicUsize::new(0);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn half_a_line_is_completed_before_the_next_and_what_was_lost_is_told() {
        let disk = Disk::default();
        disk.room(10);
        let (writer, told) = started(&disk);
        writer.line(b"first\n".to_vec());
        writer.line(b"second\n".to_vec());
        writer.line(b"third\n".to_vec());
        writer.line(b"fourth\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(disk.content(), "first\nseco");
        assert_eq!(told.try_iter().count(), 1, "told once");
        disk.room(1000);
        writer.line(b"fifth\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(disk.content(), "first\nsecond\nfifth\ntold\n");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["Recovered { lost: 2 }"]);
        assert_eq!(writer.lost(), 2);
    }

    #[test]
    fn the_thread_ends_with_the_last_writer_after_everything_is_written() {
        let disk = Disk::default();
        disk.room(1 << 20);
        let (writer, told) = started(&disk);
        let other = writer.clone();
        for number in 0..1000 {
            writer.line(format!("{number}\n").into_bytes());
        }
        drop((writer, other));
        // The other end goes with the thread.
        assert!(told.recv_timeout(PATIENCE).is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(disk.content().lines().count(), 1000);
    }
}
