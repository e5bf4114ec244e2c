//! Runs over HTTP/2 that are not drawn.

use std::time::Duration;

use xps::internals::config::{HttpLimits, Limits};
use xps::internals::session::http::Http2Bug;

use super::client::abuse::{Abuse, HARMFUL, HARMLESS};
use super::habit::Habit;
use super::record::Counts;
use super::{client_with, plain_client};
use crate::forward::{Ask, Body, Forwarding, Method, Server};
use crate::origin;
use crate::run::{Bug, run};
use crate::scenario::{FileCase, Mood, Request, Scenario, Service, Stop};

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
    let client = client_with(Habit { abuse: Some((1, abuse)), ..Habit::sound() }, service);
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

/// The bodies of uploads that wait for the place of a tunnel use up the connection's window. What the tunnel relays must come all
/// the same: it does not end before.
#[test]
fn uploads_that_wait_for_a_tunnel_do_not_take_its_window() {
    for seed in 0..40 {
        let report = run(tunnel_before_uploads(seed), None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        assert_eq!((report.whole, report.http2.tunnels), (1, 1), "seed {seed}");
    }
}

/// A client with a tunnel to a server with one place, and with uploads for which it has none.
fn tunnel_before_uploads(seed: u64) -> Scenario {
    let upgrade = Some(vec![b't'; 100_000]);
    let tunnel = Ask { upgrade, ..Ask::get(1, 100_000) };
    let body = || Some(Body { bytes: vec![b'x'; 80_000], chunk_bytes: None });
    let uploads = (2..9).map(|id| Ask { method: Method::Put, body: body(), ..Ask::get(id, 10) });
    let client = plain_client(std::iter::once(tunnel).chain(uploads).collect());
    let calm = Scenario::new(seed, Mood::Calm);
    let limits = Limits { connections_max: 1000, ..calm.limits };
    let origins = vec![Server::Answers(vec![origin::Habit::plain()])];
    let forwarding = Forwarding { origins, places: 1, ..calm.forwarding };
    Scenario { clients: vec![client], limits, forwarding, ..calm }
}

/// An error of a client that is answered otherwise than the model says.
#[test]
fn a_wrong_end_of_a_misuse_is_noticed() {
    assert_noticed(Http2Bug::WrongCode, |seed| misuse(Abuse::StreamZeroIncrement, seed));
    assert_noticed(Http2Bug::SilentError, |seed| misuse(Abuse::DataAfterReset, seed));
    assert_noticed(Http2Bug::WrongEnd, |seed| misuse(Abuse::RapidReset, seed));
    assert_noticed(Http2Bug::GoesOn, |seed| misuse(Abuse::BadBlock, seed));
    // Files are sent before there are too many.
    assert_noticed(Http2Bug::Overfull, |seed| misuse(Abuse::StreamsOverMaximum, 2 * seed + 1));
}

#[test]
fn a_window_that_is_not_lent_is_noticed() {
    assert_noticed(Http2Bug::NotLent, tunnel_before_uploads);
}

/// A part of a body has come when its stream is reset.
#[test]
fn a_window_that_leaks_is_noticed() {
    assert_noticed(Http2Bug::LostRefund, |seed| misuse(Abuse::BodyBeyondLength, 2 * seed + 1));
}

/// Where there are time limits. Another one, or the next step of the stream, may stand for it.
#[test]
fn a_deadline_that_is_not_noted_is_noticed() {
    let (mut strikes, mut noticed) = (0, 0);
    for seed in 0..80 {
        let scenario = crate::over_http2(seed, Mood::Any);
        let report = run(scenario, Some((Bug::Http2(Http2Bug::LostDeadline), seed as u32 % 3)));
        assert!(report.has_planted_bug || report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
        noticed += u32::from(report.alarms.iter().any(|alarm| alarm.contains("deadline that its connection")));
    }
    assert!(strikes >= 10 && noticed * 6 >= strikes, "{noticed} of {strikes} were noticed");
}

/// Plants the bug in these runs: it strikes in most, and is noticed wherever it does.
fn assert_noticed(bug: Http2Bug, scenario: impl Fn(u64) -> Scenario) {
    let mut strikes = 0;
    for seed in 0..12 {
        let report = run(scenario(seed), Some((Bug::Http2(bug), 0)));
        assert_eq!(report.has_planted_bug, !report.alarms.is_empty(), "{bug:?}, seed {seed}: {:#?}", report.alarms);
        strikes += u32::from(report.has_planted_bug);
    }
    assert!(strikes >= 10, "{bug:?} struck {strikes} times");
}
