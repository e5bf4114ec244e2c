//! Whether a client of HTTP/2 got what it asked for. Its streams are judged each for itself: there is no order between
//! them, and what goes wrong with one does not excuse another.

use xps::internals::driver::Driver;
use xps::internals::driver::sim::{PeerId, Sim};

use crate::allowance::{self, Allowance};
use crate::forward::{Ask, Method};
use crate::h2::client::abuse::Abuse;
use crate::h2::frame;
use crate::h2::record::{Record, Stream};
use crate::h2::reference::Reference;
use crate::judge::prefix;
use crate::message::passed_trailers_of;
use crate::origin::Origin;
use crate::scenario::{Request, Scenario, Service, Stop};

/// What is known of the run that may excuse a stream.
struct Excuses<'s> {
    scenario: &'s Scenario,
    /// Something may be wrong with the world beyond the connection.
    world_fails: bool,
    /// Time-outs may strike, or the worker is stopped in the middle.
    is_hurried: bool,
    /// The server may still have been busy with streams that the client had reset.
    has_given_up: bool,
}

/// Returns whether everything could be demanded, and was there.
pub fn judge_client(
    scenario: &Scenario,
    number: usize,
    record: &Record,
    sim: &Sim,
    id: PeerId,
) -> Result<bool, String> {
    let (client, peer) = (&scenario.clients[number], sim.peer(id));
    if let Some(what) = record.alarms.first() {
        return Err(what.clone());
    }
    let world_fails = match &client.service {
        Service::Forward(_) => allowance::origins_are_disturbed(&scenario.forwarding, sim),
        _ => allowance::has_file_trouble(sim),
    };
    // What is between the client and a reference server.
    let references = sim.upstream_peers(Reference::address(number));
    let is_cut_off = scenario.reference.is_some()
        && (allowance::has_upstream_trouble(sim) || references.iter().any(|server| sim.is_faulted(*server)));
    let world_fails = world_fails || is_cut_off;
    let excuses = Excuses {
        scenario,
        world_fails,
        is_hurried: Allowance::Hurried.if_so(scenario.stop != Stop::WhenDone),
        has_given_up: Allowance::GivenUp.if_so(record.streams.iter().any(|stream| stream.gave_up))
            || Allowance::TunnelCounts.if_so(record.streams.iter().any(|stream| stream.is_tunnel))
            || Allowance::FilledUp.if_so(record.abuse.is_some_and(Abuse::may_refuse)),
    };
    judge_goaway(record, excuses.is_hurried)?;
    let is_undisturbed = allowance::is_undisturbed(scenario, client, sim, id);
    if is_undisturbed && !allowance::was_reset_while_sending(sim, id) {
        judge_abuse(record)?;
    }
    let is_harmless = record.abuse.is_none_or(Abuse::is_harmless);
    let must_be_whole = client.is_polite && is_harmless && is_undisturbed && !world_fails;
    let (asked, must_be_whole) = match &client.service {
        Service::Forward(asks) => {
            for (ask, stream) in asks.iter().zip(&record.streams) {
                judge_forwarded(ask, stream, &excuses)
                    .map_err(|what| format!("stream {}, {:?} /{}: {what}", stream.id, ask.method, ask.id))?;
            }
            let asked = asks.iter().filter(|ask| !ask.is_spare()).count();
            (asked, must_be_whole && scenario.forwarding.is_reliable())
        }
        Service::Http(requests) => {
            for (request, stream) in requests.iter().zip(&record.streams) {
                judge_file(*request, stream, &excuses)
                    .map_err(|what| format!("stream {}, {request:?}: {what}", stream.id))?;
            }
            (requests.len(), must_be_whole)
        }
        _ => return Err("nothing that HTTP/2 is for".to_owned()),
    };
    if must_be_whole {
        if record.streams.len() < asked {
            return Err(format!("{} of {asked} requests could be made", record.streams.len()));
        }
        if let Some(stream) = record.streams.iter().find(|stream| !stream.is_finished()) {
            return Err(format!("stream {} has not ended, after {} bytes", stream.id, stream.body.len()));
        }
        if !allowance::ended_in_order(peer, false, scenario.manner_of(number)) {
            return Err(format!("ended as {:?}, saw the end of input: {}", peer.end(), peer.saw_eof()));
        }
    }
    if scenario.stop == Stop::WhenDone && peer.end().is_none() {
        return Err(format!("has not ended at {:?}: {}", sim.now(), record.unfinished()));
    }
    Ok(must_be_whole)
}

/// What the client should not have done has had the end that it must have.
fn judge_abuse(record: &Record) -> Result<(), String> {
    let Some(abuse) = record.abuse else { return Ok(()) };
    let code = record.goaway.map(|(_, code)| code);
    if let Some(expected) = record.must_end.filter(|expected| code != Some(*expected)) {
        return Err(format!("{abuse:?}, and the server went away with {code:?} instead of {expected}"));
    }
    // Once it is going away, it need not look at all streams any more.
    match record.extras.iter().find(|extra| code.is_none() && !extra.is_over()) {
        Some(extra) => Err(format!("{abuse:?}: stream {} was reset with {:?}", extra.id, extra.resets)),
        None => Ok(()),
    }
}

/// Nothing else is wrong with what the client sends, so the server has nothing to complain of but slowness.
fn judge_goaway(record: &Record, is_hurried: bool) -> Result<(), String> {
    match record.goaway {
        None | Some((_, frame::NO_ERROR)) => Ok(()),
        Some((_, frame::ENHANCE_YOUR_CALM)) if is_hurried => Ok(()),
        Some((_, code)) if record.abuse.is_some_and(|abuse| abuse.may_end(code)) => Ok(()),
        Some((last, code)) => Err(format!("the server goes away with code {code}, after stream {last}")),
    }
}

/// Whether the server had a reason to end a stream before its time.
fn judge_reset(stream: &Stream, is_malformed: bool, may_fail: bool, excuses: &Excuses<'_>) -> Result<(), String> {
    match stream.reset {
        None => Ok(()),
        // Of an upload that nothing needs any more.
        Some(frame::NO_ERROR) if stream.has_ended => Ok(()),
        Some(frame::PROTOCOL_ERROR) if is_malformed => Ok(()),
        Some(frame::REFUSED_STREAM) if Allowance::GivenUp.if_so(excuses.has_given_up) => Ok(()),
        Some(frame::INTERNAL_ERROR) if may_fail => Ok(()),
        Some(frame::CANCEL) if excuses.is_hurried => Ok(()),
        Some(code) => Err(format!("reset with code {code}, after {} bytes of {:?}", stream.body.len(), stream.status)),
    }
}

/// What was not looked at can be asked again, of another server too: it must not have been passed on.
fn is_unprocessed(stream: &Stream) -> bool {
    stream.is_gone || stream.reset == Some(frame::REFUSED_STREAM)
}

fn judge_file(request: Request, stream: &Stream, excuses: &Excuses<'_>) -> Result<(), String> {
    let is_malformed = request == Request::Garbage;
    judge_reset(stream, is_malformed, excuses.world_fails, excuses)?;
    let Some(status) = stream.status else { return Ok(()) };
    let (expected_status, expected_body) = request.expected();
    let is_excused =
        (excuses.world_fails && matches!(status, 403 | 500 | 503)) || (excuses.is_hurried && status == 408);
    if status != expected_status && !is_excused {
        return Err(format!("{status} for {expected_status}"));
    }
    if is_excused {
        return Ok(());
    }
    if let (Request::Head(case), 200) = (request, status) {
        let length = stream.field("content-length").and_then(|length| length.parse().ok());
        return if length == Some(case.bytes().len()) { Ok(()) } else { Err(format!("a length of {length:?}")) };
    }
    let Some(expected) = expected_body else { return Ok(()) };
    prefix("body", &stream.body, &expected)?;
    let is_short = stream.has_ended && stream.body.len() < expected.len();
    if is_short { Err(format!("{} of {} bytes are the whole", stream.body.len(), expected.len())) } else { Ok(()) }
}

fn judge_forwarded(ask: &Ask, stream: &Stream, excuses: &Excuses<'_>) -> Result<(), String> {
    let forwarding = &excuses.scenario.forwarding;
    let may_fail = excuses.world_fails
        || excuses.is_hurried
        || allowance::may_fail(ask, forwarding)
        || (ask.upgrade.is_some() && allowance::tunnel_may_fail(forwarding));
    if !(ask.upgrade.is_some() && may_fail && stream.reset == Some(frame::CANCEL)) {
        judge_reset(stream, false, may_fail, excuses)?;
    }
    let log = forwarding.log.borrow();
    let mut exchanges = log.iter().filter(|exchange| exchange.id == Some(ask.id)).peekable();
    if is_unprocessed(stream) && exchanges.peek().is_some() {
        return Err("was passed on, though the server has said that it was not looked at".to_owned());
    }
    match stream.status {
        None => return Ok(()),
        Some(200) => {}
        Some(status @ (408 | 502 | 503 | 504)) if stream.field("x-id").is_none() => {
            return if may_fail { Ok(()) } else { Err(format!("{status} for 200")) };
        }
        Some(status) => return Err(format!("{status} for 200")),
    }
    let id = stream.field("x-id");
    if id != Some(&ask.id.to_string()) {
        return Err(format!("the answer to {id:?}"));
    }
    if let Some(sent) = &ask.upgrade {
        prefix("what comes back", &stream.body, sent)?;
        if stream.has_ended && stream.body.len() < sent.len() && !allowance::tunnel_was_cut(exchanges) {
            return Err(format!("took {} bytes of {} that it sent for the whole", stream.body.len(), sent.len()));
        }
        return Ok(());
    }
    let digest = Origin::digest(ask.body());
    if stream.field("x-body").is_some_and(|got| got != digest) {
        return Err(format!("{:?} instead of the body {digest}", stream.field("x-body")));
    }
    let expected = if ask.method == Method::Head { Vec::new() } else { Origin::answer(ask.id, ask.answer_bytes) };
    prefix("body", &stream.body, &expected)?;
    if stream.has_ended && stream.body.len() < expected.len() && !allowance::was_cut_in_silence(exchanges) {
        return Err(format!("took {} bytes of {} for the whole", stream.body.len(), expected.len()));
    }
    judge_trailers(ask, stream)
}

/// They arrive if they were sent and the client wants them, and only then they are announced.
fn judge_trailers(ask: &Ask, stream: &Stream) -> Result<(), String> {
    let may_arrive = ask.takes_trailers() && ask.method != Method::Head && stream.field("x-trailers").is_some();
    if stream.field("trailer").is_some() != may_arrive {
        return Err(format!("announces trailers: {:?}", stream.field("trailer")));
    }
    let lines = if may_arrive { passed_trailers_of(ask.id) } else { Vec::new() };
    let expected: Vec<_> = lines.iter().filter_map(|line| line.split_once(": ")).collect();
    let got = stream.trailers.iter().flatten().map(|(name, value)| (&name[..], &value[..]));
    let is_same = got.clone().count() == expected.len()
        && got.zip(&expected).all(|(got, (name, value))| got.0.eq_ignore_ascii_case(name) && got.1 == *value);
    if stream.has_ended && !is_same {
        return Err(format!("trailers {:?} for {expected:?}", stream.trailers));
    }
    Ok(())
}
