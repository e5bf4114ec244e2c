//! Upstream connections: reuse, sharing between groups, and changed addresses.

use std::net::SocketAddr;

use super::*;
use crate::driver::Driver;
use crate::driver::sim::{Behaviour, Faults, Sim};
use crate::table::RawKey;
use crate::upstream::{GroupConfig, UpstreamGroup, Upstreams};

const OWNER: Waiter = Waiter::only_stream_of(RawKey::from_parts(7, 0).typed());
const KEEP_ALIVE: KeepAlive = KeepAlive { idle_max: 4, idle_timeout: Duration::from_secs(60) };

/// A pool, and a simulation in which each of these addresses accepts connections.
struct Rig {
    sim: Sim,
    ops: Ops,
    pool: UpstreamPool,
}

impl Rig {
    fn new(addresses: &[&str]) -> Self {
        let mut sim = Sim::new(1, Faults::none());
        for address in addresses {
            sim.upstream(socket_address(address), Behaviour::echo());
        }
        Self { sim, ops: Ops::new(), pool: UpstreamPool::default() }
    }

    fn turn(&mut self) {
        let mut done = Vec::new();
        self.sim.turn(&mut self.ops, None, &mut done).unwrap();
        for completion in done {
            let token = self.ops.settle(completion.id, completion.outcome.is_final()).unwrap();
            self.pool.on_outcome(token, completion.outcome, self.sim.now());
        }
        self.pool.pump(self.sim.now(), &mut self.ops);
    }

    fn acquire(&mut self, upstream: &Rc<Upstream>) -> ConnectionKey {
        self.pool.acquire(upstream, OWNER, false, Duration::ZERO, None)
    }

    /// A new connection that has become idle.
    fn idle(&mut self, upstream: &Rc<Upstream>) -> ConnectionKey {
        let key = self.acquire(upstream);
        for _ in 0..1000 {
            let now = self.sim.now();
            if let ConnectStatus::Ready(connection) = self.pool.get_mut(key).unwrap().poll_connect(now, &mut self.ops) {
                connection.set_receiving(true, &mut self.ops);
                self.pool.release(key, Release::Keep(KEEP_ALIVE), now);
                return key;
            }
            self.turn();
        }
        panic!("not connected");
    }

    fn expect_gone(&mut self, key: ConnectionKey) {
        for _ in 0..1000 {
            self.turn();
            if !self.pool.contains(key) {
                return;
            }
        }
        panic!("not closed");
    }
}

fn socket_address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn an_idle_connection_to_where_a_name_no_longer_leads_is_not_used_again() {
    let mut rig = Rig::new(&["10.0.0.1:80", "10.0.0.2:80"]);
    let upstream = Upstream::new("app:80".parse().unwrap(), None);
    upstream.remember(vec![socket_address("10.0.0.1:80")], rig.sim.now());
    let old = rig.idle(&upstream);
    upstream.remember(vec![socket_address("10.0.0.2:80")], rig.sim.now());
    let new = rig.acquire(&upstream);
    assert!(new != old && !rig.pool.get_mut(new).unwrap().is_reused());
    assert_eq!(rig.pool.idle(), 0);
    rig.expect_gone(old);
}

#[test]
fn groups_share_the_idle_connections_to_one_address() {
    let mut rig = Rig::new(&["10.0.0.1:80"]);
    let mut upstreams = Upstreams::default();
    let config = || GroupConfig::of(["10.0.0.1:80".parse().unwrap()]);
    let groups = [(); 2].map(|()| UpstreamGroup::sharing(&mut upstreams, config(), &[], 0));
    let [one, other] = groups.map(|group| Rc::clone(group.upstream(crate::upstream::group::EndpointId(0))));
    let connection = rig.idle(&one);
    assert_eq!(rig.acquire(&other), connection);
}

#[test]
fn what_leads_to_no_group_in_force_neither_stays_nor_becomes_idle() {
    let mut rig = Rig::new(&["10.0.0.1:80"]);
    let mut upstreams = Upstreams::default();
    let group = UpstreamGroup::sharing(&mut upstreams, GroupConfig::of(["10.0.0.1:80".parse().unwrap()]), &[], 0);
    let upstream = Rc::clone(group.upstream(crate::upstream::group::EndpointId(0)));
    let in_use = rig.idle(&upstream);
    assert_eq!(rig.acquire(&upstream), in_use);
    let stays = rig.idle(&upstream);
    upstreams.put_in_force(&[Rc::clone(&group)]);
    rig.pool.close_stranded();
    assert_eq!(rig.pool.idle(), 1);
    upstreams.put_in_force(&[]);
    rig.pool.close_stranded();
    assert_eq!(rig.pool.idle(), 0);
    rig.pool.release(in_use, Release::Keep(KEEP_ALIVE), rig.sim.now());
    assert_eq!(rig.pool.idle(), 0);
    rig.expect_gone(stays);
}
