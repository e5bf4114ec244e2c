//! The simulation: a driver over an in-memory network, file system and clock, seeded and
//! adversarial.
//!
//! A [`Sim`] is a [`Driver`], but everything that it drives is simulated: peers follow [`Step`]s,
//! files are bytes in memory, and time jumps to the next event. One seeded generator decides
//! whatever the contract leaves open: when, in which order, in which pieces, whether a cancel wins.
//! So the seed determines the run, and the same seed repeats it.
//!
//! ```text
//! state machines ──Ops──► submit ──► operations in flight
//!      ▲                                   │ events at virtual times
//!      └────── completions ◄── deliver ◄───┴── wires, peers, files
//! ```
//!
//! It also checks the state machines: each breach of the contract is recorded as a [`Violation`].
//! It does not know what the state machines do; the test checks that the right bytes arrived.
//!
//! With `XPS_SIM_TRACE` set, every step is printed.

mod bug_injector;
mod converse;
mod deliver;
mod faults;
mod files;
mod layer;
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
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

pub use bug_injector::PlantedBug;
pub use converse::{Converse, Move};
pub use faults::{Faults, Injected};
pub use layer::{Cut, Layer, LayerInput, Layers};
pub use peers::{Behaviour, Peer, PeerEnd, PeerId, Step};
pub use rng::{Chance, Rng};

use super::{Address, Completion, Counters, Driver, File, Op, OpId, Ops, Request, Socket, Time, Turn};
use crate::buffer::{Pool, SizeClass};
use crate::table::{Key, Table};
use bug_injector::BugInjector;
use files::{Files, OpenFile};
use network::{Owner, Side, Wire, WireId};
use peers::Reading;
use schedule::{Event, Schedule};
use trace::Trace;

/// The simulated network, files and clock, with the driver for them.
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
    sockets: Table<Descriptor, Socket>,
    open_files: Table<OpenFile, File>,
    /// Sockets whose `Recv` found no buffer.
    starved: Vec<Key<Socket>>,
    files: Files,
    wires: Vec<Wire>,
    peers: Vec<Peer>,
    hosts: BTreeMap<String, Vec<IpAddr>>,
    upstreams: Vec<Upstream>,
    clients: BTreeMap<PeerId, SocketAddr>,
}

/// A breach of the contract by a state machine, described in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

/// An operation in flight.
#[derive(Debug)]
struct OpState {
    id: OpId,
    op: Op,
    /// The fault with which it will fail, if that is decided already.
    doom: Option<super::Fault>,
    /// A send was tried, even if the socket's buffer was full.
    is_tried: bool,
}

/// A socket that state machines hold.
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
    /// Connections still to accept.
    left: u32,
    is_due: bool,
    is_closing: bool,
}

#[derive(Debug)]
struct Stream {
    wire: WireId,
    side: Side,
    /// Its own address; `None` for a unix socket.
    local: Option<SocketAddr>,
    recv: Option<OpId>,
    send: Option<OpId>,
    /// Whether a pause is requested. It takes effect soon, at a random moment.
    pause_is_wanted: bool,
    is_paused: bool,
    /// The turn in which it was last given a buffer.
    received_in: u64,
    /// The receive has reported a broken connection.
    is_told: bool,
    recv_is_due: bool,
    send_is_due: bool,
    is_closing: bool,
}

/// A simulated server that xps connects to.
#[derive(Debug)]
struct Upstream {
    address: Address,
    behaviour: Behaviour,
    /// Of its connections, if they have any.
    layers: Option<Box<dyn Layers>>,
    peers: Vec<PeerId>,
}

impl Sim {
    /// Creates a simulation without peers, files and names.
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

    /// A listening socket for state machines to accept from.
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

    /// Adds a client that connects to `to` after this delay and follows these steps.
    pub fn client(&mut self, to: SocketAddr, after: Duration, steps: Vec<Step>) -> PeerId {
        self.client_over(None, to, after, steps)
    }

    /// As [`Sim::client`], over a layer.
    pub fn client_over(
        &mut self,
        layer: Option<Box<dyn Layer>>,
        to: SocketAddr,
        after: Duration,
        steps: Vec<Step>,
    ) -> PeerId {
        let id = PeerId(self.peers.len());
        let port = 40_000 + (id.0 % 20_000) as u16;
        let reading = self.draw_reading();
        let name = super::Peer::Inet(SocketAddr::from(([192, 0, 2, 1], port)));
        self.peers.push(Peer::new(name, steps, reading).over(layer));
        self.clients.insert(id, to);
        self.schedule_at(self.now + after, Event::Peer(id));
        id
    }

    /// Sets what happens to connections to `address`. Connections to other addresses are refused.
    pub fn upstream(&mut self, address: impl Into<Address>, behaviour: Behaviour) {
        self.upstream_over(None, address, behaviour);
    }

    /// As [`Sim::upstream`], with a layer for each connection.
    pub fn upstream_over(
        &mut self,
        layers: Option<Box<dyn Layers>>,
        address: impl Into<Address>,
        behaviour: Behaviour,
    ) {
        self.upstreams.push(Upstream { address: address.into(), behaviour, layers, peers: Vec::new() });
    }

    /// The peers that have served connections to an upstream's address so far.
    pub fn upstream_peers(&self, address: impl Into<Address>) -> &[PeerId] {
        let address = address.into();
        self.upstreams.iter().find(|upstream| upstream.address == address).map_or(&[], |upstream| &upstream.peers)
    }

    /// Makes a name resolvable. Addresses in text form always are.
    pub fn host(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.hosts.insert(name.to_owned(), addresses);
    }

    /// Adds a file, which this path names beneath every root.
    pub fn file(&mut self, path: &str, bytes: Vec<u8>) {
        self.files.add(path, bytes);
    }

    /// All files: the path beneath every root, and the bytes.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.files.all()
    }

    /// Plants a bug: it happens at the occasion after `occasions` others.
    pub fn plant_bug(&mut self, planted_bug: PlantedBug, occasions: u32) {
        self.bug_injector.plan(planted_bug, occasions);
    }

    /// Whether the planted bug has happened.
    pub const fn has_planted_bug(&self) -> bool {
        self.bug_injector.has_struck()
    }

    /// A peer, with what it sent and received.
    pub fn peer(&self, id: PeerId) -> &Peer {
        &self.peers[id.0]
    }

    /// Whether an injected fault hit this peer's connection.
    pub fn is_faulted(&self, id: PeerId) -> bool {
        self.peers[id.0].wire.is_some_and(|(wire, _)| self.wires[wire.0].faulted)
    }

    /// How many bytes of what a peer sent were received on the other side of its connection. Over a
    /// layer: plaintext that can be decrypted there.
    pub fn taken_from(&self, id: PeerId) -> usize {
        let Peer { wire, layered, .. } = &self.peers[id.0];
        let taken = wire.map_or(0, |(wire, side)| self.wires[wire.0].taken_from(side));
        layered.as_ref().map_or(taken, |layered| layered.layer.plaintext_in(taken))
    }

    /// How many bytes a peer has not read: at the end of a run, a slow peer may not have read all. Over a
    /// layer, encrypted bytes: not fewer than their plaintext.
    pub fn unread_by(&self, id: PeerId) -> usize {
        let Peer { wire, layered, .. } = &self.peers[id.0];
        let unread = wire.map_or(0, |(wire, side)| self.wires[wire.0].unread_by(side));
        unread + layered.as_ref().map_or(0, |layered| layered.layer.undecrypted())
    }

    /// Whether every peer is done ([`Peer::is_done`]).
    pub fn peers_are_done(&self) -> bool {
        self.peers.iter().all(Peer::is_done)
    }

    /// All breaches of the contract so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The faults injected so far.
    pub const fn injected(&self) -> Injected {
        self.injected
    }

    /// Whether the last turn had no time limit and no event was scheduled: a real driver would have
    /// waited forever.
    pub const fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// How many operations have had no final outcome.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().flatten().count()
    }

    /// The most memory that a send in flight holds, in bytes.
    pub fn sending_memory_max(&self) -> usize {
        let memory = |op_state: &OpState| match &op_state.op {
            Op::Send { chain, .. } | Op::SendFile { head: chain, .. } => chain.memory(),
            _ => 0,
        };
        self.in_flight.iter().flatten().map(memory).max().unwrap_or_default()
    }

    /// A hash of all steps: equal for two runs with the same steps at the same times.
    pub const fn fingerprint(&self) -> u64 {
        self.trace.fingerprint()
    }

    fn violate(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation(what));
        }
    }

    /// A random moment within the latency limit.
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

    /// Schedules a look at one end of a connection, by the socket or peer there.
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

    fn look_at_recv(&mut self, key: Key<Socket>) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key)
            && stream.recv.is_some()
            && !std::mem::replace(&mut stream.recv_is_due, true)
        {
            self.schedule_soon(Event::Recv(key));
        }
    }

    fn look_at_send(&mut self, key: Key<Socket>) {
        if let Some(Descriptor::Stream(stream)) = self.sockets.get_mut(key)
            && stream.send.is_some()
            && !std::mem::replace(&mut stream.send_is_due, true)
        {
            self.schedule_soon(Event::Send(key));
        }
    }

    fn look_at_accept(&mut self, key: Key<Socket>) {
        if let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(key)
            && !std::mem::replace(&mut listening.is_due, true)
        {
            self.schedule_soon(Event::Accept(key));
        }
    }

    /// Draws how a new peer reads.
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

    /// Receives that wait for a buffer try again if there is one.
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

    /// Removes an operation from those in flight.
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
            // Events this soon after the first completion are still collected in the same turn.
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

/// The address from which state machines connect.
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);

/// The first violations explain a failure; a broken state machine may cause an endless number.
const VIOLATIONS_MAX: usize = 16;

/// The most virtual time between the completions of one turn.
const LINGER_NANOS_MAX: u64 = 20_000;
