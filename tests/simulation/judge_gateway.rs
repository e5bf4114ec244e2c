//! What gateways, certificates and announcements add to what is demanded.

use xps::internals::driver::sim::{PeerEnd, PeerId, Sim};
use xps::internals::driver::{Driver, Peer as Name};
use xps::internals::tcp::proxy_header::ProxyVersion;

use crate::allowance::{self, Allowance};
use crate::forward::{PROXY_ADDRESS, origin_address};
use crate::gateway::{Beginnings, CHECK_ID, Ends, Told, ToldTls, read_header};
use crate::message::Head;
use crate::scenario::{Scenario, Service, Stop, listener_address};

/// Judges a client that shows no certificate where it has to: it gets nothing, and nobody hears of it.
pub fn judge_refused(scenario: &Scenario, number: usize, sim: &Sim, id: PeerId) -> Result<(), String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    if !peer.received().is_empty() {
        return Err(format!("got {} bytes without a certificate", peer.received().len()));
    }
    let is_passed_on = match &client.service {
        Service::Proxy(upstream) => !sim.upstream_peers(upstream.address()).is_empty(),
        Service::Forward(asks) => {
            let log = scenario.forwarding.log.borrow();
            log.iter().any(|exchange| asks.iter().any(|ask| Some(ask.id) == exchange.id))
        }
        Service::Echo | Service::Reverse | Service::Text | Service::File(_) | Service::Http(_) => false,
    };
    if is_passed_on {
        return Err("reached an upstream without a certificate".to_owned());
    }
    let is_told = peer.end() == Some(PeerEnd::Alerted)
        || Allowance::SendsAfterRefusal.if_so(peer.end() == Some(PeerEnd::WasReset));
    if allowance::is_undisturbed(scenario, client, sim, id) && !is_told {
        return Err(format!("was not told that a certificate is missing: {:?}", peer.end()));
    }
    if scenario.stop == Stop::WhenDone && peer.end().is_none() {
        return Err(format!("has not ended at {:?}", sim.now()));
    }
    Ok(())
}

/// Judges how a client was announced to its upstream.
pub fn judge_tunnel(scenario: &Scenario, number: usize, sim: &Sim, id: PeerId) -> Result<(), String> {
    let Service::Proxy(upstream) = &scenario.clients[number].service else { return Ok(()) };
    let manner = scenario.upstream_manner(number);
    let Some(beginnings) = manner.and_then(|manner| manner.beginnings.as_ref()) else { return Ok(()) };
    let expected = expected(scenario, number, sim.peer(id).name());
    judge_beginnings(beginnings, sim, sim.upstream_peers(upstream.address()), |told, _| {
        if *told == expected { Ok(()) } else { Err(format!("announced as {told:?} instead of {expected:?}")) }
    })
}

/// Judges how clients were announced to the servers behind the proxy: each connection carries the requests of the one that it
/// began with, or a health check.
pub fn judge_origins(scenario: &Scenario, sim: &Sim, peers: &[PeerId]) -> Result<(), String> {
    let is_checked = scenario.gateways().is_some_and(|gateways| gateways.checks.is_some());
    for origin in 0..scenario.forwarding.origins.len() {
        let manner = scenario.forwarding.manner_of(origin);
        let Some(beginnings) = manner.and_then(|manner| manner.beginnings.as_ref()) else { continue };
        let expected_of = |number: usize| expected(scenario, number, sim.peer(peers[number]).name());
        judge_beginnings(beginnings, sim, sim.upstream_peers(origin_address(origin)), |told, received| {
            let is_known = match request_id(received) {
                Some(CHECK_ID) => *told == Told::Own,
                Some(id) => *told == expected_of(id as usize / 100),
                None => (0..peers.len()).any(|number| *told == expected_of(number)) || is_checked && *told == Told::Own,
            };
            let asked = || received[..received.len().min(40)].escape_ascii().to_string();
            if is_known { Ok(()) } else { Err(format!("origin {origin}: {told:?} is announced, and asks {}", asked())) }
        })?;
    }
    Ok(())
}

/// Judges the beginnings of the connections to one upstream.
fn judge_beginnings(
    beginnings: &Beginnings,
    sim: &Sim,
    servers: &[PeerId],
    judge: impl Fn(&Told, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let beginnings = beginnings.borrow();
    if beginnings.len() != servers.len() {
        return Err(format!("{} beginnings of {} connections", beginnings.len(), servers.len()));
    }
    for (beginning, server) in beginnings.iter().zip(servers) {
        let received = sim.peer(*server).received();
        match read_header(beginning)? {
            Some((told, _)) => judge(&told, received)?,
            None if received.is_empty() => {}
            None => return Err(format!("{server:?} got {} bytes without a header", received.len())),
        }
    }
    Ok(())
}

/// What is said of this client, whose connection comes from `name`.
fn expected(scenario: &Scenario, number: usize, name: Name) -> Told {
    let gateways = scenario.gateways();
    let manner = scenario.manner_of(number);
    let of_gateway = manner.and_then(|manner| manner.ends).filter(|_| gateways.is_some_and(|all| all.are_trusted));
    let is_shared = matches!(scenario.clients[number].service, Service::Forward(_));
    let server = if is_shared { PROXY_ADDRESS } else { listener_address(number) };
    let ends = match (of_gateway, name) {
        (Some(ends), _) => ends,
        (None, Name::Inet(client)) => Ends { client, server },
        (None, Name::Local | Name::Gone) => return Told::Own,
    };
    let is_v2 = gateways.is_some_and(|gateways| gateways.announce == Some(ProxyVersion::V2));
    let common_name = scenario.shown_identity(number).map(str::to_owned);
    Told::Client { ends, tls: manner.filter(|_| is_v2).map(|_| ToldTls { common_name }) }
}

/// Who asks, in the first request.
fn request_id(received: &[u8]) -> Option<u32> {
    let head = Head::read(received).ok()??;
    head.start.split(' ').nth(1)?.strip_prefix('/')?.split('/').next()?.parse().ok()
}
