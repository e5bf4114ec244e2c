//! Tunnels that wait for a place at their upstream, with few receive buffers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use xps::internals::buffer::PoolConfig;
use xps::internals::config::UpstreamAddress;
use xps::internals::core::{Core, ListenerId};
use xps::internals::driver::Driver;
use xps::internals::driver::sim::{Behaviour, Faults, Sim, Step};
use xps::internals::session::Service;
use xps::internals::upstream::group::QueueConfig;
use xps::internals::upstream::{ConnectPolicy, GroupConfig, UpstreamGroup, Upstreams};

use crate::scenario::{Mood, Scenario};

pub const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 3000);
pub const LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)), 80);

/// What they keep of their clients meanwhile must not be in the buffers with which the tunnel that has the place goes on.
#[test]
fn tunnels_that_wait_for_a_place_hold_no_receive_buffers() {
    for seed in 0..50 {
        let calm = Scenario::new(seed, Mood::Calm);
        let pool = PoolConfig { small_max: 4, large_max: 0, ..calm.faults.pool };
        let mut sim = Sim::new(seed, Faults { pool, ..Faults::none() });
        sim.upstream(UPSTREAM, Behaviour::echo());
        let mut core = Core::new(calm.limits);
        core.add_listener(ListenerId(0), sim.listener(LISTENER), tunnel().into());
        let payload = vec![b'x'; 40_000];
        let steps = [Step::Send(payload.clone()), Step::ShutdownWrite, Step::ReadUntilEof];
        let clients: Vec<_> = (0..8).map(|_| sim.client(LISTENER, Duration::ZERO, steps.to_vec())).collect();
        serve(seed, &mut sim, &mut core);
        assert!(clients.iter().all(|client| sim.peer(*client).received() == payload), "seed {seed}");
    }
}

/// To an upstream with one place, for which any number of clients waits any time.
fn tunnel() -> Service {
    let address = UpstreamAddress::tcp(UPSTREAM.ip().to_string(), UPSTREAM.port());
    let queue = QueueConfig { timeout: Duration::ZERO, ..QueueConfig::default() };
    let mut config = GroupConfig { queue, ..GroupConfig::of([address]) };
    config.endpoints.iter_mut().for_each(|endpoint| endpoint.connections_max = 1);
    let group = UpstreamGroup::sharing(&mut Upstreams::default(), config, &[None], 0);
    Service::Proxy(group, ConnectPolicy { tries_max: 0, connect_timeout: Duration::ZERO })
}

/// Serves until every peer is done, then drains.
pub fn serve(seed: u64, sim: &mut Sim, core: &mut Core) {
    let (mut done, mut is_draining) = (Vec::new(), false);
    while !core.is_finished() {
        if sim.peers_are_done() && !is_draining {
            is_draining = true;
            core.drain(sim.now(), None);
        }
        let wait = core.wait(sim.now());
        let turn = sim.turn(core.ops(), wait, &mut done).expect("the simulation never fails");
        let is_stalled = sim.is_stalled() && (is_draining || !sim.peers_are_done());
        assert!(!is_stalled, "seed {seed}: a stall, with {:?}", core.live_counts());
        core.set_share(sim.pool().share());
        core.on_turn(turn.now, &mut done);
    }
}
