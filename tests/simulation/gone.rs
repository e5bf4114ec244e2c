//! A client that has reset its connection before it was accepted: nobody can say any more whose it was.

use std::time::Duration;

use xps::internals::config::UpstreamAddress;
use xps::internals::core::{Core, ListenerId};
use xps::internals::driver::sim::{Behaviour, Chance, Faults, Sim, Step};
use xps::internals::session::Service;
use xps::internals::tcp::proxy_header::ProxyVersion;
use xps::internals::upstream::{ConnectPolicy, GroupConfig, UpstreamGroup, Upstreams};

use crate::scenario::{Mood, Scenario};
use crate::tunnel_queue::{LISTENER, UPSTREAM, serve};

/// What it has sent is still there. Passed on with a header without addresses, it would be the proxy's own for the upstream.
#[test]
fn a_client_without_an_address_is_not_announced_as_the_proxy_itself() {
    let mut announced = 0;
    for seed in 0..100 {
        let calm = Scenario::new(seed, Mood::Calm);
        let faults = Faults { accept_pauses: Chance::per_mille(300), ..calm.faults };
        let mut sim = Sim::new(seed, faults);
        sim.upstream(UPSTREAM, Behaviour::echo());
        let mut core = Core::new(calm.limits);
        core.add_listener(ListenerId(0), sim.listener(LISTENER), tunnel().into());
        for number in 0..8 {
            let steps = vec![Step::Send(vec![b'x'; 100]), Step::Stall(Duration::from_millis(20)), Step::Reset];
            sim.client(LISTENER, Duration::from_millis(number), steps);
        }
        serve(seed, &mut sim, &mut core);
        for server in sim.upstream_peers(UPSTREAM) {
            let received = sim.peer(*server).received();
            let is_client = received.is_empty() || received.starts_with(b"PROXY TCP4 192.0.2.1 ");
            assert!(is_client, "seed {seed}: {}", received.escape_ascii());
            announced += usize::from(!received.is_empty());
        }
    }
    assert!((50..800).contains(&announced), "{announced} of 800 were announced");
}

fn tunnel() -> Service {
    let address = UpstreamAddress::tcp(UPSTREAM.ip().to_string(), UPSTREAM.port());
    let config = GroupConfig { announce: Some(ProxyVersion::V1), ..GroupConfig::of([address]) };
    let group = UpstreamGroup::sharing(&mut Upstreams::default(), config, &[None], 0);
    Service::Proxy(group, ConnectPolicy { tries_max: 0, connect_timeout: Duration::ZERO })
}
