//! Connects from and to simulated peers, name look-ups and file opens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::network::{Owner, Side, Wire, WireId};
use super::peers::{Behaviour, Peer, PeerEnd, PeerId, Reading};
use super::{Descriptor, Event, LOOPBACK, Sim, Step, Upstream};
use crate::driver::{Address, Fault, File, Outcome, Peer as Name, Socket};
use crate::table::Key;

impl Sim {
    /// A connection: a socket for state machines, and a peer that neither reads nor acts until
    /// [`Sim::set_reading`] and [`Sim::instruct`] say so.
    pub fn connection(&mut self) -> (Socket, PeerId) {
        let (wire, id) = (WireId(self.wires.len()), PeerId(self.peers.len()));
        let mut peer = Peer::new(Name::Inet(LOOPBACK), vec![Step::AwaitSteps], Reading::Never);
        peer.wire = Some((wire, Side::Callee));
        self.peers.push(peer);
        let socket = self.open_stream(wire, Side::Caller, Some(LOOPBACK));
        self.add_wire(Owner::Socket(socket.0), Owner::Peer(id));
        (socket, id)
    }

    pub(super) fn finish_connect(&mut self, address: &Address) -> Outcome {
        if !self.has_free_descriptor() {
            self.injected.descriptors += 1;
            return Outcome::Failed(Fault::Os(libc::EMFILE));
        }
        let wire = WireId(self.wires.len());
        if let Some(listener) = address.inet().and_then(|address| self.find_listener(address)) {
            let socket = self.open_stream(wire, Side::Caller, Some(LOOPBACK));
            self.add_wire(Owner::Socket(socket.0), Owner::Backlog);
            self.enqueue(listener, wire);
            return Outcome::Connected(socket);
        }
        let Some(index) = self.upstreams.iter().position(|upstream| upstream.address == *address) else {
            return Outcome::Failed(Fault::Os(match address {
                Address::Inet(_) => libc::ECONNREFUSED,
                Address::Unix(_) => libc::ENOENT,
            }));
        };
        match self.upstreams[index].behaviour.clone() {
            Behaviour::Serve(steps) => {
                let id = PeerId(self.peers.len());
                let reading = self.draw_reading();
                let name = address.inet().map_or(Name::Local, Name::Inet);
                let layer = self.upstreams[index].layers.as_ref().map(|layers| layers.next());
                let mut peer = Peer::new(name, steps, reading).over(layer);
                peer.wire = Some((wire, Side::Callee));
                peer.is_due = true;
                self.peers.push(peer);
                self.upstreams[index].peers.push(id);
                let socket = self.open_stream(wire, Side::Caller, address.inet().map(|_| LOOPBACK));
                self.add_wire(Owner::Socket(socket.0), Owner::Peer(id));
                self.schedule_soon(Event::Peer(id));
                Outcome::Connected(socket)
            }
            Behaviour::Refuse | Behaviour::Vanish => Outcome::Failed(Fault::Os(libc::ECONNREFUSED)),
        }
    }

    /// Whether connects to this address time out. Those to a unix path never do.
    pub(super) fn vanishes(&self, address: &Address) -> bool {
        let is_vanished =
            |upstream: &Upstream| upstream.address == *address && matches!(upstream.behaviour, Behaviour::Vanish);
        address.inet().is_some() && self.upstreams.iter().any(is_vanished)
    }

    /// Adds a connection, and schedules a reset by the peer for some of them.
    fn add_wire(&mut self, caller: Owner, callee: Owner) {
        let id = WireId(self.wires.len());
        self.wires.push(Wire::new(caller, callee, self.faults.socket_buffer_bytes));
        for (side, owner) in [(Side::Caller, caller), (Side::Callee, callee)] {
            if matches!(owner, Owner::Peer(_)) && self.rng.chance(self.faults.resets) {
                let longest = if self.rng.coin() { 1_000_000 } else { 500_000_000 };
                let delay = Duration::from_nanos(self.rng.below(longest));
                self.schedule_at(self.now + delay, Event::Reset(id, side));
            }
        }
    }

    pub(super) fn on_reset(&mut self, wire: WireId, side: Side) {
        let Owner::Peer(peer) = self.wires[wire.0].owner(side) else { return };
        if !self.wires[wire.0].is_closed(side) {
            self.injected.resets += 1;
            self.wires[wire.0].faulted = true;
            self.trace.world(self.now, "injected reset", peer.0 as u64, 0);
            self.wires[wire.0].close(side, true, &mut self.rng);
            self.peers[peer.0].finish(PeerEnd::BrokeOff);
            self.notify(wire, side.other());
        }
    }

    /// Connects a client, in its first turn.
    pub(super) fn connect_client(&mut self, peer: PeerId) {
        let listener = self.clients.get(&peer).and_then(|address| self.find_listener(*address));
        let Some(listener) = listener else {
            return self.peers[peer.0].finish(PeerEnd::Refused);
        };
        let wire = WireId(self.wires.len());
        self.add_wire(Owner::Peer(peer), Owner::Backlog);
        self.peers[peer.0].wire = Some((wire, Side::Caller));
        self.enqueue(listener, wire);
        self.notify(wire, Side::Caller);
    }

    fn enqueue(&mut self, listener: Key<Socket>, wire: WireId) {
        if let Some(Descriptor::Listener(listening)) = self.sockets.get_mut(listener) {
            listening.unix_connect_retry.push_back(wire);
        }
        self.look_at_accept(listener);
    }

    fn find_listener(&self, address: SocketAddr) -> Option<Key<Socket>> {
        self.sockets.iter().find_map(|(key, descriptor)| match descriptor {
            Descriptor::Listener(listening) if listening.address == address => Some(key),
            Descriptor::Listener(_) | Descriptor::Stream(_) => None,
        })
    }

    pub(super) fn finish_resolve(&mut self, host: &Arc<str>, port: u16) -> Outcome {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Outcome::Resolved(vec![SocketAddr::new(address, port)]);
        }
        let Some(known) = self.hosts.get(&**host) else {
            return Outcome::Failed(Fault::Resolver(libc::EAI_NONAME));
        };
        let mut addresses: Vec<_> = known.iter().map(|address| SocketAddr::new(*address, port)).collect();
        if self.rng.chance(self.faults.dead_addresses) {
            for _ in 0..self.rng.range(1, 3) {
                addresses.insert(0, SocketAddr::new(DEAD_ADDRESS, port));
            }
        }
        Outcome::Resolved(addresses)
    }

    pub(super) fn finish_open(&mut self, path: &std::ffi::CStr) -> Outcome {
        if !self.has_free_descriptor() {
            self.injected.descriptors += 1;
            return Outcome::Failed(Fault::Os(libc::EMFILE));
        }
        match self.files.open(path) {
            Ok((file, info)) => Outcome::Opened(File(self.open_files.insert(file)), info),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    pub(super) fn finish_create(&mut self, name: &std::ffi::CStr) -> Outcome {
        if !self.has_free_descriptor() {
            self.injected.descriptors += 1;
            return Outcome::Failed(Fault::Os(libc::EMFILE));
        }
        match self.files.create(name) {
            Ok((file, info)) => Outcome::Opened(File(self.open_files.insert(file)), info),
            Err(fault) => Outcome::Failed(fault),
        }
    }
}

/// An address without a server (TEST-NET-3, RFC 5737).
const DEAD_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
