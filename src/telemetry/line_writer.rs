//! Writes lines on a thread of its own, so that a slow disk or a full pipe does not block a worker.
//!
//! The queue is limited. Lines that exceed it, or that cannot be written, are lost and counted. The
//! rest of a partly written line is written before the next line, so lines never mix. The thread ends
//! once the last [`LineWriter`] is dropped and all lines are written.
//!
//! The content of lines does not matter here. An [`Event`] reports lost lines to the owner.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum lines in the queue. 65536.
pub(super) const LINES_WAITING_MAX: usize = 64 << 10;

/// Maximum bytes in the queue: limits the memory that a stalled disk costs. 32 MiB.
pub(super) const BYTES_WAITING_MAX: usize = 32 << 20;

/// Minimum interval between two reports of [`Event::TooSlow`]. 1 s.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between reports while lines cannot be written. 1 min.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// Wait before writing again to a non-blocking descriptor that is full. 10 ms.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The destination of lines.
pub(super) trait Output: Send + 'static {
    /// Called before each line. `true`: the destination has changed, such as a reopened file.
    fn renew(&mut self) -> bool {
        false
    }

    /// Like [`io::Write::write`], unbuffered.
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

impl<W: io::Write + Send + 'static> Output for W {
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }
}

/// Reports on lost lines.
#[derive(Debug)]
pub(super) enum Event<'e> {
    /// The queue was full. `lost` counts lines since the last event of this kind.
    TooSlow { lost: usize },
    /// Lines cannot be written. `lost` counts lines since the last successful write.
    Failing { error: &'e io::Error, lost: usize },
    /// Lines can be written again. `lost` is 0 if the failure was reported, and its line has been
    /// completed since.
    Recovered { lost: usize },
}

/// Receives events, on the thread of the writer. A line that it returns is written, if possible.
pub(super) type Report = Box<dyn FnMut(Event<'_>) -> Option<Vec<u8>> + Send>;

/// A handle that queues lines. Cheap to clone.
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

/// The size of the queue, and the number of lost lines.
#[derive(Debug)]
struct Waiting {
    lines: AtomicUsize,
    bytes: AtomicUsize,
    /// Lines lost because the queue was full.
    dropped: AtomicUsize,
    /// Lines lost because the queue was full or writing failed.
    lost: AtomicUsize,
    lost_in_all: &'static AtomicUsize,
}

impl LineWriter {
    /// Starts the thread. Lost lines are also counted in `lost_in_all`.
    ///
    /// # Errors
    /// No thread is available.
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

    /// Queues a line, which includes its newline. If the queue is full, the line is lost.
    pub(super) fn line(&self, line: Vec<u8>) {
        if self.waiting.take(line.len()) {
            // Cannot fail: the thread ends only when the last sender is dropped.
            let _ = self.sender.send(Message::Line(line));
        }
    }

    /// Waits at most `timeout` until all lines queued so far are written or lost.
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
    /// Reserves space in the queue for a line. If there is too little, counts the line as lost.
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

/// State of the writer's thread.
struct Thread<O> {
    output: O,
    waiting: Arc<Waiting>,
    /// The unwritten rest of a partly written line.
    rest: Vec<u8>,
    failing: Option<Failing>,
    report: Report,
    dropped_reported: usize,
    /// When [`Event::TooSlow`] was last reported.
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
            // The beginning of the line is in the old destination.
            self.rest.clear();
            self.lose();
        }
        let result = self.write_rest().and_then(|()| self.write_line(line));
        match result {
            Ok(()) => self.on_success(),
            Err(error) => self.on_failure(&error),
        }
    }

    /// Completes a partly written line. If that fails, the next line is lost.
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
        // Reported with the failure that causes it.
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
        if let Some(Failing { lost, reported_at }) = self.failing.take()
            && (lost > 0 || reported_at.is_some())
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
            // A report that is lost itself is not counted: the next one covers more lines.
            let _ = self.write_line(&line);
        }
    }
}

/// Writes as much as possible. Returns the bytes written, and the error that stopped it.
fn put_all(output: &mut impl Output, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.put(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process made the pipe or terminal non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_INTERVAL),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// The remedy for a write error.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free disk space",
        io::ErrorKind::FileTooLarge => {
            "rotate it and send SIGUSR1, or raise the limit of file size (ulimit -f, LimitFSIZE=)"
        }
        io::ErrorKind::BrokenPipe => "its reader has exited",
        _ => "make sure that it can be written",
    }
}

/// Number of running threads, of all writers.
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

/// Waits at most `timeout` until at most `left` writer threads run. A thread whose last handle is
/// dropped writes its queue, then ends.
pub(super) fn wait_for_others(left: usize, timeout: Duration) {
    let threads = THREADS.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = THREADS.1.wait_timeout_while(threads, timeout, |threads| *threads > left);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that fails while it is full.
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
        assert_eq!(told.try_iter().count(), 1, "reported once");
        disk.room(1000);
        writer.line(b"fifth\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(disk.content(), "first\nsecond\nfifth\ntold\n");
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["Recovered { lost: 2 }"]);
        assert_eq!(writer.lost(), 2);
    }

    #[test]
    fn a_reported_failure_ends_with_a_report_even_if_nothing_was_lost() {
        let disk = Disk::default();
        disk.room(10);
        let (writer, told) = started(&disk);
        writer.line(b"first\n".to_vec());
        writer.line(b"second\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(told.try_iter().count(), 1, "the failure");
        disk.room(1000);
        writer.line(b"third\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["Recovered { lost: 0 }"]);
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
