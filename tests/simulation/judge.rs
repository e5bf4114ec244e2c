//! What every peer should have got, and whether it did. What may be missing, and why, stands in `allowance.rs`.

use xps::internals::driver::Driver;
use xps::internals::driver::sim::{PeerEnd, PeerId, Sim};

use crate::allowance::{self, Allowance};
use crate::judge_forward::{self, judge_origins};
use crate::scenario::{Client, Reply, Request, Scenario, Service, Stop, TEXT, Upstream};
use crate::tls::Manner;
use crate::{judge_gateway, judge_h2, judge_tls};

/// Judges every client and its upstream. Returns how many clients got everything.
pub fn judge(scenario: &Scenario, sim: &Sim, peers: &[PeerId], alarms: &mut Vec<String>) -> u64 {
    let mut whole = 0;
    if let Err(what) = judge_origins(scenario) {
        alarms.push(what);
    }
    for (number, (client, peer)) in scenario.clients.iter().zip(peers).enumerate() {
        let verdict = judge_tls::judge_client(scenario, number, sim, *peer).and_then(|is_told| match is_told {
            true => Ok(false),
            false => judge_client(scenario, number, sim, *peer),
        });
        match verdict {
            Ok(is_whole) => whole += u64::from(is_whole),
            Err(what) => alarms.push(format!("{peer:?} ({}): {what}", name(&client.service))),
        }
    }
    if let Err(what) = judge_tls::judge_origins(scenario, sim) {
        alarms.push(what);
    }
    if let Err(what) = judge_gateway::judge_origins(scenario, sim, peers) {
        alarms.push(what);
    }
    whole
}

fn judge_client(scenario: &Scenario, number: usize, sim: &Sim, id: PeerId) -> Result<bool, String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    if let Some(log) = &client.http2 {
        return judge_h2::judge_client(scenario, number, &log.borrow(), sim, id);
    }
    if let Service::Http(requests) = &client.service {
        return judge_http(scenario, number, requests, sim, id);
    }
    if let Service::Forward(asks) = &client.service {
        return judge_forward::judge_client(scenario, number, asks, sim, id);
    }
    let expected = expected(client, scenario.limits.line_bytes_max);
    prefix("received", peer.received(), &expected)?;
    prefix("sent", peer.sent(), &client.payload)?;
    let is_undisturbed = allowance::is_undisturbed(scenario, client, sim, id);
    let mut must_be_whole = client.is_polite && is_undisturbed;
    match &client.service {
        Service::Echo | Service::Reverse | Service::Text | Service::Http(_) | Service::Forward(_) => {}
        Service::File(case) => {
            must_be_whole &= !allowance::has_file_trouble(sim);
            must_be_whole &= !allowance::is_refused_over_tls(*case, scenario.manner_of(number));
        }
        Service::Proxy(upstream) => {
            let servers = sim.upstream_peers(upstream.address());
            must_be_whole &= !allowance::has_upstream_trouble(sim);
            must_be_whole &= !Allowance::Faulted.if_so(servers.iter().any(|server| sim.is_faulted(*server)));
            for server in servers {
                judge_proxied(scenario, number, upstream, sim, (id, *server), expected.len())?;
            }
            if must_be_whole {
                let [server] = servers else { return Err(format!("{} connections to its upstream", servers.len())) };
                equal("the upstream received", sim.peer(*server).received(), &client.payload)?;
            }
        }
    }
    if must_be_whole {
        equal("received", peer.received(), &expected)?;
        if peer.end() != Some(PeerEnd::Closed) || !peer.saw_eof() {
            return Err(format!("ended as {:?}, saw the end of input: {}", peer.end(), peer.saw_eof()));
        }
    }
    if scenario.stop == Stop::WhenDone && peer.end().is_none() {
        return Err(format!("has not ended at {:?}", sim.now()));
    }
    Ok(must_be_whole)
}

/// What passes between one client and its upstream, whichever of them breaks off.
fn judge_proxied(
    scenario: &Scenario,
    number: usize,
    upstream: &Upstream,
    sim: &Sim,
    (id, server_id): (PeerId, PeerId),
    expected_bytes: usize,
) -> Result<(), String> {
    let (client, peer, server) = (&scenario.clients[number], sim.peer(id), sim.peer(server_id));
    prefix("the upstream received", server.received(), &client.payload)?;
    let is_patient = !Allowance::Hurried.if_so(scenario.stop != Stop::WhenDone);
    let is_cut = peer.received().len() < expected_bytes && peer.end() == Some(PeerEnd::Closed);
    let manner = scenario.upstream_manner(number);
    let has_broken_off = server.end() == Some(PeerEnd::BrokeOff)
        || manner.is_some_and(Manner::is_spoiled) && server.end() != Some(PeerEnd::Closed);
    let is_passed_on = has_broken_off && !allowance::was_not_reached(sim, server_id, manner);
    if is_patient && is_passed_on && is_cut && peer.saw_eof() {
        return Err("took a part for the whole: its upstream broke off, it saw an orderly end".into());
    }
    // What the proxy has received reaches the other side, however the one that sent it ended.
    let (taken, got) = (sim.taken_from(server_id), peer.received().len() + sim.unread_by(id));
    let is_sending = Allowance::HearsInSending.if_so(peer.sent().len() < client.payload.len());
    if allowance::is_undisturbed(scenario, client, sim, id) && !is_sending && got < taken {
        return Err(format!("got {got} of {taken} bytes that its upstream had sent before it ended"));
    }
    let (taken, got) = (sim.taken_from(id), server.received().len() + sim.unread_by(server_id));
    let is_used = !Allowance::NowhereToGo.if_so(server.received().is_empty());
    let answers = upstream.answer == Reply::Echo || (1..expected_bytes).contains(&server.sent().len());
    let is_sending = Allowance::HearsInSending.if_so(answers);
    let reads_all = upstream.is_polite && !is_sending && !Allowance::Faulted.if_so(sim.is_faulted(server_id));
    if is_patient && reads_all && is_used && got < taken {
        return Err(format!("its upstream got {got} of {taken} bytes that it had sent"));
    }
    Ok(())
}

/// Each request has its answer, in order; where the connection was cut, the last one is a beginning of it.
fn judge_http(scenario: &Scenario, number: usize, requests: &[Request], sim: &Sim, id: PeerId) -> Result<bool, String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    prefix("sent", peer.sent(), &client.payload)?;
    let files_fail = allowance::has_file_trouble(sim);
    let patient = !Allowance::Hurried.if_so(scenario.stop != Stop::WhenDone);
    let must_be_whole = client.is_polite && allowance::is_undisturbed(scenario, client, sim, id) && !files_fail;
    let mut rest = peer.received();
    let mut answered = 0;
    // After a request that is malformed nothing is read as one.
    let last = requests.iter().position(|request| request.expected().0 == 400);
    let requests = &requests[..last.map_or(requests.len(), |last| last + 1)];
    for (number, request) in requests.iter().enumerate() {
        let Some(head_end) = rest.windows(4).position(|window| window == b"\r\n\r\n") else { break };
        let (head, body) = rest.split_at(head_end + 4);
        let head = std::str::from_utf8(head).map_err(|_| "a head that is not text".to_owned())?;
        let status: u16 = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or("no status")?;
        let (expected_status, expected_body) = request.expected();
        // A file that could not be had, or a client that was too slow, are told so.
        let is_excused = (files_fail && matches!(status, 403 | 500 | 503)) || (!patient && status == 408);
        if status != expected_status && !is_excused {
            return Err(format!("request {number}, {request:?}: {status} for {expected_status}"));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(Ok(0), str::parse);
        let length: usize = length.map_err(|_| "no length".to_owned())?;
        let length = if matches!(request, Request::Head(_)) { 0 } else { length };
        let got = &body[..length.min(body.len())];
        if let (Some(expected), false) = (expected_body, is_excused) {
            if length != expected.len() {
                return Err(format!("request {number}, {request:?}: promises {length} bytes of {}", expected.len()));
            }
            prefix("body", got, &expected)?;
        }
        if got.len() < length {
            rest = &[];
            break;
        }
        rest = &body[length..];
        answered += 1;
        if head.contains("Connection: close\r\n") {
            break;
        }
    }
    if answered == requests.len() && !rest.is_empty() {
        return Err(format!("{} bytes after the last answer", rest.len()));
    }
    if must_be_whole {
        if answered < requests.len() {
            return Err(format!("{answered} answers to {} requests", requests.len()));
        }
        if !allowance::ended_in_order(peer, last.is_some(), scenario.manner_of(number)) {
            return Err(format!("ended as {:?}, saw the end of input: {}", peer.end(), peer.saw_eof()));
        }
    }
    if patient && peer.end().is_none() {
        return Err(format!("has not ended at {:?}", sim.now()));
    }
    Ok(must_be_whole)
}

/// What the service's definition says that the client gets if nothing goes wrong.
fn expected(client: &Client, line_bytes_max: usize) -> Vec<u8> {
    match &client.service {
        Service::Echo => client.payload.clone(),
        Service::Reverse => reversed(&client.payload, line_bytes_max),
        Service::Text => TEXT.to_vec(),
        Service::File(case) => case.bytes(),
        Service::Http(_) | Service::Forward(_) => Vec::new(),
        Service::Proxy(upstream) => match &upstream.answer {
            Reply::Echo => client.payload.clone(),
            Reply::Bytes(bytes) => bytes.clone(),
        },
    }
}

/// The reference for `reverse`: each line, or piece of one beyond the limit, backwards, its newline in place.
fn reversed(bytes: &[u8], line_bytes_max: usize) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let pieces = lines.flat_map(|line| line.chunks(line_bytes_max));
    let backwards = pieces.flat_map(|piece| {
        let (text, newline) = match piece.split_last() {
            Some((b'\n', text)) => (text, &b"\n"[..]),
            _ => (piece, &b""[..]),
        };
        text.iter().rev().chain(newline)
    });
    backwards.copied().collect()
}

pub fn prefix(what: &str, got: &[u8], whole: &[u8]) -> Result<(), String> {
    if whole.starts_with(got) {
        return Ok(());
    }
    let at = got.iter().zip(whole).position(|(got, expected)| got != expected).unwrap_or(whole.len());
    Err(format!("{what} {} bytes, which differ at {at} from the {} expected", got.len(), whole.len()))
}

fn equal(what: &str, got: &[u8], whole: &[u8]) -> Result<(), String> {
    prefix(what, got, whole)?;
    if got.len() == whole.len() { Ok(()) } else { Err(format!("{what} only {} of {} bytes", got.len(), whole.len())) }
}

const fn name(service: &Service) -> &'static str {
    match service {
        Service::Echo => "echo",
        Service::Reverse => "reverse",
        Service::Text => "text",
        Service::File(_) => "file",
        Service::Proxy(_) => "proxy",
        Service::Http(_) => "http",
        Service::Forward(_) => "forward",
    }
}
