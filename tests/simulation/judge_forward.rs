//! Whether what was forwarded arrived as it was, once, and at the right place.

use xps::internals::driver::Driver;
use xps::internals::driver::sim::{PeerId, Sim};

use crate::allowance::{self, Allowance};
use crate::forward::{Ask, Forwarding, Method, origin_address};
use crate::gateway::CHECK_ID;
use crate::judge::prefix;
use crate::message::{Decoder, Head, passed_trailers_of};
use crate::origin::{Exchange, Origin};
use crate::scenario::{Scenario, Service, Stop};

/// What one client got: answers to its own requests, in order, and no part of one that could be taken for the whole.
/// Returns whether everything could be demanded, and was there.
pub fn judge_client(scenario: &Scenario, number: usize, asks: &[Ask], sim: &Sim, id: PeerId) -> Result<bool, String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    prefix("sent", peer.sent(), &client.payload)?;
    let patient = !Allowance::Hurried.if_so(scenario.stop != Stop::WhenDone);
    let forwarding = &scenario.forwarding;
    let reads_all = allowance::is_undisturbed(scenario, client, sim, id);
    let is_undisturbed = client.is_polite && reads_all && !allowance::origins_are_disturbed(forwarding, sim);
    let must_be_whole = is_undisturbed && forwarding.is_reliable();
    let mut rest = peer.received();
    let mut answered = 0;
    let mut is_cut_short = false;
    for ask in asks {
        let about = |what: String| format!("{:?} /{}: {what}", ask.method, ask.id);
        let taken = if client.is_polite && reads_all { taken_of(ask, forwarding, sim) } else { None };
        let Some(answer) = read_answer(ask, rest, peer.saw_eof()).map_err(about)? else {
            match taken {
                Some(bytes) => return Err(about(format!("nothing of an answer of which {bytes} bytes had come"))),
                None => break,
            }
        };
        let may_fail = !is_undisturbed || allowance::may_fail(ask, forwarding);
        let log = forwarding.log.borrow();
        let exchanges = log.iter().filter(|exchange| exchange.id == Some(ask.id));
        judge_answer(ask, &answer, may_fail, exchanges).map_err(about)?;
        rest = &rest[answer.length..];
        if !answer.is_whole {
            // What had come of it is delivered before the client sees that it is cut.
            let got = answer.body.len();
            if let Some(taken) = taken.filter(|taken| got < *taken) {
                return Err(about(format!("{got} of {taken} bytes that had come of the answer's body")));
            }
            break;
        }
        answered += 1;
        if answer.is_last {
            is_cut_short =
                ask.body.is_some() && answered < asks.len() && allowance::was_answered_early(ask, forwarding);
            break;
        }
        // Without an upgrade, the bytes of the other protocol are one more request, and a bad one.
        if answered == asks.len() && patient && !rest.is_empty() && ask.upgrade.is_none() {
            return Err(format!("{} bytes after the last answer", rest.len()));
        }
    }
    if must_be_whole && !is_cut_short {
        if answered < asks.len() {
            return Err(format!("{answered} answers to {} requests", asks.len()));
        }
        let is_early = |ask: &Ask| ask.body.is_some() && allowance::was_answered_early(ask, forwarding);
        if !allowance::ended_in_order(peer, asks.last().is_some_and(is_early), scenario.manner_of(number)) {
            return Err(format!("ended as {:?}, saw the end of input: {}", peer.end(), peer.saw_eof()));
        }
    }
    if patient && peer.end().is_none() {
        return Err(format!("has not ended at {:?}", sim.now()));
    }
    Ok(must_be_whole && !is_cut_short)
}

/// What the servers got: requests of the run, their bodies as they were sent, and each that must not be repeated once.
pub fn judge_origins(scenario: &Scenario) -> Result<(), String> {
    let asks = scenario.clients.iter().flat_map(|client| match &client.service {
        Service::Forward(asks) => &asks[..],
        Service::Echo | Service::Reverse | Service::Text | Service::File(_) | Service::Proxy(_) | Service::Http(_) => {
            &[]
        }
    });
    let asks: Vec<&Ask> = asks.collect();
    let log = scenario.forwarding.log.borrow();
    for exchange in log.iter() {
        if let Some(what) = &exchange.malformed {
            return Err(format!("{:?} arrived malformed: {what}", exchange.start));
        }
        if exchange.id == Some(CHECK_ID) && scenario.gateways().is_some_and(|gateways| gateways.checks.is_some()) {
            continue;
        }
        let ask = asks.iter().find(|ask| Some(ask.id) == exchange.id);
        let ask = ask.ok_or_else(|| format!("{:?} was asked by nobody", exchange.start))?;
        prefix("an upstream's body", &exchange.body, ask.body()).map_err(|what| format!("/{}: {what}", ask.id))?;
        if exchange.is_whole && exchange.body.len() < ask.body().len() && !ask.is_spare() {
            return Err(format!("/{}: a part of the body was presented as the whole", ask.id));
        }
        // Names have no case, and none of their own in HTTP/2.
        let trailers = |lines: &[String]| lines.iter().map(|line| line.to_lowercase()).collect::<Vec<_>>();
        if exchange.is_whole && trailers(&exchange.trailers) != trailers(&ask.passed_trailers()) {
            return Err(format!("/{}: trailers {:?}", ask.id, exchange.trailers));
        }
        if exchange.takes_trailers != ask.takes_trailers() {
            return Err(format!("/{}: wants trailers: {}", ask.id, exchange.takes_trailers));
        }
    }
    for ask in asks {
        let times = log.iter().filter(|exchange| exchange.id == Some(ask.id)).count();
        if times > 1 && !ask.method.is_idempotent() {
            return Err(format!("/{} was asked {times} times", ask.id));
        }
    }
    Ok(())
}

/// As the client reads it.
struct ReceivedResponse<'b> {
    status: u16,
    head: Head<'b>,
    body: Vec<u8>,
    trailers: Vec<String>,
    /// With the heads that only announced it.
    length: usize,
    /// The client cannot but think so.
    is_whole: bool,
    /// Nothing can follow.
    is_last: bool,
}

fn read_answer<'b>(ask: &Ask, bytes: &'b [u8], saw_eof: bool) -> Result<Option<ReceivedResponse<'b>>, String> {
    let mut start = 0;
    let (head, status) = loop {
        let Some(head) = Head::read(&bytes[start..])? else { return Ok(None) };
        let status = head.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status: u16 = status.ok_or_else(|| format!("no status: {:?}", head.start))?;
        start += head.length;
        match status {
            101 if ask.upgrade.is_some() => break (head, status),
            101 => return Err("another protocol, which nobody wanted".to_owned()),
            100..200 if ask.is_http10 => return Err(format!("{status} for a client that does not know it")),
            100..200 => {}
            _ => break (head, status),
        }
    };
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if let (Some(sent), 101) = (&ask.upgrade, status) {
        body.extend_from_slice(&bytes[start..]);
        let is_whole = body.len() == sent.len();
        let length = bytes.len();
        return Ok(Some(ReceivedResponse { status, head, body, trailers, length, is_whole, is_last: true }));
    }
    let decoder = if ask.method == Method::Head { Some(Decoder::Done) } else { head.framing()? };
    let mut decoder = decoder.unwrap_or(Decoder::UntilClose);
    let length = start + decoder.decode(&bytes[start..], &mut body, &mut trailers)?;
    let is_whole = decoder == Decoder::Done || (decoder == Decoder::UntilClose && saw_eof);
    let is_last = ask.is_http10 || head.says_close() || decoder == Decoder::UntilClose;
    Ok(Some(ReceivedResponse { status, head, body, trailers, length, is_whole, is_last }))
}

fn judge_answer<'e>(
    ask: &Ask,
    answer: &ReceivedResponse<'_>,
    may_fail: bool,
    exchanges: impl Iterator<Item = &'e Exchange>,
) -> Result<(), String> {
    if let (Some(sent), 101) = (&ask.upgrade, answer.status) {
        return prefix("what comes back", &answer.body, sent);
    }
    if answer.status != 200 {
        let is_ours = matches!(answer.status, 408 | 502 | 503 | 504) && answer.head.field("X-Id").is_none();
        return if is_ours && may_fail { Ok(()) } else { Err(format!("{} for 200", answer.status)) };
    }
    let id = answer.head.field("X-Id");
    if id != Some(&ask.id.to_string()) {
        return Err(format!("the answer to {id:?}"));
    }
    let digest = Origin::digest(ask.body());
    if answer.head.field("X-Body").is_some_and(|got| got != digest) {
        return Err(format!("{:?} instead of the body {digest}", answer.head.field("X-Body")));
    }
    let expected = if ask.method == Method::Head { Vec::new() } else { Origin::answer(ask.id, ask.answer_bytes) };
    prefix("body", &answer.body, &expected)?;
    if answer.is_whole && answer.body.len() < expected.len() && !allowance::was_cut_in_silence(exchanges) {
        return Err(format!("took {} bytes of {} for the whole", answer.body.len(), expected.len()));
    }
    judge_trailers(ask, answer)
}

/// They arrive if they were sent and the client wants them, and only then they are announced.
fn judge_trailers(ask: &Ask, answer: &ReceivedResponse<'_>) -> Result<(), String> {
    let may_arrive = ask.takes_trailers() && ask.method != Method::Head && answer.head.field("X-Trailers").is_some();
    if answer.head.field("Trailer").is_some() != may_arrive {
        return Err(format!("announces trailers: {:?}", answer.head.field("Trailer")));
    }
    let expected = if may_arrive { passed_trailers_of(ask.id) } else { Vec::new() };
    if answer.is_whole && answer.trailers != expected {
        return Err(format!("trailers {:?} for {expected:?}", answer.trailers));
    }
    Ok(())
}

/// How much of the body of this one's answer the proxy has received; `None`: not even a whole head.
fn taken_of(ask: &Ask, forwarding: &Forwarding, sim: &Sim) -> Option<usize> {
    let field = format!("X-Id: {}\r\n", ask.id).into_bytes();
    let mut peers = (0..forwarding.origins.len()).flat_map(|number| sim.upstream_peers(origin_address(number)));
    peers.find_map(|peer| {
        let bytes = &sim.peer(*peer).sent()[..sim.taken_from(*peer)];
        let field_at = bytes.windows(field.len()).position(|window| window == field)?;
        let start = bytes[..field_at].windows(9).rposition(|window| window == b"HTTP/1.1 ")?;
        let head = Head::read(&bytes[start..]).ok()??;
        let mut decoder = match ask.method {
            Method::Head => Decoder::Done,
            _ => head.framing().ok()?.unwrap_or(Decoder::UntilClose),
        };
        let mut body = Vec::new();
        decoder.decode(&bytes[start + head.length..], &mut body, &mut Vec::new()).ok()?;
        Some(body.len())
    })
}
