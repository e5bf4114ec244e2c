//! Runs over HTTP/2 that are not drawn.

use std::time::Duration;

use xps::internals::config::{HttpLimits, Limits};

use super::client::abuse::{Abuse, HARMFUL, HARMLESS};
use super::habit::Habit;
use super::record::Counts;
use super::{client_with, plain_client};
use crate::forward::{Ask, Body, Forwarding, Method, Server};
use crate::origin;
use crate::run::run;
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
        let upgrade = Some(vec![b't'; 100_000]);
        let tunnel = Ask { upgrade, ..Ask::get(1, 100_000) };
        let body = || Some(Body { bytes: vec![b'x'; 80_000], chunk_bytes: None });
        let uploads = (2..9).map(|id| Ask { method: Method::Put, body: body(), ..Ask::get(id, 10) });
        let client = plain_client(std::iter::once(tunnel).chain(uploads).collect());
        let calm = Scenario::new(seed, Mood::Calm);
        let limits = Limits { connections_max: 1000, ..calm.limits };
        let forwarding =
            Forwarding { origins: vec![Server::Answers(vec![origin::Habit::plain()])], places: 1, ..calm.forwarding };
        let report = run(Scenario { clients: vec![client], limits, forwarding, ..calm }, None);
        assert!(report.alarms.is_empty(), "seed {seed}: {:#?}", report.alarms);
        assert_eq!((report.whole, report.http2.tunnels), (1, 1), "seed {seed}");
    }
}
