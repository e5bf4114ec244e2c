//! Writes lines on a thread of its own, so that a slow disk or a full pipe does not block a worker.
//!
//! Lines are copied into chunks under a short lock. The thread is woken when the first line comes, and
//! then once [`LineWriter`] has gathered lines for its `delay`, or [`WAKE_BYTES`] of them: waking it for
//! each line would cost more than the line. It writes a chunk at a time. A flush, and the end of the last
//! [`LineWriter`], end the delay, so nothing is lost at a stop.
//!
//! The queue is limited. Lines that exceed it, or that cannot be written, are lost and counted. The
//! rest of a partly written line is written before the next line, so lines never mix. The thread ends
//! once the last [`LineWriter`] is dropped and all lines are written.
//!
//! The content of lines does not matter here; a newline ends each. An [`Event`] reports lost lines to the
//! owner.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum lines in the queue. 65536.
pub(super) const LINES_WAITING_MAX: usize = 64 << 10;

/// Maximum bytes in the queue: limits the memory that a stalled disk costs. 32 MiB.
pub(super) const BYTES_WAITING_MAX: usize = 32 << 20;

/// Bytes of a chunk, which is written at once. A longer line has a chunk of its own. 64 KiB.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes in the queue that end the delay. 256 KiB.
const WAKE_BYTES: usize = 4 * CHUNK_BYTES;

/// Empty chunks that are kept for later lines. 8.
const SPARE_CHUNKS_MAX: usize = 8;

/// Minimum interval between two reports of [`Event::TooSlow`]. 1 s.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between reports while lines cannot be written. 1 min.
const REMIND_INTERVAL: Duration = Duration::from_secs(60);

/// Wait before writing again to a non-blocking descriptor that is full. 10 ms.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// The destination of lines.
pub(super) trait Output: Send + 'static {
    /// Whether each line is put by itself, as in a datagram: whole or not at all. Those behind one that
    /// failed are tried then.
    const IS_BY_LINE: bool = false;

    /// Called before each chunk. `true`: the destination has changed, such as a reopened file.
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
pub(super) struct LineWriter(Arc<Handle>);

/// Closes the queue when the last [`LineWriter`] is dropped.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.wake.notify_one();
    }
}

/// What handles and thread share.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes those that wait for a flush.
    flushed: Condvar,
    /// How long lines may wait for others.
    delay: Duration,
    /// Lines lost because the queue was full or writing failed.
    lost: AtomicUsize,
    lost_in_all: &'static AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Empty, to be used again.
    spares: Vec<Vec<u8>>,
    /// The size of the queue. Lines that are being written are in it.
    lines: usize,
    bytes: usize,
    /// Lines lost because the queue was full.
    dropped: usize,
    thread: ThreadState,
    /// Numbers of the last flush that was asked for, and of the last one that is complete.
    flush_asked: u64,
    flush_done: u64,
    /// There will be no further lines.
    is_closed: bool,
}

/// Whole lines.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    lines: usize,
}

/// What the thread waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ThreadState {
    /// Nothing: it is awake, or was woken.
    #[default]
    Awake,
    /// A line.
    Idle,
    /// The end of the delay.
    Gathering,
}

impl LineWriter {
    /// Starts the thread. Lines may wait for others for `delay`. Lost lines are also counted in
    /// `lost_in_all`.
    ///
    /// # Errors
    /// No thread is available.
    pub(super) fn start(
        name: &str,
        output: impl Output,
        delay: Duration,
        report: Report,
        lost_in_all: &'static AtomicUsize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            flushed: Condvar::new(),
            delay,
            lost: AtomicUsize::new(0),
            lost_in_all,
        });
        let thread = Thread {
            output,
            shared: Arc::clone(&shared),
            rest: Vec::new(),
            failing: None,
            report,
            dropped_reported: 0,
            reported_at: None,
        };
        let alive = Alive::new();
        thread::Builder::new().name(name.into()).spawn(move || {
            let _alive = alive;
            thread.run();
        })?;
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Queues a line, which includes its newline. If the queue is full, the line is lost.
    pub(super) fn line(&self, line: &[u8]) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        if !queue.push(line) {
            drop(queue);
            return shared.lose(1);
        }
        if queue.wakes() {
            drop(queue);
            shared.wake.notify_one();
        }
    }

    /// Waits at most `timeout` until all lines queued so far are written or lost.
    pub(super) fn flush(&self, timeout: Duration) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        queue.flush_asked += 1;
        let asked = queue.flush_asked;
        shared.wake.notify_one();
        let waited = shared.flushed.wait_timeout_while(queue, timeout, |queue| queue.flush_done < asked);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    #[cfg(test)]
    pub(super) fn lost(&self) -> usize {
        self.0.0.lost.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.0.0.lock().lines == 0
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, lines: usize) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.lost_in_all.fetch_add(lines, Ordering::Relaxed);
    }
}

impl Queue {
    /// Copies a line, if there is room for it; else counts it as dropped.
    fn push(&mut self, line: &[u8]) -> bool {
        if self.lines >= LINES_WAITING_MAX || self.bytes + line.len() > BYTES_WAITING_MAX {
            self.dropped += 1;
            return false;
        }
        self.lines += 1;
        self.bytes += line.len();
        match self.chunks.back_mut() {
            Some(chunk) if chunk.bytes.len() + line.len() <= CHUNK_BYTES => chunk.push(line),
            Some(_) | None => {
                let bytes = self.spares.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES));
                let mut chunk = Chunk { bytes, lines: 0 };
                chunk.push(line);
                self.chunks.push_back(chunk);
            }
        }
        true
    }

    /// Whether the thread has to be woken for what is queued; at most once until it waits again.
    fn wakes(&mut self) -> bool {
        let wakes = match self.thread {
            ThreadState::Awake => false,
            ThreadState::Idle => true,
            ThreadState::Gathering => self.bytes >= WAKE_BYTES,
        };
        if wakes {
            self.thread = ThreadState::Awake;
        }
        wakes
    }

    /// Whether what is queued is not to wait for more.
    const fn is_urgent(&self) -> bool {
        self.is_closed || self.flush_asked > self.flush_done || self.bytes >= WAKE_BYTES
    }

    fn give_back(&mut self, mut chunk: Chunk) {
        self.lines -= chunk.lines;
        self.bytes -= chunk.bytes.len();
        chunk.bytes.clear();
        if chunk.bytes.capacity() == CHUNK_BYTES && self.spares.len() < SPARE_CHUNKS_MAX {
            self.spares.push(chunk.bytes);
        }
    }
}

impl Chunk {
    fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }
}

/// State of the writer's thread.
struct Thread<O> {
    output: O,
    shared: Arc<Shared>,
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
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.lock();
        loop {
            queue = gather(&shared, queue);
            let flush = queue.flush_asked;
            // Those that come meanwhile wait for others again.
            for _ in 0..queue.chunks.len() {
                let Some(chunk) = queue.chunks.pop_front() else { break };
                drop(queue);
                self.write(&chunk);
                queue = shared.lock();
                queue.give_back(chunk);
                let dropped = queue.dropped;
                drop(queue);
                self.report_dropped(dropped);
                queue = shared.lock();
            }
            if queue.flush_done < flush {
                queue.flush_done = flush;
                shared.flushed.notify_all();
            }
            if queue.is_closed && queue.chunks.is_empty() {
                break;
            }
        }
        drop(queue);
        if !self.rest.is_empty() {
            shared.lose(1);
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        if self.output.renew() && !self.rest.is_empty() {
            // The beginning of the line is in the old destination.
            self.rest.clear();
            self.lose(1);
        }
        let result = if O::IS_BY_LINE {
            self.write_each(&chunk.bytes)
        } else {
            self.write_rest(chunk.lines).and_then(|()| self.write_lines(&chunk.bytes))
        };
        match result {
            Ok(()) => self.on_success(),
            Err(error) => self.on_failure(&error),
        }
    }

    /// Completes a partly written line. If that fails, the lines behind it are lost.
    fn write_rest(&mut self, lines_behind: usize) -> io::Result<()> {
        let (written, result) = put_all(&mut self.output, &self.rest);
        self.rest.drain(..written);
        if result.is_err() {
            self.lose(lines_behind);
        }
        result
    }

    /// Writes lines. If that fails, the rest of the line that it failed in is kept, and the lines behind
    /// it are lost.
    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        let (written, result) = put_all(&mut self.output, lines);
        if result.is_err() {
            let is_between = written == 0 || lines[written - 1] == b'\n';
            let rest = &lines[written..];
            let rest_end = if is_between { 0 } else { line_end(rest) };
            self.rest.extend_from_slice(&rest[..rest_end]);
            self.lose(rest[rest_end..].iter().filter(|byte| **byte == b'\n').count());
        }
        result
    }

    /// Writes lines, each by itself. Returns the last error.
    fn write_each(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut result = Ok(());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if let Err(error) = self.output.put(line) {
                self.lose(1);
                result = Err(error);
            }
        }
        result
    }

    fn lose(&mut self, lines: usize) {
        self.shared.lose(lines);
        // Reported with the failure that causes it.
        self.failing.get_or_insert_default().lost += lines;
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

    /// `dropped`: lines so far.
    fn report_dropped(&mut self, dropped: usize) {
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
            if O::IS_BY_LINE {
                let _ = self.output.put(&line);
                return;
            }
            let (written, result) = put_all(&mut self.output, &line);
            if result.is_err() && written > 0 {
                self.rest.extend_from_slice(&line[written..]);
            }
            // A report that is lost itself is not counted: the next one covers more lines.
        }
    }
}

/// Waits until there is something to write, and others need not be waited for. Without lines: a flush
/// is asked for, or the queue is closed.
fn gather<'q>(shared: &'q Shared, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
    let mut until: Option<Instant> = None;
    while !queue.is_urgent() {
        if queue.chunks.is_empty() {
            queue.thread = ThreadState::Idle;
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        if shared.delay.is_zero() {
            break;
        }
        let now = Instant::now();
        let until = *until.get_or_insert(now + shared.delay);
        if now >= until {
            break;
        }
        queue.thread = ThreadState::Gathering;
        let waited = shared.wake.wait_timeout(queue, until - now);
        (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
    }
    queue.thread = ThreadState::Awake;
    queue
}

/// Where the first line ends, after its newline.
fn line_end(lines: &[u8]) -> usize {
    lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1)
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
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => "start the syslog daemon, or correct its address",
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
    use std::sync::mpsc::{self, Receiver};

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
        (LineWriter::start("test", disk.clone(), DELAY, Box::new(report), &LOST).unwrap(), told)
    }

    static LOST: AtomicUsize = AtomicUsize::new(0);
    const PATIENCE: Duration = Duration::from_secs(30);
    /// Longer than any test: only what ends the delay ends it.
    const DELAY: Duration = Duration::from_secs(3600);

    #[test]
    fn half_a_line_is_completed_before_the_next_and_what_was_lost_is_told() {
        let disk = Disk::default();
        disk.room(10);
        let (writer, told) = started(&disk);
        writer.line(b"first\n");
        writer.line(b"second\n");
        writer.line(b"third\n");
        writer.line(b"fourth\n");
        writer.flush(PATIENCE);
        assert_eq!(disk.content(), "first\nseco");
        assert_eq!(told.try_iter().count(), 1, "reported once");
        disk.room(1000);
        writer.line(b"fifth\n");
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
        writer.line(b"first\n");
        writer.line(b"second\n");
        writer.flush(PATIENCE);
        assert_eq!(told.try_iter().count(), 1, "the failure");
        disk.room(1000);
        writer.line(b"third\n");
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
            writer.line(format!("{number}\n").as_bytes());
        }
        drop((writer, other));
        // The other end goes with the thread.
        assert!(told.recv_timeout(PATIENCE).is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected));
        assert_eq!(disk.content().lines().count(), 1000);
    }

    #[test]
    fn lines_wait_for_others_until_the_delay_is_over_or_a_buffer_is_full() {
        let disk = Disk::default();
        disk.room(1 << 20);
        let (writer, _told) = started(&disk);
        writer.line(b"first\n");
        writer.line(b"second\n");
        thread::sleep(Duration::from_millis(20));
        assert_eq!(disk.content(), "", "nothing ends the delay");
        writer.flush(PATIENCE);
        assert_eq!(disk.content(), "first\nsecond\n");
        let line = [vec![b'x'; 1023], b"\n".to_vec()].concat();
        (0..WAKE_BYTES / line.len()).for_each(|_| writer.line(&line));
        let since = Instant::now();
        while !writer.is_at_rest() {
            assert!(since.elapsed() < PATIENCE, "a full buffer ends the delay");
            thread::yield_now();
        }
        let (soon, _told) = {
            let report = Box::new(|_: Event<'_>| None);
            (LineWriter::start("test", disk.clone(), Duration::from_millis(1), report, &LOST).unwrap(), ())
        };
        soon.line(b"third\n");
        while !soon.is_at_rest() {
            assert!(since.elapsed() < PATIENCE, "its time ends the delay");
            thread::yield_now();
        }
        assert!(disk.content().ends_with("third\n"));
    }

    #[test]
    fn of_lines_that_are_written_together_those_behind_a_failure_are_lost() {
        let disk = Disk::default();
        disk.room(6 + 7);
        let (writer, told) = started(&disk);
        for line in ["first\n", "second\n", "third\n", "fourth\n"] {
            writer.line(line.as_bytes());
        }
        writer.flush(PATIENCE);
        assert_eq!((disk.content().as_str(), writer.lost()), ("first\nsecond\n", 2));
        assert!(told.try_iter().all(|event| event.starts_with("Failing") && event.ends_with("lost: 2 }")));
        assert!(writer.is_at_rest());
    }

    /// Lines of several threads, while the destination changes: each is there once and whole.
    #[test]
    fn no_line_is_lost_while_several_threads_write() {
        const THREADS: usize = 4;
        const LINES: usize = 5000;
        let disk = Disk::default();
        disk.room(1 << 30);
        let (writer, told) = started(&disk);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let writer = writer.clone();
                scope.spawn(move || (0..LINES).for_each(|line| writer.line(format!("{thread} {line}\n").as_bytes())));
            }
        });
        drop(writer);
        assert!(told.recv_timeout(PATIENCE).is_err_and(|error| error == mpsc::RecvTimeoutError::Disconnected));
        let content = disk.content();
        for thread in 0..THREADS {
            let own = content.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(own.eq((0..LINES).map(|line| line.to_string())), "in order");
        }
    }
}
