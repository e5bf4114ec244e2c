//! Whole workers in a simulated world: thousands of seeded runs, each with its own clients,
//! upstreams, files and faults, and each judged to the last byte.
//!
//! `XPS_SIM_SEEDS=n` sets how many seeds are run (`XPS_SIM_TLS_SEEDS` and `XPS_SIM_H2_SEEDS` over TLS and HTTP/2), `XPS_SIM_FIRST=n` with which one it begins,
//! `XPS_SIM_SEED=n` runs that one only, and `XPS_SIM_TRACE=1` prints every step. A failing run says how to have it again.

mod allowance;
mod forward;
mod gateway;
mod gone;
mod h2;
mod judge;
mod judge_forward;
mod judge_gateway;
mod judge_h2;
mod judge_tls;
mod lowered;
mod message;
mod origin;
mod receive;
mod run;
mod scenario;
mod shared_checks;
mod tls;
mod tunnel_queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::h2::client::abuse::{Abuse, HARMFUL, HARMLESS};
use crate::h2::record::Counts;
use crate::h2::reference::{Reference, Wrong};
use forward::{Ask, Body, Forwarding, Method, Server};
use origin::{Cut, Fault, Framing, Habit, Pace, Place, Then};
use run::{Bug, run};
use scenario::{Client, FileCase, Mood, Reply, Request, Scenario, Service, Stop, Upstream};
use tls::{Encryption, Flaw, Manner};
use xps::internals::buffer::PoolConfig;
use xps::internals::config::{HttpLimits, Limits};
use xps::internals::driver::sim::{Behaviour, Chance, Faults, PeerEnd, PlantedBug, Rng, Step};
use xps::internals::session::http::{ExchangeBug, Http2Bug};
use xps::internals::tls::planted_bug::TlsBug;

/// Enough for a look in debug builds, and for a night's sleep in release builds.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 10_000 };

const THREADS: usize = 2;

#[test]
fn every_seed_keeps_every_promise() {
    run_seeds(number("XPS_SIM_SEEDS").unwrap_or(SEEDS), try_seed);
}

/// The same seeds over TLS.
#[test]
fn every_seed_over_tls_keeps_every_promise() {
    let seeds = number("XPS_SIM_TLS_SEEDS").or_else(|| number("XPS_SIM_SEEDS"));
    run_seeds(seeds.unwrap_or(SEEDS / 3), try_seed_over_tls);
}

/// The same over TLS, with gateways, certificates of clients and health checks.
#[test]
fn every_seed_behind_gateways_keeps_every_promise() {
    let seeds = number("XPS_SIM_TLS_SEEDS").or_else(|| number("XPS_SIM_SEEDS"));
    run_seeds(seeds.unwrap_or(SEEDS / 3), try_seed_behind_gateways);
}

/// The same seeds over HTTP/2, and over both.
#[test]
fn every_seed_over_http2_keeps_every_promise() {
    let seeds = number("XPS_SIM_H2_SEEDS").or_else(|| number("XPS_SIM_SEEDS"));
    run_seeds(seeds.unwrap_or(SEEDS / 3), try_seed_over_http2);
}

/// Runs as many seeds as these, or the one that is asked for.
fn run_seeds(seeds: u64, try_seed: fn(u64) -> Option<String>) {
    let first = number("XPS_SIM_FIRST").unwrap_or(0);
    let (first, end) = number("XPS_SIM_SEED").map_or((first, first + seeds), |seed| (seed, seed + 1));
    let next = AtomicU64::new(first);
    let failures: Vec<String> = thread::scope(|scope| {
        let work = || {
            std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < end))
                .filter_map(try_seed)
                .take(3)
                .collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is wrong with this seed, and how to see it again.
fn try_seed(seed: u64) -> Option<String> {
    failure(seed, "every_seed_keeps", &run(Scenario::new(seed, Mood::Any), None).alarms)
}

fn try_seed_over_tls(seed: u64) -> Option<String> {
    failure(seed, "every_seed_over_tls", &run(Scenario::new(seed, Mood::Any).over_tls(Mood::Any), None).alarms)
}

fn behind_gateways(seed: u64, mood: Mood) -> Scenario {
    Scenario::new(seed, mood).over_tls(mood).behind_gateways(mood)
}

fn try_seed_behind_gateways(seed: u64) -> Option<String> {
    failure(seed, "every_seed_behind_gateways", &run(behind_gateways(seed, Mood::Any), None).alarms)
}

/// Every third of them over TLS as well.
fn over_http2(seed: u64, mood: Mood) -> Scenario {
    with_http2(Scenario::new(seed, mood), mood, true)
}

fn with_http2(scenario: Scenario, mood: Mood, does_more: bool) -> Scenario {
    let over_tls = scenario.seed.is_multiple_of(3);
    let scenario = if over_tls { scenario.over_tls(mood) } else { scenario };
    scenario.over_http2(mood, does_more)
}

fn try_seed_over_http2(seed: u64) -> Option<String> {
    failure(seed, "every_seed_over_http2", &run(over_http2(seed, Mood::Any), None).alarms)
}

fn failure(seed: u64, test: &str, alarms: &[String]) -> Option<String> {
    let again = format!("cargo test --test simulation {test} -- --nocapture");
    (!alarms.is_empty())
        .then(|| format!("seed {seed}: {alarms:#?}\nsee it again: XPS_SIM_SEED={seed} XPS_SIM_TRACE=1 {again}\n"))
}

/// Each of them has found something once, in the server or in the judge.
#[test]
fn seeds_that_found_something_keep_every_promise() {
    const SEEDS: &[u64] = &[
        409, 652, 898, 1505, 1609, 1836, 1988, 2001, 2416, 5190, 5405, 7684, 8025, 8190, 8507, 18324, 31940, 33406,
        47317, 110940, 131646, 135913, 137167, 158839, 173370, 1069801, 4045897,
    ];
    const SEEDS_OVER_TLS: &[u64] = &[
        44, 88, 206, 546, 877, 1_000_271, 1_003_390, 1_004_631, 1_005_373, 1_007_588, 1_008_356, 1_009_566, 77_008_127,
        88_009_435, 88_029_172, 88_037_075, 140042783,
    ];
    /// Of a search far beyond the others.
    const FAR_SEEDS_OVER_TLS: &[u64] = &[17206, 24743, 31892, 35757, 60112, 71159];
    const FAR: u64 = 20_261_130_000_000;
    const SEEDS_BEHIND_GATEWAYS: &[u64] = &[435, 1484, 1595, 1699, 1728];
    const SEEDS_OVER_HTTP2: &[u64] = &[29, 53, 97, 344, 900, 1069, 1122, 1200, 1626, 1687, 3521];
    const SEEDS_OVER_HTTP2_WITH_MORE: &[u64] = &[153, 166, 179, 298, 1060, 150002573];
    let far_over_tls = FAR_SEEDS_OVER_TLS.iter().map(|seed| FAR + seed);
    let over_tls = SEEDS_OVER_TLS.iter().copied().chain(far_over_tls).filter_map(try_seed_over_tls);
    let gateways = SEEDS_BEHIND_GATEWAYS.iter().copied().filter_map(try_seed_behind_gateways);
    // They found it before clients did what they should not, and wanted other protocols.
    let over_http2 = SEEDS_OVER_HTTP2.iter().copied().filter_map(|seed| {
        let scenario = with_http2(Scenario::new(seed, Mood::Any), Mood::Any, false);
        failure(seed, "seeds_that_found", &run(scenario, None).alarms)
    });
    let with_more = SEEDS_OVER_HTTP2_WITH_MORE.iter().copied().filter_map(try_seed_over_http2);
    let over_http2 = over_http2.chain(with_more);
    let plain = SEEDS.iter().copied().filter_map(try_seed);
    let failures: Vec<String> = plain.chain(over_tls).chain(gateways).chain(over_http2).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The clients of HTTP/2 and their judge, without the code that is tested: its place takes a server that does nothing wrong.
#[test]
fn every_seed_with_a_reference_server_keeps_every_promise() {
    run_seeds(number("XPS_SIM_H2_SEEDS").unwrap_or(100), |seed| {
        let report = run(with_reference(seed, Mood::Any, None), None);
        failure(seed, "every_seed_with_a_reference", &report.alarms)
    });
}

/// As [`over_http2`], with a reference server for each client.
fn with_reference(seed: u64, mood: Mood, wrong: Option<Wrong>) -> Scenario {
    with_http2(Scenario { reference: Some(Reference { wrong }), ..Scenario::new(seed, mood) }, mood, false)
}

#[test]
fn what_a_reference_server_does_wrong_is_noticed() {
    for wrong in [Wrong::Overrun, Wrong::NoEndStream, Wrong::OtherStream] {
        let noticed =
            (0..30).filter(|seed| !run(with_reference(*seed, Mood::Calm, Some(wrong)), None).alarms.is_empty());
        let noticed = noticed.count();
        assert!(noticed > 10, "{wrong:?} was noticed {noticed} times");
    }
}

#[test]
fn a_run_can_be_had_again() {
    for seed in 0..20 {
        let fingerprint = || run(Scenario::new(seed, Mood::Any), None).fingerprint;
        assert_eq!(fingerprint(), fingerprint(), "seed {seed}");
        let over_tls = || run(Scenario::new(seed, Mood::Any).over_tls(Mood::Any), None).fingerprint;
        assert_eq!(over_tls(), over_tls(), "seed {seed} over TLS");
        let gateways = || run(behind_gateways(seed, Mood::Any), None).fingerprint;
        assert_eq!(gateways(), gateways(), "seed {seed} behind gateways");
        let over_http2 = || run(over_http2(seed, Mood::Any), None).fingerprint;
        assert_eq!(over_http2(), over_http2(), "seed {seed} over HTTP/2");
    }
}

#[test]
fn the_runs_meet_every_kind_of_trouble() {
    let reports: Vec<_> = (0..500).map(|seed| run(Scenario::new(seed, Mood::Any), None)).collect();
    let sum = |count: fn(&run::Report) -> u64| reports.iter().map(count).sum::<u64>();
    assert!(sum(|report| report.injected.resets) > 20);
    assert!(sum(|report| report.injected.connects) > 5);
    assert!(sum(|report| report.injected.resolves) > 5);
    assert!(sum(|report| report.injected.opens) > 5);
    assert!(sum(|report| report.injected.truncations) > 3);
    assert!(sum(|report| report.injected.descriptors) > 0);
    assert!(sum(|report| report.counters.buffers_exhausted) > 100);
    assert!(sum(|report| report.counters.accept_pauses) > 20);
    assert!(sum(|report| report.counters.short_sends) > 1000);
    assert!(sum(|report| report.whole) > 150, "clients that got everything: {}", sum(|report| report.whole));
}

#[test]
fn the_runs_over_tls_meet_every_kind_of_trouble() {
    let reports: Vec<_> = (0..300).map(|seed| run(Scenario::new(seed, Mood::Any).over_tls(Mood::Any), None)).collect();
    let ends = |end| reports.iter().flat_map(|report| &report.tls_ends).filter(|other| **other == end).count();
    let ends = [
        (PeerEnd::Closed, 100),
        (PeerEnd::BrokeOff, 20),
        (PeerEnd::WasReset, 20),
        (PeerEnd::Truncated, 10),
        (PeerEnd::Alerted, 10),
        (PeerEnd::Garbled, 1),
    ]
    .map(|(end, least)| (end, ends(end), least));
    assert!(ends.iter().all(|(_, count, least)| count >= least), "{ends:?}");
    let whole = reports.iter().map(|report| report.whole).sum::<u64>();
    assert!(whole > 60, "clients that got everything: {whole}");
}

#[test]
fn the_runs_over_http2_meet_every_kind_of_trouble() {
    let mut counts = Counts::default();
    let mut whole = 0;
    for seed in 0..100 {
        let report = run(over_http2(seed, Mood::Any), None);
        counts.add(&report.http2);
        whole += report.whole;
    }
    let least = [
        (counts.streams, 1_600),
        (counts.answered, 1_000),
        (counts.used_up, 300),
        (counts.blocked, 30),
        (counts.given_up, 30),
        (counts.reset, 15),
        (counts.settings, 160),
        (counts.pings, 100),
        (counts.interim, 15),
        (counts.goaways, 30),
        (counts.most_at_once, 20),
        (counts.abuses, 70),
        (counts.dismissed, 30),
        (counts.chastised, 5),
        (counts.tunnels, 30),
        (whole, 30),
    ];
    assert!(least.iter().all(|(count, least)| count >= least), "{least:?}");
}

/// Each by itself, with nothing else that goes wrong, of files and of what is forwarded.
#[test]
fn each_misuse_has_the_end_that_it_must_have() {
    for abuse in HARMLESS.into_iter().chain(HARMFUL) {
        for seed in 0..6 {
            let report = run(misuse(abuse, seed), None);
            assert!(report.alarms.is_empty(), "{abuse:?}, seed {seed}: {:#?}", report.alarms);
            let Counts { abuses, dismissed, .. } = report.http2;
            assert_eq!((abuses, dismissed), (1, u64::from(abuse.end().is_some())), "{abuse:?}, seed {seed}");
        }
    }
}

/// One client that does this, in a calm run.
fn misuse(abuse: Abuse, seed: u64) -> Scenario {
    let service = if seed.is_multiple_of(2) {
        Service::Http(vec![
            Request::Get(FileCase::Large),
            Request::Get(FileCase::Small),
            Request::Head(FileCase::Large),
        ])
    } else {
        let body = Body { bytes: vec![b'x'; 30_000], chunk_bytes: None };
        let asks = [Ask::get(1, 20_000), Ask { method: Method::Put, body: Some(body), ..Ask::get(2, 100) }];
        Service::Forward(asks.into_iter().chain(Ask::spare(0)).collect())
    };
    let client = h2::client_with(h2::habit::Habit { abuse: Some((1, abuse)), ..h2::habit::Habit::sound() }, service);
    let calm = Scenario::new(seed, Mood::Calm);
    let limits = Limits { connections_max: 1000, ..calm.limits };
    Scenario { clients: vec![client], limits, ..calm }
}

/// A header block that does not end is waited for as long as for any head.
#[test]
fn a_header_block_that_does_not_end_has_a_time_limit() {
    let scenario = misuse(Abuse::UnfinishedBlock, 0);
    let http = HttpLimits { head_timeout: Duration::from_secs(3), ..scenario.limits.http };
    let limits = Limits { http, ..scenario.limits };
    let report = run(Scenario { stop: Stop::WhenDoneOrStuck, limits, ..scenario }, None);
    assert!(report.alarms.is_empty(), "{:#?}", report.alarms);
    assert_eq!((report.http2.abuses, report.http2.dismissed), (1, 1));
}

/// Linux tells of a reset once. When it told the send to the upstream, the receive saw a plain end,
/// and the client took a part for the whole.
#[test]
fn a_reset_that_a_send_hears_of_first_is_no_orderly_end() {
    for seed in 0..100 {
        let bytes = vec![b'x'; 10_000];
        let behaviour = Behaviour::Serve(vec![Step::Send(bytes[..5000].to_vec()), Step::Expect(1000), Step::Reset]);
        let addresses = vec![[198, 51, 100, 1].into()];
        let upstream = Upstream { behaviour, addresses, answer: Reply::Bytes(bytes), is_polite: false };
        let payload = vec![b'y'; 200_000];
        let client = Client::alone(Service::Proxy(upstream), payload, vec![Step::ShutdownWrite, Step::ReadUntilEof]);
        let report = run(Scenario { clients: vec![client], ..Scenario::new(seed, Mood::Calm) }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
    }
}

/// The same of a server that answers before it has the whole request: it breaks off its answer, which ends with the
/// connection, while the proxy still sends it the request's body.
#[test]
fn a_reset_that_the_send_of_a_body_hears_of_first_is_no_orderly_end() {
    for seed in 0..100 {
        let habit = Habit {
            framing: Framing::UntilClose,
            pace: Pace::AtOnce,
            is_early: true,
            is_announced: false,
            cut: Some(Cut { place: Place::Body, fault: Fault::Reset }),
            then: Then::Keep,
        };
        let body = Body { bytes: vec![b'x'; 200_000], chunk_bytes: None };
        let ask = Ask { method: Method::Put, body: Some(body), ..Ask::get(1, 20_000) };
        let payload = ask.bytes();
        let client = Client::alone(Service::Forward(vec![ask]), payload, vec![Step::ReadUntilEof]);
        let calm = Scenario::new(seed, Mood::Calm);
        let forwarding = Forwarding { origins: vec![Server::Answers(vec![habit])], ..calm.forwarding };
        let report = run(Scenario { clients: vec![client], forwarding, ..calm }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
    }
}

/// In TLS 1.2 the server's Finished is the last message of a handshake: a short answer may arrive together with it, and with an
/// end without a `close_notify`. The handshake did not fail then, and the answer is passed on.
#[test]
fn an_answer_that_comes_with_the_end_of_a_handshake_is_passed_on() {
    for seed in 0..100 {
        let bytes = vec![b'x'; 10_000];
        let behaviour = Behaviour::Serve(vec![Step::Send(bytes[..100].to_vec()), Step::Close]);
        let addresses = vec![[198, 51, 100, 1].into()];
        let upstream = Upstream { behaviour, addresses, answer: Reply::Bytes(bytes), is_polite: false };
        let client = Client::alone(Service::Proxy(upstream), Vec::new(), vec![Step::ReadUntilEof]);
        let manner = Manner { is_tls12: true, flaw: Flaw::NoEnd, ..Manner::sound() };
        let tls = Encryption {
            clients: vec![(seed % 2 == 0).then(Manner::sound)],
            upstreams: vec![Some(manner)],
            ..Encryption::default()
        };
        let report = run(Scenario { clients: vec![client], tls: Some(tls), ..Scenario::new(seed, Mood::Calm) }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
    }
}

/// A server breaks off while its proxy has more of a request's body than fits into the receive buffers. What the server has sent
/// before, at least its session tickets, needs a buffer to be read, and only then its end is seen.
#[test]
fn a_body_that_its_server_no_longer_takes_holds_no_receive_buffers() {
    for seed in 0..100 {
        let habit = Habit {
            framing: Framing::Length,
            pace: Pace::AtOnce,
            is_early: true,
            is_announced: false,
            cut: Some(Cut { place: Place::BeforeIt, fault: Fault::Reset }),
            then: Then::Keep,
        };
        let body = Body { bytes: vec![b'x'; 200_000], chunk_bytes: None };
        let ask = Ask { method: Method::Put, body: Some(body), ..Ask::get(1, 20_000) };
        let payload = ask.bytes();
        let client = Client::alone(Service::Forward(vec![ask]), payload, vec![Step::ReadUntilEof]);
        let calm = Scenario::new(seed, Mood::Calm);
        let (origins, manners) = (vec![Server::Answers(vec![habit])], vec![Some(Manner::sound())]);
        let forwarding = Forwarding { origins, manners, ..calm.forwarding };
        let pool = PoolConfig { small_max: 1 + seed as usize % 5, large_max: seed as usize % 2, ..calm.faults.pool };
        let faults = Faults { pool, ..calm.faults };
        let proxy = seed % 4 < 2;
        let clients = vec![proxy.then(Manner::sound)];
        let tls = Encryption { clients, upstreams: vec![None], proxy, ..Encryption::default() };
        let report = run(Scenario { clients: vec![client], forwarding, faults, tls: Some(tls), ..calm }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
    }
}

/// A client has said that a request is its last, and goes on sending: its answer must not go under with a reset.
#[test]
fn what_follows_a_last_request_does_not_cost_its_answer() {
    for seed in 0..100 {
        let habit = Habit {
            framing: Framing::Length,
            pace: Pace::AtOnce,
            is_early: false,
            is_announced: false,
            cut: None,
            then: Then::Keep,
        };
        let ask = Ask { says_close: true, ..Ask::get(1, 20_000) };
        let more = vec![b'x'; 20_000];
        let steps = vec![
            Step::Send([ask.bytes(), vec![b'x'; 100]].concat()),
            Step::SendSlowly { bytes: more.clone(), piece_bytes: 500, every: Duration::from_micros(100) },
            Step::ReadUntilEof,
        ];
        let payload = [ask.bytes(), vec![b'x'; 100], more].concat();
        let client =
            Client { steps, is_polite: true, ..Client::alone(Service::Forward(vec![ask]), payload, Vec::new()) };
        let calm = Scenario::new(seed, Mood::Calm);
        let forwarding = Forwarding { origins: vec![Server::Answers(vec![habit])], ..calm.forwarding };
        let report = run(Scenario { clients: vec![client], forwarding, ..calm }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
    }
}

/// A client has sent everything and ended its side, and then waits for longer than the grace for ending it: first for a
/// place at the server, and since its request's body is long, nothing is received meanwhile.
#[test]
fn an_end_that_came_while_nothing_was_received_is_no_leaving() {
    let mut whole = 0;
    for seed in 0..100 {
        let habit = Habit {
            framing: Framing::Length,
            pace: Pace::After(Duration::from_secs(3)),
            is_early: false,
            is_announced: false,
            cut: None,
            then: Then::Keep,
        };
        let client = |ask: Ask, after| {
            let payload = ask.bytes();
            Client {
                service: Service::Forward(vec![ask]),
                after,
                steps: vec![Step::Send(payload.clone()), Step::ShutdownWrite, Step::ReadUntilEof],
                payload,
                is_polite: true,
                reads_all: true,
                http2: None,
            }
        };
        let body = Body { bytes: vec![b'x'; 90_000], chunk_bytes: None };
        let first = client(Ask::get(1, 100), Duration::ZERO);
        let second =
            client(Ask { method: Method::Put, body: Some(body), ..Ask::get(101, 100) }, Duration::from_millis(100));
        let calm = Scenario::new(seed, Mood::Calm);
        let forwarding = Forwarding { origins: vec![Server::Answers(vec![habit])], places: 1, ..calm.forwarding };
        let report = run(Scenario { clients: vec![first, second], forwarding, ..calm }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        whole += report.whole;
    }
    assert_eq!(whole, 200);
}

#[test]
fn a_lost_completion_is_noticed() {
    assert_noticed(PlantedBug::LoseFinal);
}

#[test]
fn a_completion_that_comes_twice_is_noticed() {
    assert_noticed(PlantedBug::RepeatFinal);
}

#[test]
fn reordered_bytes_are_noticed() {
    assert_noticed(PlantedBug::SwapReceived);
}

#[test]
fn a_forgotten_rearm_is_noticed() {
    assert_noticed(PlantedBug::ForgetRearm);
}

#[test]
fn a_double_free_is_noticed() {
    assert_noticed(PlantedBug::DoubleFree);
}

#[test]
fn a_buffer_overwritten_while_leased_is_noticed() {
    assert_noticed(PlantedBug::OverwriteLeased);
}

#[test]
fn a_last_byte_that_is_missing_before_the_end_is_noticed() {
    assert_noticed_within(PlantedBug::DropLastByte, 3);
}

/// An upstream sends and breaks off, and its client is slow in reading: what was queued for it must not go under with the reset.
#[test]
fn a_reset_that_does_not_wait_for_what_was_queued_is_noticed() {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..100 {
        let bytes = vec![b'x'; 200_000];
        let steps = vec![Step::Send(bytes.clone()), Step::Stall(Duration::from_millis(2)), Step::Reset];
        let addresses = vec![[198, 51, 100, 1].into()];
        let behaviour = Behaviour::Serve(steps);
        let upstream = Upstream { behaviour, addresses, answer: Reply::Bytes(bytes), is_polite: false };
        let client = Client::alone(Service::Proxy(upstream), Vec::new(), vec![Step::ReadUntilEof]);
        let calm = Scenario::new(seed, Mood::Calm);
        let faults = Faults { slow_peers: Chance::per_mille(1000), ..calm.faults };
        let limits = Limits { pipe_bytes_max: 64 << 10, ..calm.limits };
        let scenario = |client| Scenario { clients: vec![client], faults, limits, ..calm };
        let planted_bug = (seed % 2 == 0).then_some((Bug::Driver(PlantedBug::HastyFlush), 0));
        let report = run(scenario(client), planted_bug);
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    // By chance, what was on its way arrives all the same.
    assert!(strikes >= 40 && noticed >= strikes / 3, "{noticed} of {strikes} were noticed");
}

#[test]
fn an_exchange_that_ends_twice_is_noticed() {
    assert_exchange_noticed(ExchangeBug::Twice);
}

#[test]
fn an_exchange_that_never_ends_is_noticed() {
    assert_exchange_noticed(ExchangeBug::Never);
}

/// The session of a stream is pumped all the same if something else has happened to it in that turn. Nothing is lost then.
#[test]
fn a_lost_wake_up_of_a_stream_is_noticed() {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..60 {
        let report = run(Scenario::new(seed, Mood::Calm), Some((Bug::LostWakeUp, seed as u32 % 20)));
        let is_noticed = report.alarms.iter().any(|alarm| alarm.contains("was not woken for its upstream"));
        assert!(is_noticed || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        assert!(report.has_planted_bug || !is_noticed, "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(is_noticed);
    }
    assert!(strikes >= 20 && noticed >= strikes / 2, "{noticed} of {strikes} were noticed");
}

#[test]
fn an_end_without_close_notify_is_noticed() {
    assert_tls_noticed(TlsBug::NoCloseNotify);
}

#[test]
fn a_lost_record_is_noticed() {
    assert_tls_noticed(TlsBug::LostRecord);
}

/// An upstream breaks off in the middle, as TLS can tell: its client must not see an orderly end.
#[test]
fn a_truncation_that_is_taken_for_an_end_is_noticed() {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..60 {
        let bytes = vec![b'x'; 20_000];
        let behaviour = Behaviour::Serve(vec![Step::Send(bytes[..5000].to_vec()), Step::Close]);
        let addresses = vec![[198, 51, 100, 1].into()];
        let upstream = Upstream { behaviour, addresses, answer: Reply::Bytes(bytes), is_polite: false };
        let client = Client::alone(Service::Proxy(upstream), Vec::new(), vec![Step::ReadUntilEof]);
        let tls = Encryption {
            clients: vec![(seed % 4 < 2).then(Manner::sound)],
            upstreams: vec![Some(Manner { flaw: Flaw::NoEnd, ..Manner::sound() })],
            ..Encryption::default()
        };
        let scenario = Scenario { clients: vec![client], tls: Some(tls), ..Scenario::new(seed, Mood::Calm) };
        let planted_bug = (seed % 2 == 0).then_some((Bug::Tls(TlsBug::TruncationIsEnd), 0));
        let report = run(scenario, planted_bug);
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    assert!(strikes >= 30 && noticed == strikes, "{noticed} of {strikes} were noticed");
}

#[test]
fn a_lost_certificate_of_a_client_is_noticed() {
    // Where no upstream hears of it, nothing is missing.
    assert_gateway_noticed(TlsBug::LostCertificate, 5);
}

#[test]
fn a_connection_without_its_header_is_noticed() {
    assert_gateway_noticed(TlsBug::NoPreamble, 100);
}

/// Plants the bug in calm runs behind gateways: there is an alarm only where it struck, and in this part of those, in
/// hundredths.
fn assert_gateway_noticed(bug: TlsBug, least: u32) {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..100 {
        let report = run(behind_gateways(seed, Mood::Calm), Some((Bug::Tls(bug), seed as u32 % 4)));
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    assert!(strikes >= 15 && noticed * 100 >= strikes * least, "{noticed} of {strikes} were noticed");
}

/// Plants the bug in calm runs over TLS: there is an alarm only where it struck.
fn assert_tls_noticed(bug: TlsBug) {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..60 {
        let scenario = Scenario::new(seed, Mood::Calm).over_tls(Mood::Calm);
        let report = run(scenario, Some((Bug::Tls(bug), seed as u32 % 4)));
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    // Answers may have an end of their own, and upstreams may have nothing to tell.
    let least = if bug == TlsBug::NoCloseNotify { strikes / 2 } else { strikes };
    assert!(strikes >= 20 && noticed >= least, "{noticed} of {strikes} were noticed");
}

#[test]
fn an_overrun_of_a_window_is_noticed() {
    // Where the client has opened the window meanwhile, nothing can be noticed.
    assert_http2_noticed(Http2Bug::Overrun, 30);
}

#[test]
fn a_window_that_is_not_opened_again_is_noticed() {
    // Where enough is left without it, nothing is missing.
    assert_http2_noticed(Http2Bug::LostWindowUpdate, 10);
}

#[test]
fn a_frame_of_another_stream_is_noticed() {
    assert_http2_noticed(Http2Bug::OtherStream, 100);
}

#[test]
fn a_response_without_an_end_is_noticed() {
    // A stream that is misused need not end.
    assert_http2_noticed(Http2Bug::NoEndStream, 80);
}

#[test]
fn a_stream_that_is_forgotten_is_noticed() {
    // It may have been marked for nothing.
    assert_http2_noticed(Http2Bug::Forgotten, 50);
}

#[test]
fn a_goaway_that_is_too_early_is_noticed() {
    // The last stream may be one that was begun to be misused: that it is not looked at breaks no promise.
    assert_http2_noticed(Http2Bug::EarlyGoAway, 80);
}

#[test]
fn a_read_that_is_never_over_is_noticed() {
    assert_http2_noticed(Http2Bug::LeakedRead, 100);
}

#[test]
fn a_stream_that_waits_for_its_turn_in_vain_is_noticed() {
    // Another stream may have come before anything is missed.
    assert_http2_noticed(Http2Bug::LostTurn, 80);
}

/// Another implementation of HTTP/2, which keeps to the rules by itself: it gets all that it asks for.
#[test]
fn the_h2_crate_gets_what_it_asks_for() {
    let mut counts = Counts::default();
    for seed in 0..if cfg!(debug_assertions) { 60 } else { 2000 } {
        let rng = &mut Rng::new(seed ^ 0x6832_6372);
        let clients = (0..3).map(|number| {
            let asks = (0..rng.range(1, 30)).map(|at| Ask::draw(number * 100 + at as u32, rng)).collect();
            h2::crate_client::client(asks)
        });
        let clients = clients.collect();
        let scenario = Scenario { clients, ..Scenario::new(seed, Mood::Calm) };
        let scenario = if seed % 3 == 0 { scenario.over_tls(Mood::Calm) } else { scenario };
        let report = run(scenario, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        counts.add(&report.http2);
    }
    assert!(counts.answered > counts.streams / 2 && counts.most_at_once > 5, "{counts:?}");
}

/// A server breaks off its answer in the middle: its client must not see an orderly end of the stream.
#[test]
fn a_truncated_stream_that_ends_in_order_is_noticed() {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..60 {
        let habit = Habit {
            framing: Framing::Length,
            pace: Pace::AtOnce,
            is_early: false,
            is_announced: false,
            cut: Some(Cut { place: Place::Body, fault: Fault::Close }),
            then: Then::Keep,
        };
        let client = h2::plain_client((1..5).map(|id| Ask::get(id, 20_000)).collect());
        let calm = Scenario::new(seed, Mood::Calm);
        let forwarding = Forwarding { origins: vec![Server::Answers(vec![habit])], ..calm.forwarding };
        let planted_bug = (seed % 2 == 0).then_some((Bug::Http2(Http2Bug::TruncationIsEnd), 0));
        let report = run(Scenario { clients: vec![client], forwarding, ..calm }, planted_bug);
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    assert!(strikes >= 25 && noticed == strikes, "{noticed} of {strikes} were noticed");
}

/// Plants the bug in calm runs over HTTP/2: there is an alarm only where it struck, and in this part of those, in
/// hundredths.
fn assert_http2_noticed(bug: Http2Bug, least: u32) {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..40 {
        let report = run(over_http2(seed, Mood::Calm), Some((Bug::Http2(bug), seed as u32 % 4)));
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(!report.alarms.is_empty());
    }
    assert!(strikes >= 3 && noticed * 100 >= strikes * least, "{noticed} of {strikes} were noticed");
}

/// Plants the bug in runs with any trouble, so that exchanges end in every way. Nothing hides it.
fn assert_exchange_noticed(bug: ExchangeBug) {
    let mut strikes = 0;
    for seed in 0..60 {
        let report = run(Scenario::new(seed, Mood::Any), Some((Bug::Exchange(bug), seed as u32 % 8)));
        let is_noticed = report.alarms.iter().any(|alarm| alarm.contains("exchanges have begun and not ended"));
        assert_eq!(report.has_planted_bug, is_noticed, "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(is_noticed);
    }
    assert!(strikes >= 20, "it struck {strikes} times");
}

fn assert_noticed(planted_bug: PlantedBug) {
    assert_noticed_within(planted_bug, 20);
}

/// Plants the bug in many calm runs, at one of the first occasions for it: where it struck there is an alarm, and nowhere
/// else.
fn assert_noticed_within(planted_bug: PlantedBug, occasions: u32) {
    let (mut strikes, mut harmless) = (0, 0);
    for seed in 0..40 {
        let report = run(Scenario::new(seed, Mood::Calm), Some((Bug::Driver(planted_bug), seed as u32 % occasions)));
        let alarms = report.alarms;
        assert!(report.has_planted_bug || alarms.is_empty(), "seed {seed}: {alarms:#?}");
        strikes += u32::from(report.has_planted_bug);
        harmless += u32::from(report.has_planted_bug && alarms.is_empty());
    }
    // A receive that fell silent is harmless if it was just going to be stopped.
    let harmless_max = if planted_bug == PlantedBug::ForgetRearm { strikes / 2 } else { 0 };
    assert!(strikes >= 20 && harmless <= harmless_max, "{harmless} of {strikes} went unnoticed");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}
