//! The simulation: an in-memory network, file system and clock, seeded and adversarial.
//!
//! A [`Sim`] is a [`Driver`] like the others, but the world it drives is made up: peers follow
//! [`Step`]s, files are bytes in memory, time jumps to the next thing that happens. Whatever the
//! contract leaves open (when, in which order, in which pieces, whether a cancel wins) is decided by
//! one generator, so a run follows entirely from its seed and can be had again.
//!
//! ```text
//!   machines ──Ops──► submit ──► operations in flight
//!      ▲                              │ events at virtual times
//!      └── completions ◄── deliver ◄──┴── wires, peers, files
//! ```
//!
//! It also watches the machines: what breaks the contract is kept as a [`Violation`]. It does not
//! know what the machines are for; whether the right bytes came out is the test's to judge.
//!
//! With `XPS_SIM_TRACE` set, every step is printed.

mod bug_injector;
mod converse;
mod deliver;
mod faults;
mod files;
mod network;
mod peers;
mod reach;
mod rng;
mod schedule;
mod submit;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use bug_injector::PlantedBug;
pub use converse::{Converse, Move};
pub use faults::{Faults, Injected};
pub use peers::{Behaviour, Peer, PeerEnd, PeerId, Step};
pub use rng::{Chance, Rng};

use super::{Address, Completion, Counters, Driver, Op, OpId, Ops, Request, Socket, Time, Turn};
use crate::buffer::{Pool, SizeClass};
use crate::table::{Key, Table};
use bug_injector::BugInjector;
use files::{Files, OpenFile};
use network::{Owner, Side, Wire, WireId};
use peers::Reading;
use schedule::{Event, Schedule};
use trace::Trace;

/// The simulated world with the driver in it.
#[derive(Debug)]
pub struct Sim {
    faults: Faults,
    rng: Rng,
    now: Time,
    schedule: Schedule,
    pool: Pool,
    counters: Counters,
    injected: Injected,
    trace: Trace,
    bug_injector: BugInjector,
    violations: Vec<Violation>,
    is_stalled: bool,
    /// Operations in flight, by [`OpId::index`].
    in_flight: Vec<Option<OpState>>,
    sockets: Table<Descriptor>,
    open_files: Table<OpenFile>,
    /// Sockets whose `Recv` found no buffer.
    starved: Vec<Key>,
    files: Files,
    wires: Vec<Wire>,
    peers: Vec<Peer>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
    upstreams: Vec<Upstream>,
    clients: BTreeMap<PeerId, SocketAddr>,
}

/// The machines broke the contract: what happened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

/// An operation in flight.
#[derive(Debug)]
struct OpState {
    id: OpId,
    op: Op,
    /// How it is going to fail, if that is decided already.
    doom: Option<super::Fault>,
    /// A send has been tried, whether or not there was room.
    is_tried: bool,
}

/// A socket that machines hold.
#[derive(Debug)]
enum Descriptor {
    Listener(Listening),
    Stream(Stream),
}

#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    unix_connect_retry: VecDeque<WireId>,
    accept: Option<OpId>,
    /// So many more may come.
    left: u32,
    is_due: bool,
    is_closing: bool,
}

#[derive(Debug)]
struct Stream {
    wire: WireId,
    side: Side,
    recv: Option<OpId>,
    send: Option<OpId>,
    /// What machines want of the receive, which takes effect at some moment soon.
    pause_is_wanted: bool,
    is_paused: bool,
    /// The receive was told that the connection broke.
    is_told: bool,
    recv_is_due: bool,
    send_is_due: bool,
    is_closing: bool,
}

/// A server outside.
#[derive(Debug)]
struct Upstream {
    address: Address,
    behaviour: Behaviour,
    peers: Vec<PeerId>,
}

impl Sim {
    /// A world without anybody in it.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Time::ZERO,
            schedule: Schedule::default(),
            pool: Pool::new(faults.pool),
            faults,
            counters: Counters::default(),
            injected: Injected::default(),
            trace: Trace::new(),
            bug_injector: BugInjector::default(),
            violations: Vec::new(),
            is_stalled: false,
            in_flight: Vec::new(),
            sockets: Table::new(),
            open_files: Table::new(),
            starved: Vec::new(),
            files: Files::default(),
            wires: Vec::new(),
            peers: Vec::new(),
            hosts: BTreeMap::new(),
            upstreams: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    /// A listening socket for machines to accept from.
    pub fn listener(&mut self, address: SocketAddr) -> Socket {
        let listening = Listening {
            address,
            unix_connect_retry: VecDeque::new(),
            accept: None,
            left: 0,
            is_due: false,
            is_closing: false,
        };
        Socket(self.sockets.insert(Descriptor::Listener(listening)))
    }

    /// A client that connects to `to` after a while and follows these steps.
    pub fn client(&mut self, to: SocketAddr, after: Duration, steps: Vec<Step>) -> PeerId {
        let id = PeerId(self.peers.len());
        let port = 40_000 + (id.0 % 20_000) as u16;
        let reading = self.draw_reading();
        self.peers.push(Peer::new(super::Peer::Inet(SocketAddr::from(([192, 0, 2, 1], port))), steps, reading));
        self.clients.insert(id, to);
        self.schedule_at(self.now + after, Event::Peer(id));
        id
    }

    /// What happens to connections to `address`. Where nothing is said, they are refused.
    pub fn upstream(&mut self, address: impl Into<Address>, behaviour: Behaviour) {
        self.upstreams.push(Upstream { address: address.into(), behaviour, peers: Vec::new() });
    }

    /// The peers that served connections to an upstream's address so far.
    pub fn upstream_peers(&self, address: impl Into<Address>) -> &[PeerId] {
        let address = address.into();
        self.upstreams.iter().find(|upstream| upstream.address == address).map_or(&[], |upstream| &upstream.peers)
    }

    /// Makes a name resolvable. Addresses in text are so anyway.
    pub fn host(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.hosts.insert(name.to_owned(), addresses);
    }

    /// A file, found by this path beneath every root.
    pub fn file(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.add(path, bytes);
    }

    /// Every file there is: its path beneath every root, and its bytes.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.files.all()
    }

    /// Plants a bug at the occasion after `occasions` others.
    pub fn plant_bug(&mut self, planted_bug: PlantedBug, occasions: u32) {
        self.bug_injector.plan(planted_bug, occasions);
    }

    /// Whether the planted bug has happened.
    pub const fn has_planted_bug(&self) -> bool {
        self.bug_injector.has_struck()
    }

    /// A peer and what it lived through.
    pub fn peer(&self, id: PeerId) -> &Peer {
        &self.peers[id.0]
    }

    /// Whether an injected fault hit this peer's connection.
    pub fn is_faulted(&self, id: PeerId) -> bool {
        self.peers[id.0].wire.is_some_and(|(wire, _)| self.wires[wire.0].faulted)
    }

    /// How many bytes of what a peer sent were received on the other side of its connection.
    pub fn taken_from(&self, id: PeerId) -> usize {
        self.peers[id.0].wire.map_or(0, |(wire, side)| self.wires[wire.0].taken_from(side))
    }

    /// How many bytes there are for a peer to read, at the end of a run: a slow one may not have come to them.
    pub fn unread_by(&self, id: PeerId) -> usize {
        self.peers[id.0].wire.map_or(0, |(wire, side)| self.wires[wire.0].unread_by(side))
    }

    /// Whether every peer is done ([`Peer::is_done`]).
    pub fn peers_are_done(&self) -> bool {
        self.peers.iter().all(Peer::is_done)
    }

    /// Every breach of the contract so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What went wrong so far.
    pub const fn injected(&self) -> Injected {
        self.injected
    }

    /// Whether the last turn had no limit of time and nothing that could ever have happened: a real
    /// driver would have waited for ever.
    pub const fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// How many operations have had no final outcome.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().flatten().count()
    }

    /// The most memory that what is being sent on one socket holds.
    pub fn sending_memory_max(&self) -> usize {
        let memory = |op_state: &OpState| match &op_state.op {
            Op::Send { chain, .. } | Op::SendFile { head: chain, .. } => chain.memory(),
            _ => 0,
        };
        self.in_flight.iter().flatten().map(memory).max().unwrap_or_default()
    }

    /// Equal for two runs in which the same happened.
    pub const fn fingerprint(&self) -> u64 {
        self.trace.fingerprint()
    }

    fn violate(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation(what));
        }
    }

    /// Some moment soon.
    fn soon(&mut self) -> Time {
        let most = u64::try_from(self.faults.latency_max.as_nanos()).unwrap_or(u64::MAX);
        if self.rng.below(4) == 0 { self.now } else { self.now + Duration::from_nanos(self.rng.below(most)) }
    }

    fn schedule_soon(&mut self, event: Event) {
        let at = self.soon();
        self.schedule_at(at, event);
    }

    fn schedule_at(&mut self, at: Time, event: Event) {
        let tie = self.rng.next();
        self.schedule.add(at, tie, event);
    }

    /// Lets whoever stands at an end of a connection look soon.
    fn notify(&mut self, wire: WireId, side: Side) {
        match self.wires[wire.0].owner(side) {
            Owner::Backlog => {}
            Owner::Socket(key) => {
                self.look_at_recv(key);
                self.look_at_send(key);
            }
            Owner::Peer(peer) => {
                if !std::mem::replace(&mut self.peers[peer.0].is_due, true) {
                    self.schedule_soon(Event::Peer(peer));
                }
            }
        }
    }

    fn look_at_recv(&mut self, key: Key) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key)
            && stream.recv.is_some()
            && !std::mem::replace(&mut stream.recv_is_due, true)
        {
            self.schedule_soon(Event::Recv(key));
        }
    }

    fn look_at_send(&mut self, key: Key) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key)
            && stream.send.is_some()
            && !std::mem::replace(&mut stream.send_is_due, true)
        {
            self.schedule_soon(Event::Send(key));
        }
    }

    fn look_at_accept(&mut self, key: Key) {
        if let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key)
            && !std::mem::replace(&mut listening.is_due, true)
        {
            self.schedule_soon(Event::Accept(key));
        }
    }

    /// How well a new peer reads.
    fn draw_reading(&mut self) -> Reading {
        if self.rng.chance(self.faults.stalled_peers) {
            Reading::StoppedUntil(self.now + Duration::from_millis(self.rng.range(1, 3000)))
        } else if self.rng.chance(self.faults.slow_peers) {
            let piece_bytes = self.rng.range(256, 16 << 10) as usize;
            Reading::Slow { piece_bytes, every: Duration::from_micros(self.rng.range(1, 5000)), next_at: self.now }
        } else {
            Reading::Eager
        }
    }

    fn has_free_descriptor(&self) -> bool {
        let listeners =
            self.sockets.iter().filter(|(_, descriptor)| matches!(descriptor, Descriptor::Listener(_))).count();
        self.open_descriptors() - listeners < self.faults.descriptors_max
    }

    fn has_free_buffer(&self) -> bool {
        let limits = [
            (SizeClass::Small, self.faults.pool.small_max), //
            (SizeClass::Large, self.faults.pool.large_max),
        ];
        limits.into_iter().any(|(class, max)| {
            let usage = self.pool.usage(class);
            usage.free > 0 || usage.made < max
        })
    }

    /// Receives that waited for a buffer try again once there is one.
    fn wake_starved(&mut self) {
        if !self.starved.is_empty() && self.has_free_buffer() {
            for key in std::mem::take(&mut self.starved) {
                self.look_at_recv(key);
            }
        }
    }

    fn op_state(&self, id: OpId) -> Option<&OpState> {
        self.in_flight.get(id.index())?.as_ref().filter(|op_state| op_state.id == id)
    }

    /// Takes an operation out of flight.
    fn land(&mut self, id: OpId) -> Option<OpState> {
        self.op_state(id)?;
        self.in_flight[id.index()].take()
    }
}

impl Driver for Sim {
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn> {
        self.counters.enters += 1;
        self.is_stalled = false;
        for request in ops.drain() {
            match request {
                Request::Start(id, op) => self.submit(id, op),
                Request::Cancel(id) => self.cancel(id),
                Request::Pause(id) => self.pause(id),
                Request::Resume(id) => self.resume(id),
            }
        }
        let deadline = wait.map(|wait| self.now + wait);
        let before = done.len();
        if self.rng.chance(self.faults.empty_turns) {
            let limits = [deadline, self.schedule.next_at()].into_iter().flatten();
            let limit = limits.min().unwrap_or(self.now).max(self.now);
            self.now = self.now + Duration::from_nanos(self.rng.below(limit.since(self.now).as_nanos() as u64 + 1));
        } else {
            let most = self.rng.range(1, self.faults.batch_max as u64) as usize;
            // What comes so soon after the first completion is still collected with it.
            let linger = Duration::from_nanos(self.rng.below(LINGER_NANOS_MAX));
            let mut until = deadline;
            while done.len() - before < most {
                self.wake_starved();
                let next = self.schedule.next_at();
                match (next, until) {
                    (Some(at), None) => self.now = self.now.max(at),
                    (Some(at), Some(until)) if at <= until => self.now = self.now.max(at),
                    (Some(_) | None, Some(until)) => {
                        self.now = self.now.max(until);
                        break;
                    }
                    (None, None) => {
                        self.is_stalled = true;
                        break;
                    }
                }
                if let Some(event) = self.schedule.pop() {
                    self.happen(event, done);
                }
                if done.len() > before && (until.is_none() || until == deadline) {
                    let end = self.now + linger;
                    until = Some(deadline.map_or(end, |deadline| deadline.min(end)));
                }
            }
        }
        Ok(Turn { now: self.now, woken: false })
    }

    fn now(&self) -> Time {
        self.now
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn open_descriptors(&self) -> usize {
        self.sockets.len() + self.open_files.len()
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first breaches tell the story; a broken machine may go on for ever.
const VIOLATIONS_MAX: usize = 16;

/// How far apart in time the completions of one turn may be.
const LINGER_NANOS_MAX: u64 = 20_000;
