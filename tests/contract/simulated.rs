//! The simulated driver with its world, as cases use them.

use std::any::Any;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use xps::internals::buffer::{Pool, PoolConfig};
use xps::internals::driver::sim::{Behaviour, Chance, Faults, PeerEnd, PeerId, Sim, Step};
use xps::internals::driver::{Address, Completion, Counters, Driver, Ops, Peer, Socket, Time, Turn};

use crate::world::{End, Heard, World, unix};

/// A simulation and what is known of its world.
pub struct Simulated {
    sim: Sim,
    /// How many listeners and servers there are.
    addresses: u16,
}

/// The far end of a simulated connection.
pub struct SimulatedFar {
    peer: PeerId,
    /// How many of the received bytes were returned.
    returned: usize,
}

/// A simulated server.
pub struct SimulatedServer {
    address: Address,
    /// How many of its connections were returned.
    returned: usize,
}

impl Simulated {
    pub fn new(pool: PoolConfig, seed: u64) -> Self {
        let mut faults = Faults { descriptors_max: 100_000, pool, ..Faults::none() };
        if !seed.is_multiple_of(2) {
            // No guarantee rules them out, and they cost neither bytes nor connections.
            faults.short_reads = Chance::per_mille(300);
            faults.short_writes = Chance::per_mille(300);
            faults.accept_pauses = Chance::per_mille(100);
            faults.buffer_shortages = Chance::per_mille(100);
        }
        let mut sim = Sim::new(seed, faults);
        sim.host("localhost", vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        Self { sim, addresses: 0 }
    }

    fn address(&mut self) -> SocketAddr {
        self.addresses += 1;
        SocketAddr::from(([192, 0, 2, 80], self.addresses))
    }
}

impl Driver for Simulated {
    fn turn(&mut self, ops: &mut Ops, wait: Option<Duration>, done: &mut Vec<Completion>) -> io::Result<Turn> {
        self.sim.turn(ops, wait, done)
    }

    fn now(&self) -> Time {
        self.sim.now()
    }

    fn pool(&self) -> &Pool {
        self.sim.pool()
    }

    fn counters(&self) -> Counters {
        self.sim.counters()
    }

    fn open_descriptors(&self) -> usize {
        self.sim.open_descriptors()
    }
}

impl World for Simulated {
    type Far = SimulatedFar;
    type Server = SimulatedServer;

    const HAS_SPECIAL_FILES: bool = false;
    const TAKES_ALL: bool = false;

    fn listener(&mut self) -> (Socket, SocketAddr) {
        let address = self.address();
        (self.sim.listener(address), address)
    }

    fn connection(&mut self) -> (Socket, SimulatedFar) {
        let (socket, peer) = self.sim.connection();
        (socket, SimulatedFar { peer, returned: 0 })
    }

    fn client(&mut self, to: SocketAddr) -> SimulatedFar {
        let peer = self.sim.client(to, Duration::ZERO, vec![Step::AwaitSteps]);
        self.sim.set_reading(peer, false);
        SimulatedFar { peer, returned: 0 }
    }

    fn client_address(&self, client: &SimulatedFar) -> SocketAddr {
        match self.sim.peer(client.peer).name() {
            Peer::Inet(address) => address,
            other => panic!("{other:?}"),
        }
    }

    fn servers(&mut self) -> Vec<(Address, SimulatedServer)> {
        let addresses = [Address::from(self.address()), unix(Path::new("/simulated/socket"))];
        let servers = addresses.map(|address| {
            self.sim.upstream(address.clone(), Behaviour::Serve(vec![Step::AwaitSteps]));
            (address.clone(), SimulatedServer { address, returned: 0 })
        });
        servers.into()
    }

    fn accepted(&mut self, server: &mut SimulatedServer) -> SimulatedFar {
        let peer = self.sim.upstream_peers(server.address.clone())[server.returned];
        server.returned += 1;
        self.sim.set_reading(peer, false);
        SimulatedFar { peer, returned: 0 }
    }

    fn dead_addresses(&mut self) -> (Vec<(Address, i32)>, Box<dyn Any>) {
        let stale = unix(Path::new("/simulated/stale"));
        self.sim.upstream(stale.clone(), Behaviour::Refuse);
        let addresses = vec![
            (self.address().into(), libc::ECONNREFUSED),
            (stale, libc::ECONNREFUSED),
            (unix(Path::new("/simulated/nothing")), libc::ENOENT),
        ];
        (addresses, Box::new(()))
    }

    fn write(&mut self, far: &mut SimulatedFar, bytes: &[u8]) {
        self.sim.instruct(far.peer, [Step::Send(bytes.to_vec()), Step::Flush]);
    }

    fn pour(&mut self, far: &mut SimulatedFar, bytes: Vec<u8>) {
        self.sim.instruct(far.peer, [Step::Send(bytes)]);
    }

    fn end_sending(&mut self, far: &mut SimulatedFar) {
        self.sim.instruct(far.peer, [Step::ShutdownWrite]);
    }

    fn listen(&mut self, far: &mut SimulatedFar) {
        self.sim.set_reading(far.peer, true);
    }

    fn try_read(&mut self, far: &mut SimulatedFar, count: usize) -> Option<Vec<u8>> {
        self.listen(far);
        let bytes = self.sim.peer(far.peer).received().get(far.returned..far.returned + count)?.to_vec();
        far.returned += count;
        Some(bytes)
    }

    fn try_read_rest(&mut self, far: &mut SimulatedFar) -> Option<Heard> {
        self.listen(far);
        let peer = self.sim.peer(far.peer);
        let end = match peer.end() {
            Some(PeerEnd::WasReset) => End::Reset,
            _ if peer.saw_eof() => End::Orderly,
            None => return None,
            Some(other) => panic!("{other:?}"),
        };
        let bytes = peer.received()[far.returned..].to_vec();
        far.returned += bytes.len();
        Some((bytes, end))
    }

    fn close(&mut self, far: SimulatedFar) {
        self.sim.instruct(far.peer, [Step::Close]);
    }

    fn reset(&mut self, far: SimulatedFar) {
        self.sim.instruct(far.peer, [Step::Reset]);
    }

    fn put(&mut self, _: &Path, name: &str, bytes: &[u8]) {
        self.sim.file(name, bytes.to_vec());
    }

    fn file(&self, _: &Path, name: &str) -> Option<Vec<u8>> {
        let mut files = self.sim.files();
        files.find_map(|(path, bytes)| (path == name.as_bytes()).then(|| bytes.to_vec()))
    }

    fn breaches(&self) -> Vec<String> {
        self.sim.violations().iter().map(ToString::to_string).collect()
    }
}
