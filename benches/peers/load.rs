//! The load generator: connections that each send a request, await the response, and start again.
//!
//! One thread, one level-triggered epoll: so that it costs little beside what it measures, and
//! always the same. Every response is counted to the byte; those that the scenario names are compared
//! with what the origin sent.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::clocks::{Groups, Sample, Usage};
use crate::histogram::Histogram;
use crate::poll::Poll;
use crate::scenario::Scenario;

/// What to do.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where the server listens.
    pub port: u16,
    /// How long to measure, after warming up.
    pub measured: Duration,
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
    /// Half the exchanges took no longer.
    pub p50: Duration,
    /// 99 of 100 exchanges took no longer.
    pub p99: Duration,
}

/// At least so long is not measured: caches, buffers' sizes and congestion windows settle.
const WARM_UP: Duration = Duration::from_millis(500);

/// A server that cannot complete the first, or the last, exchange of every connection within this
/// time is broken.
const AWAIT_MAX: Duration = Duration::from_secs(15);

/// A response of which nothing arrives for so long is lost.
const STALL_MAX: Duration = Duration::from_secs(5);

/// Bytes taken from a socket at once.
const READ_BYTES: usize = 256 << 10;

struct Connection {
    socket: TcpStream,
    /// Bytes of the present response.
    received: usize,
    /// When its request was sent.
    started: Instant,
    /// Responses that came whole.
    completed: u64,
}

/// What all connections share.
struct Shared {
    request: Vec<u8>,
    response: Vec<u8>,
    compare_every: u64,
    memory: Vec<u8>,
    unread: Box<[MaybeUninit<u8>]>,
    latencies: Histogram,
    bytes: u64,
    /// No more requests: what is under way is the last.
    ending: bool,
    /// Connections that have not completed their first exchange or, in the end, their last.
    awaited: usize,
}

/// Drives the server and measures it.
pub fn run(scenario: &Scenario, mut task: Task) -> io::Result<Measured> {
    task.groups.peers.push(std::process::id());
    let mut poll = Poll::new()?;
    let mut connections = connect(scenario, task.port, &poll)?;
    let mut shared = Shared::new(scenario);
    for connection in &mut connections {
        connection.start(&shared.request)?;
    }
    let begin = Instant::now();
    while shared.awaited > 0 || begin.elapsed() < WARM_UP {
        shared.check_patience(begin)?;
        turn(&mut poll, &mut connections, &mut shared)?;
    }
    shared.latencies = Histogram::default();
    shared.bytes = 0;
    let before = Sample::take(&task.groups)?;
    let end = Instant::now() + task.measured;
    while Instant::now() < end {
        turn(&mut poll, &mut connections, &mut shared)?;
    }
    let usage = Sample::take(&task.groups)?.since(&before);
    let measured = Measured {
        exchanges: shared.bytes as f64 / shared.response.len() as f64,
        usage,
        p50: shared.latencies.quantile(0.50),
        p99: shared.latencies.quantile(0.99),
    };
    // One connection that hangs would go unnoticed among the others.
    let end = Instant::now();
    shared.ending = true;
    shared.awaited = connections.len();
    while shared.awaited > 0 {
        shared.check_patience(end)?;
        turn(&mut poll, &mut connections, &mut shared)?;
    }
    Ok(measured)
}

fn connect(scenario: &Scenario, port: u16, poll: &Poll) -> io::Result<Vec<Connection>> {
    (0..scenario.connections)
        .map(|token| {
            let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            poll.add(&socket, token, libc::EPOLLIN)?;
            Ok(Connection { socket, received: 0, started: Instant::now(), completed: 0 })
        })
        .collect()
}

fn turn(poll: &mut Poll, connections: &mut [Connection], shared: &mut Shared) -> io::Result<()> {
    let mut any = false;
    for token in poll.wait(Some(STALL_MAX))? {
        any = true;
        connections[token].on_readable(shared)?;
    }
    if any { Ok(()) } else { Err(io::Error::other(format!("no response for {STALL_MAX:?}"))) }
}

impl Shared {
    fn new(scenario: &Scenario) -> Self {
        Self {
            request: scenario.request(),
            response: scenario.response(),
            compare_every: scenario.compare_every,
            memory: vec![0; READ_BYTES],
            unread: Box::new_uninit_slice(READ_BYTES),
            latencies: Histogram::default(),
            bytes: 0,
            ending: false,
            awaited: scenario.connections,
        }
    }

    fn check_patience(&self, since: Instant) -> io::Result<()> {
        if since.elapsed() < AWAIT_MAX {
            return Ok(());
        }
        Err(io::Error::other(format!("{} connections had no whole response within {AWAIT_MAX:?}", self.awaited)))
    }
}

impl Connection {
    fn start(&mut self, request: &[u8]) -> io::Result<()> {
        self.received = 0;
        self.started = Instant::now();
        // The previous request was answered, so the socket's buffer is empty.
        let sent = self.socket.write(request)?;
        if sent == request.len() { Ok(()) } else { Err(io::Error::other("a request did not fit the socket")) }
    }

    fn on_readable(&mut self, shared: &mut Shared) -> io::Result<()> {
        let compared = self.completed.is_multiple_of(shared.compare_every);
        let result = if compared {
            self.socket.read(&mut shared.memory)
        } else {
            // For TCP this takes the bytes without copying them (tcp(7)).
            SockRef::from(&self.socket).recv_with_flags(&mut shared.unread, libc::MSG_TRUNC)
        };
        let count = match result {
            Ok(0) => return Err(io::Error::other(format!("closed after {} bytes of a response", self.received))),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let expected = shared.response.get(self.received..self.received + count);
        let Some(expected) = expected else {
            return Err(io::Error::other("more bytes than the origin sent"));
        };
        if compared && expected != &shared.memory[..count] {
            return Err(io::Error::other("other bytes than the origin sent"));
        }
        self.received += count;
        shared.bytes += count as u64;
        if self.received == shared.response.len() {
            shared.latencies.record(self.started.elapsed());
            shared.awaited -= usize::from(self.completed == 0 || shared.ending);
            self.completed += 1;
            if !shared.ending {
                self.start(&shared.request)?;
            }
        }
        Ok(())
    }
}
