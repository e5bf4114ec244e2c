//! The load generator: connections that each ask, await what they asked for, and start again.
//!
//! One thread, one level-triggered epoll: so that it costs little beside what it measures, and
//! always the same. Every answer's status and length is checked; those that the scenario names are
//! compared with what was to be sent.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::certificate::Identity;
use crate::channel::{Channel, Memory, READ_BYTES};
use crate::clocks::{Groups, Sample, Usage};
use crate::histogram::Histogram;
use crate::poll::Poll;
use crate::probe::{self, Target};
use crate::response::{Expected, Reader};
use crate::scenario::{Pattern, Scenario, Tls};
use crate::tls::{self, Care, Received, Version};

/// What to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where the server listens.
    pub port: u16,
    /// How long to measure, after warming up.
    pub measured: Duration,
    /// Exchanges to begin each second, whether or not others are under way; `None`: each connection begins one when it
    /// has completed the last.
    pub rate: Option<u32>,
    /// Connections beside the scenario's that are used once and then stay open.
    pub idle: u32,
    /// The server's certificate, if the scenario has TLS.
    pub identity: Identity,
    /// What TLS is spoken.
    pub version: Version,
    /// Whose processor time to read. The generator adds itself.
    pub groups: Groups,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Exchanges, counted by bytes: those under way at either end count in part.
    pub exchanges: f64,
    /// What they cost.
    pub usage: Usage,
    /// Half the exchanges took no longer; `None`: the generator does not say.
    pub p50: Option<Duration>,
    /// 99 of 100 exchanges took no longer.
    pub p99: Option<Duration>,
}

/// At least so long is not measured: caches, buffers' sizes and congestion windows settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// A server that cannot complete the first, or the last, exchange of every connection within this
/// time is broken.
const AWAIT_MAX: Duration = Duration::from_secs(15);

/// An answer of which nothing arrives for so long is lost.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Bytes taken at the beginning of an answer that is not compared: its head, and little more.
const HEAD_READ_BYTES: usize = 1 << 10;

/// One client: a connection, or one after another.
struct Connection {
    token: usize,
    channel: Channel,
    /// How it speaks TLS, if it does. Sessions to resume are its own.
    tls: Option<Arc<ClientConfig>>,
    reader: Reader,
    /// Answers still to come. When there are none, a client that reconnects awaits the connection's end.
    unanswered: usize,
    /// When it last began to ask, or should have.
    started: Instant,
    /// When it should have begun exchanges that it is too busy for.
    overdue: VecDeque<Instant>,
    /// How often it asked and had everything.
    completed: u64,
}

/// What all connections share.
struct Shared {
    scenario: Scenario,
    port: u16,
    poll: Poll,
    segment: Vec<u8>,
    expected: Expected,
    memory: Memory,
    latencies: Histogram,
    bytes: u64,
    /// No more requests: what is under way is the last.
    ending: bool,
    /// Connections that have not completed what they asked first or, in the end, last.
    awaited: usize,
    /// Exchanges begin at their time, not when others are complete.
    is_paced: bool,
    /// From when on, unless it has not begun, or is over.
    pace: Option<Pace>,
}

/// When exchanges are to begin, and on which connection: each in its turn.
struct Pace {
    start: Instant,
    interval: Duration,
    begun: u32,
}

impl Pace {
    /// The next one's time.
    fn next(&self) -> Instant {
        self.start + self.interval * self.begun
    }
}

/// Drives the server and measures it.
pub fn run(scenario: &Scenario, mut task: Task) -> io::Result<Measured> {
    task.groups.peers.push(std::process::id());
    let target = task.target(scenario)?;
    let _idle = (0..task.idle)
        .map(|_| probe::used(scenario, &target, STALL_MAX).map(|(channel, _)| channel))
        .collect::<io::Result<Vec<_>>>()?;
    let mut shared = Shared::new(scenario, &target, task.rate.is_some())?;
    let mut connections = (0..scenario.connections)
        .map(|token| Connection::open(token, task.clients(scenario)?, &shared))
        .collect::<io::Result<Vec<_>>>()?;
    for connection in &mut connections {
        connection.ask(&shared)?;
    }
    let begin = Instant::now();
    while shared.awaited > 0 || begin.elapsed() < WARM_UP {
        shared.check_patience(begin)?;
        if shared.awaited == 0
            && let (Some(rate), None) = (task.rate, &shared.pace)
        {
            shared.pace = Some(Pace { start: Instant::now(), interval: Duration::from_secs(1) / rate, begun: 0 });
        }
        turn(&mut connections, &mut shared)?;
    }
    shared.latencies = Histogram::default();
    shared.bytes = 0;
    let before = Sample::take(&task.groups)?;
    let end = Instant::now() + task.measured;
    while Instant::now() < end {
        turn(&mut connections, &mut shared)?;
    }
    let usage = Sample::take(&task.groups)?.since(&before);
    let measured = Measured {
        exchanges: shared.bytes as f64 / shared.expected.answer_bytes() as f64,
        usage,
        p50: Some(shared.latencies.quantile(0.50)),
        p99: Some(shared.latencies.quantile(0.99)),
    };
    // One connection that hangs would go unnoticed among the others.
    let end = Instant::now();
    shared.ending = true;
    shared.awaited = connections.len();
    if shared.pace.take().is_some() {
        for connection in connections.iter_mut().filter(|connection| connection.unanswered == 0) {
            connection.ask(&shared)?;
        }
    }
    while shared.awaited > 0 {
        shared.check_patience(end)?;
        turn(&mut connections, &mut shared)?;
    }
    Ok(measured)
}

fn turn(connections: &mut [Connection], shared: &mut Shared) -> io::Result<()> {
    let wait = shared.pace.as_ref().map_or(STALL_MAX, |pace| pace.next().saturating_duration_since(Instant::now()));
    let mut any = false;
    for token in shared.poll.wait(Some(wait))? {
        any = true;
        connections[token].on_readable(shared)?;
    }
    if shared.is_paced {
        begin_due(connections, shared)
    } else if any {
        Ok(())
    } else {
        Err(io::Error::other(format!("no answer for {STALL_MAX:?}")))
    }
}

/// Begins what is due, or notes that it is.
fn begin_due(connections: &mut [Connection], shared: &mut Shared) -> io::Result<()> {
    while let Some(pace) = shared.pace.as_mut().filter(|pace| pace.next() <= Instant::now()) {
        let (due, turn) = (pace.next(), pace.begun as usize % connections.len());
        pace.begun += 1;
        let connection = &mut connections[turn];
        if connection.unanswered > 0 {
            connection.overdue.push_back(due);
        } else {
            connection.ask(shared)?;
            // Waiting for its turn is part of what it takes.
            connection.started = due;
        }
    }
    Ok(())
}

impl Task {
    /// The server, for an exchange at leisure.
    pub fn target(&self, scenario: &Scenario) -> io::Result<Target> {
        let tls = match scenario.tls {
            Tls::Clients => Some(tls::client(&self.identity, self.version, Care::Signature, false)?),
            Tls::Nowhere | Tls::Origin => None,
        };
        Ok(Target { port: self.port, tls })
    }

    /// How one of the scenario's clients speaks TLS.
    fn clients(&self, scenario: &Scenario) -> io::Result<Option<Arc<ClientConfig>>> {
        let resumes = scenario.pattern == Pattern::Resume;
        match scenario.tls {
            Tls::Clients => tls::client(&self.identity, self.version, Care::Certificate, resumes).map(Some),
            Tls::Nowhere | Tls::Origin => Ok(None),
        }
    }
}

impl Shared {
    fn new(scenario: &Scenario, target: &Target, is_paced: bool) -> io::Result<Self> {
        let etag = match scenario.pattern {
            Pattern::NotModified => {
                let whole = probe::exchange(scenario, target, STALL_MAX)?;
                Some(whole.etag().ok_or_else(|| io::Error::other("the file has no ETag"))?.to_owned())
            }
            Pattern::KeepAlive | Pattern::Pipelined(_) | Pattern::Reconnect | Pattern::Resume | Pattern::Streams(_) => {
                None
            }
        };
        Ok(Self {
            scenario: *scenario,
            port: target.port,
            poll: Poll::new()?,
            segment: scenario.segment(etag.as_deref()),
            expected: scenario.expected(),
            memory: Memory::new(),
            latencies: Histogram::default(),
            bytes: 0,
            ending: false,
            awaited: scenario.connections,
            is_paced,
            pace: None,
        })
    }

    fn check_patience(&self, since: Instant) -> io::Result<()> {
        if since.elapsed() < AWAIT_MAX {
            return Ok(());
        }
        Err(io::Error::other(format!("{} connections had no whole answer within {AWAIT_MAX:?}", self.awaited)))
    }
}

impl Connection {
    fn open(token: usize, tls: Option<Arc<ClientConfig>>, shared: &Shared) -> io::Result<Self> {
        Ok(Self {
            token,
            channel: connect(token, tls.as_ref(), shared)?,
            tls,
            reader: Reader::new(),
            unanswered: 0,
            started: Instant::now(),
            overdue: VecDeque::new(),
            completed: 0,
        })
    }

    fn ask(&mut self, shared: &Shared) -> io::Result<()> {
        self.unanswered = shared.scenario.requests_at_once();
        self.started = Instant::now();
        self.channel.send(&shared.segment)
    }

    /// Asks what should have been asked while it was busy.
    fn ask_overdue(&mut self, shared: &Shared) -> io::Result<()> {
        if let Some(due) = self.overdue.pop_front() {
            self.ask(shared)?;
            self.started = due;
        }
        Ok(())
    }

    fn on_readable(&mut self, shared: &mut Shared) -> io::Result<()> {
        let compare = self.completed.is_multiple_of(shared.scenario.compare_every);
        let skips = !compare && self.reader.body_left() > 0;
        let received = if skips {
            let room = self.reader.body_left().min(READ_BYTES);
            self.channel.skip(&mut shared.memory, room)?
        } else {
            let room = if compare { READ_BYTES } else { HEAD_READ_BYTES };
            self.channel.read(&mut shared.memory, room)?
        };
        let count = match received {
            Received::End => return self.on_end(shared),
            Received::Bytes(0) | Received::Nothing => return Ok(()),
            Received::Bytes(count) => count,
        };
        shared.bytes += count as u64;
        if skips {
            if count > self.reader.body_left() {
                return Err(io::Error::other(MORE_BYTES));
            }
            if self.reader.skip(count) {
                self.on_answer(shared);
            }
        } else {
            self.read(count, compare, shared)?;
        }
        if self.unanswered > 0 || shared.scenario.reconnects() {
            return Ok(());
        }
        match (self.count(shared), shared.is_paced) {
            (false, _) => Ok(()),
            (true, false) => self.ask(shared),
            (true, true) => self.ask_overdue(shared),
        }
    }

    /// Finds the answers in the bytes that are in memory.
    fn read(&mut self, count: usize, compare: bool, shared: &mut Shared) -> io::Result<()> {
        let mut at = 0;
        while at < count {
            if self.unanswered == 0 {
                return Err(io::Error::other(MORE_BYTES));
            }
            let read = self.reader.read(&shared.memory.bytes[at..count], &mut shared.expected, compare)?;
            at += read.bytes;
            if read.is_end {
                self.on_answer(shared);
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, shared: &mut Shared) {
        shared.latencies.record(self.started.elapsed());
        self.unanswered -= 1;
    }

    /// The server has ended the connection: in time, if it was asked to and has answered.
    fn on_end(&mut self, shared: &mut Shared) -> io::Result<()> {
        if self.unanswered > 0 || !shared.scenario.reconnects() {
            return Err(io::Error::other("closed before the answer's end"));
        }
        // The first has no session to resume.
        let resumes = shared.scenario.pattern == Pattern::Resume && self.completed > 0;
        if self.channel.is_resumed().is_some_and(|is_resumed| is_resumed != resumes) {
            let wrong = if resumes { "a session was not resumed" } else { "a session was resumed" };
            return Err(io::Error::other(wrong));
        }
        let began = Instant::now();
        // In the end too: the old one would report its end again and again.
        self.channel = connect(self.token, self.tls.as_ref(), shared)?;
        if self.count(shared) {
            self.ask(shared)?;
            self.started = began;
        }
        Ok(())
    }

    /// What was asked for is there. Says whether to go on.
    fn count(&mut self, shared: &mut Shared) -> bool {
        shared.awaited -= usize::from(self.completed == 0 || shared.ending);
        self.completed += 1;
        !shared.ending
    }
}

/// A new connection that is waited for.
fn connect(token: usize, tls: Option<&Arc<ClientConfig>>, shared: &Shared) -> io::Result<Channel> {
    let channel = Channel::connect(shared.port, tls)?;
    channel.socket().set_nonblocking(true)?;
    shared.poll.add(channel.socket(), token, libc::EPOLLIN)?;
    Ok(channel)
}

/// What is wrong with a server that does not stop in time.
const MORE_BYTES: &str = "more bytes than were asked for";
