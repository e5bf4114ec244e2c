//! What TLS adds to what is demanded. Everything else is about plaintext, and the same with it and without.

use xps::internals::driver::sim::{PeerEnd, PeerId, Sim};

use crate::forward::origin_address;
use crate::judge_gateway;
use crate::scenario::{Scenario, Service, Stop};
use crate::tls::{Flaw, Manner};

/// Judges how a client and its upstream spoke TLS. Returns whether nothing else is to be said of the client.
pub fn judge_client(scenario: &Scenario, number: usize, sim: &Sim, id: PeerId) -> Result<bool, String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    let servers = match &client.service {
        Service::Proxy(upstream) => sim.upstream_peers(upstream.address()),
        _ => &[],
    };
    for server in servers {
        judge_end(sim, *server, scenario.upstream_manner(number)).map_err(|what| format!("its upstream {what}"))?;
    }
    judge_gateway::judge_tunnel(scenario, number, sim, id)?;
    let Some(manner) = scenario.manner_of(number) else { return Ok(false) };
    if manner.flaw != Flaw::Plain && scenario.lacks_certificate(number) {
        judge_gateway::judge_refused(scenario, number, sim, id)?;
        return Ok(true);
    }
    judge_end(sim, id, Some(manner))?;
    let is_patient = scenario.stop == Stop::WhenDone;
    // An end that was not one is passed on as none.
    if let (Flaw::NoEnd, true, Some(PeerEnd::BrokeOff)) = (&manner.flaw, is_patient, peer.end())
        && let Some(server) = servers.iter().find(|server| {
            // Else the connection was made when the client had left, for nothing.
            let server = sim.peer(**server);
            server.saw_eof() && !server.received().is_empty()
        })
    {
        return Err(format!("ended without saying so, and {server:?} saw an orderly end"));
    }
    if manner.flaw != Flaw::Plain {
        return Ok(false);
    }
    judge_plain(scenario, number, sim, id)?;
    Ok(true)
}

/// Judges how the servers behind the proxy spoke TLS.
pub fn judge_origins(scenario: &Scenario, sim: &Sim) -> Result<(), String> {
    for number in 0..scenario.forwarding.origins.len() {
        for peer in sim.upstream_peers(origin_address(number)) {
            judge_end(sim, *peer, scenario.forwarding.manner_of(number))
                .map_err(|what| format!("{peer:?} (origin {number}): {what}"))?;
        }
    }
    Ok(())
}

/// Nothing but what the peer itself has spoiled makes one side refuse what the other sends.
fn judge_end(sim: &Sim, id: PeerId, manner: Option<&Manner>) -> Result<(), String> {
    let end = sim.peer(id).end();
    let is_refused = matches!(end, Some(PeerEnd::Alerted | PeerEnd::Garbled));
    let is_allowed = manner.is_some_and(|manner| manner.is_spoiled() || manner.flaw == Flaw::NoEnd);
    if is_refused && !is_allowed { Err(format!("was {end:?}")) } else { Ok(()) }
}

/// Who speaks no TLS where it has to is not served, and gets an answer only where that can be understood.
fn judge_plain(scenario: &Scenario, number: usize, sim: &Sim, id: PeerId) -> Result<(), String> {
    const ALERT: u8 = 21;
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    let got = peer.received();
    let is_answer = b"HTTP/1.1 400 Bad Request\r\n".starts_with(&got[..got.len().min(26)]);
    if !got.is_empty() && got[0] != ALERT && !is_answer {
        return Err(format!("got {} bytes without TLS", got.len()));
    }
    match &client.service {
        Service::Proxy(upstream) if !sim.upstream_peers(upstream.address()).is_empty() => {
            return Err("was connected to its upstream without TLS".to_owned());
        }
        Service::Forward(asks) => {
            let log = scenario.forwarding.log.borrow();
            if log.iter().any(|exchange| asks.iter().any(|ask| Some(ask.id) == exchange.id)) {
                return Err("was forwarded without TLS".to_owned());
            }
        }
        _ => {}
    }
    let is_http = matches!(client.service, Service::Forward(_) | Service::Http(_));
    let is_undisturbed = !sim.is_faulted(id) && scenario.stop == Stop::WhenDone;
    let has_ended = peer.end() == Some(PeerEnd::Closed) && peer.saw_eof();
    if is_http
        && is_undisturbed
        && has_ended
        && peer.sent().len() == client.payload.len()
        && !(is_answer && got.len() > 26)
    {
        return Err("was not told that there is TLS".to_owned());
    }
    Ok(())
}
