//! Which upstream a request goes to: the policies as they are named in a file and on the command line, by what they do.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::place::{Place, Service, routes};
use crate::run::endpoint::Endpoint;
use crate::support::log::Record;
use crate::support::{Backend, Launch, Upstream, Xps, ask, backends, eventually, patience};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";
const NAMES: [&str; 3] = ["first", "second", "third"];

/// A proxy before these, with these options; one worker, so that what is in turn is in turn.
fn start(backend: Backend, upstreams: Value, options: Value) -> (Place, Service) {
    let place = Place::new(backend);
    let mut route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": upstreams });
    let entries = options.as_object().expect("an object").clone();
    route.as_object_mut().expect("an object").extend(entries);
    place.configure_with([routes(HERE, json!([route]))], |document| {
        document["workers"] = json!(1);
        document["trusted_proxies"] = json!([HERE]);
    });
    let service = place.start();
    (place, service)
}

fn endpoints() -> [Endpoint; 3] {
    NAMES.map(Endpoint::new)
}

fn plain(endpoints: &[Endpoint]) -> Value {
    endpoints.iter().map(Endpoint::to_json).collect()
}

#[track_caller]
fn get(address: std::net::SocketAddr, target: &str, line: &str) -> Response {
    let mut wire = Wire::to(address);
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{line}\r\n"));
    let response = wire.response();
    assert_eq!(response.status, 200, "{response:?}");
    response
}

/// Who answers.
#[track_caller]
fn who(service: &Service, target: &str, line: &str) -> String {
    get(service.address(), target, line).text()
}

/// How many of so many requests each gets.
#[track_caller]
fn shares(service: &Service, requests: usize) -> Vec<usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        *shares.entry(who(service, "/", "")).or_insert(0) += 1;
    }
    NAMES.iter().map(|name| shares.get(*name).copied().unwrap_or(0)).collect()
}

/// Equal keys go to the same member, and not all keys to one.
#[track_caller]
fn expect_by_key(ask: impl Fn(usize) -> String) {
    let first: Vec<String> = (0..30).map(&ask).collect();
    let again: Vec<String> = (0..30).map(&ask).collect();
    assert_eq!(first, again);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), NAMES.len(), "{first:?}");
}

/// Upstreams that tell of each request, and answer when the test does.
struct Patient {
    upstreams: Vec<Upstream>,
    arrivals: Receiver<Arrival>,
}

/// A request that waits for its answer.
struct Arrival {
    at: usize,
    stream: TcpStream,
}

impl Patient {
    fn new() -> Self {
        let (sender, arrivals) = channel();
        let upstream = |at: usize| {
            let sender = sender.clone();
            Upstream::new(move |stream, _| {
                let mut requests = BufReader::new(stream.try_clone().expect("a descriptor is free"));
                let mut line = String::new();
                while requests.read_line(&mut line).is_ok_and(|got| got > 0) {
                    if line == "\r\n" {
                        let stream = stream.try_clone().expect("a descriptor is free");
                        // After the test's end nobody receives.
                        let _ = sender.send(Arrival { at, stream });
                    }
                    line.clear();
                }
            })
        };
        Self { upstreams: (0..3).map(upstream).collect(), arrivals }
    }

    fn to_json(&self) -> Value {
        self.upstreams.iter().map(|upstream| json!(upstream.address().to_string())).collect()
    }

    /// A request by a client of its own, and where it arrives.
    #[track_caller]
    fn ask(&self, address: std::net::SocketAddr) -> (Wire, Arrival) {
        let mut wire = Wire::to(address);
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        (wire, self.arrivals.recv_timeout(patience()).expect("a request arrives"))
    }
}

impl Arrival {
    /// Answers, and waits until the client has that.
    #[track_caller]
    fn answer(mut self, client: &mut Wire) {
        self.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the proxy takes it");
        assert_eq!(client.response().status, 200);
    }
}

/// Three at once go to three; who is done first gets the next.
#[track_caller]
fn expect_least_loaded(patient: &Patient, address: std::net::SocketAddr) {
    let mut waiting: Vec<(Wire, Arrival)> = (0..3).map(|_| patient.ask(address)).collect();
    let places: BTreeSet<usize> = waiting.iter().map(|(_, arrival)| arrival.at).collect();
    assert_eq!(places.len(), 3, "{places:?}");
    for _ in 0..5 {
        let (mut client, arrival) = waiting.remove(1);
        let free = arrival.at;
        arrival.answer(&mut client);
        let next = patient.ask(address);
        assert_eq!(next.1.at, free);
        waiting.push(next);
    }
    for (mut client, arrival) in waiting {
        arrival.answer(&mut client);
    }
}

/// The number of the worker that served the connection from there.
#[track_caller]
fn worker_of(service: &Service, client: std::net::SocketAddr) -> u64 {
    let record = service.first.log().wait_for("the connection's end", |record| {
        record.message() == "connection ended" && record.text("peer") == Some(client.to_string().as_str())
    });
    let Record::Json(value) = record else { panic!("the log is JSON") };
    value["span"]["number"].as_u64().expect("a worker's number")
}

backends! {
    fn workers_begin_at_different_upstreams_also_after_a_reload(backend) {
        const WORKERS: usize = 4;
        let place = Place::new(backend);
        let configure = |endpoints: &[Endpoint; WORKERS]| {
            let route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": plain(endpoints) });
            place.configure_with([routes(HERE, json!([route]))], |document| document["workers"] = json!(WORKERS));
        };
        let before = ["a", "b", "c", "d"].map(Endpoint::new);
        configure(&before);
        // The session log says which worker a connection was with.
        let service = Service::new(place.launch().logging("info,xps::session=debug").start());
        // Whose turn is first, of each worker; the kernel chooses the worker.
        let firsts = |names: [&str; WORKERS]| {
            let mut firsts = BTreeMap::new();
            for _ in 0..2000 {
                let mut wire = Wire::to(service.address());
                let client = wire.stream.local_addr().expect("connected");
                wire.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                let name = wire.response().text();
                drop(wire);
                // A worker may not have heard of the reload.
                if names.contains(&name.as_str()) {
                    firsts.entry(worker_of(&service, client)).or_insert(name);
                }
                if firsts.len() == WORKERS {
                    break;
                }
            }
            firsts.into_values().collect::<BTreeSet<_>>()
        };
        assert_eq!(firsts(["a", "b", "c", "d"]).len(), WORKERS);
        let after = ["e", "f", "g", "h"].map(Endpoint::new);
        configure(&after);
        service.reload();
        assert_eq!(firsts(["e", "f", "g", "h"]).len(), WORKERS);
    }

    fn in_turn_each_has_as_many_as_the_others(backend) {
        let endpoints = endpoints();
        let (_place, service) = start(backend, plain(&endpoints), json!({}));
        assert_eq!(shares(&service, 30), [10, 10, 10]);
    }

    fn in_turn_by_weight_each_has_its_share(backend) {
        let endpoints = endpoints();
        let weighted = endpoints.iter().zip([3, 2, 1]).map(|(endpoint, weight)| json!({ "address": endpoint.to_json(), "weight": weight }));
        let (_place, service) = start(backend, weighted.collect(), json!({ "load_balancing": "weighted_round_robin" }));
        assert_eq!(shares(&service, 60), [30, 20, 10]);
        // Not in blocks: of six in a row each has its share.
        assert_eq!(shares(&service, 6), [3, 2, 1]);
    }

    fn the_one_with_the_fewest_requests_gets_the_next(backend) {
        let patient = Patient::new();
        let (_place, service) = start(backend, patient.to_json(), json!({ "load_balancing": "least_conn" }));
        expect_least_loaded(&patient, service.address());
    }

    fn of_two_that_are_drawn_the_more_loaded_gets_nothing(backend) {
        let patient = Patient::new();
        let (_place, service) = start(backend, patient.to_json(), json!({ "load_balancing": "random_two" }));
        // Whoever has more than each of the others is never the less loaded of two.
        let (mut held, arrival) = patient.ask(service.address());
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let (mut client, other) = patient.ask(service.address());
            assert_ne!(other.at, arrival.at);
            seen.insert(other.at);
            other.answer(&mut client);
        }
        assert_eq!(seen.len(), 2, "sixty draws between two equals");
        arrival.answer(&mut held);
    }

    fn the_same_key_goes_to_the_same_member(backend) {
        let endpoints = endpoints();
        let (_place, service) = start(backend, plain(&endpoints), json!({ "load_balancing": "ip_hash" }));
        expect_by_key(|key| who(&service, "/", &format!("X-Forwarded-For: 192.0.2.{key}\r\n")));
        let options = json!({ "load_balancing": "header_hash", "hash_header": "X-Tenant" });
        let (_place, service) = start(backend, plain(&endpoints), options);
        expect_by_key(|key| who(&service, &format!("/{key}"), &format!("x-tenant: tenant {key}\r\n")));
        let (_place, service) = start(backend, plain(&endpoints), json!({ "load_balancing": "path_hash" }));
        let asked = Cell::new(0);
        expect_by_key(|key| {
            asked.set(asked.get() + 1);
            who(&service, &format!("/path/{key}?query={}", asked.get()), "")
        });
    }

    fn a_key_moves_only_when_its_member_is_gone(backend) {
        let mut endpoints = endpoints();
        let options = json!({
            "load_balancing": "header_hash",
            "hash_header": "X-Tenant",
            "health_check": { "passive": { "failures": 1, "backoff": "10m" } },
        });
        let (_place, service) = start(backend, plain(&endpoints), options);
        let all = || -> Vec<String> { (0..30).map(|key| who(&service, "/", &format!("X-Tenant: {key}\r\n"))).collect() };
        let before = all();
        endpoints[1].kill();
        let after = all();
        assert!(!after.iter().any(|name| name == NAMES[1]));
        for (before, after) in before.iter().zip(&after).filter(|(before, _)| *before != NAMES[1]) {
            assert_eq!(before, after, "its member is well");
        }
    }

    fn a_cookie_binds_a_client_until_its_member_is_gone(backend) {
        let mut endpoints = endpoints();
        let (_place, service) = start(backend, plain(&endpoints), json!({ "load_balancing": "sticky_cookie", "cookie_name": "route" }));
        let cookie_of = |response: &Response| {
            let line = response.field("Set-Cookie").unwrap_or_else(|| panic!("no cookie: {response:?}")).to_owned();
            let (cookie, attributes) = line.split_once("; ").expect("attributes");
            assert!(cookie.starts_with("route=") && attributes.contains("HttpOnly"), "{line}");
            format!("Cookie: a=b; {cookie}\r\n")
        };
        let first = get(service.address(), "/", "");
        let cookie = cookie_of(&first);
        for _ in 0..10 {
            let again = get(service.address(), "/", &cookie);
            assert_eq!((again.text(), again.field("Set-Cookie")), (first.text(), None));
        }
        assert_ne!(cookie_of(&get(service.address(), "/", "")), cookie, "another client, another member");
        let bound = NAMES.iter().position(|name| *name == first.text()).expect("one of them");
        endpoints[bound].kill();
        let moved = get(service.address(), "/", &cookie);
        assert_ne!(moved.text(), first.text());
        let cookie = cookie_of(&moved);
        for _ in 0..10 {
            let again = get(service.address(), "/", &cookie);
            assert_eq!((again.text(), again.field("Set-Cookie")), (moved.text(), None));
        }
        let forged = get(service.address(), "/", "Cookie: route=forged\r\n");
        cookie_of(&forged);
    }

    fn a_backup_is_used_while_no_other_is_well(backend) {
        let mut endpoints = endpoints();
        let backup = json!({ "address": endpoints[2].to_json(), "backup": true });
        let options = json!({ "health_check": { "passive": { "failures": 1, "backoff": "20ms", "slow_start": "0s" } } });
        let (_place, service) = start(backend, json!([endpoints[0].to_json(), endpoints[1].to_json(), backup]), options);
        assert_eq!(shares(&service, 20), [10, 10, 0]);
        endpoints[0].kill();
        assert_eq!(shares(&service, 20)[2], 0, "one of the others is well");
        endpoints[1].kill();
        assert_eq!(shares(&service, 20), [0, 0, 20]);
        endpoints[0].revive();
        eventually("the one that is back serves", || who(&service, "/", "") == NAMES[0]);
        assert_eq!(shares(&service, 20), [20, 0, 0]);
    }

    fn the_command_line_has_policies_too(backend) {
        let launch = |upstreams: &Value, words: &[&str]| -> Xps {
            let upstreams = upstreams.as_array().expect("a list").iter().filter_map(Value::as_str);
            let upstreams = upstreams.flat_map(|upstream| ["--upstream", upstream]);
            let common = ["proxy", "--listen", "127.0.0.1:0", "--workers", "1"];
            Launch::new(backend, common.into_iter().chain(upstreams).chain(words.iter().copied())).start()
        };
        let endpoints = endpoints();
        let xps = launch(&plain(&endpoints), &["--http", "--balance", "round-robin"]);
        let names: Vec<String> = (0..6).map(|_| get(xps.address(), "/", "").text()).collect();
        assert_eq!(names[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{names:?}");
        assert_eq!(names[..3], names[3..]);
        let xps = launch(&plain(&endpoints), &["--http", "--balance", "ip-hash"]);
        let names: BTreeSet<String> = (0..6).map(|_| get(xps.address(), "/", "").text()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let patient = Patient::new();
        let xps = launch(&patient.to_json(), &["--http", "--balance", "least-conn"]);
        expect_least_loaded(&patient, xps.address());
        let xps = launch(&patient.to_json(), &["--http", "--balance", "random-two"]);
        let (mut held, arrival) = patient.ask(xps.address());
        for _ in 0..10 {
            let (mut client, other) = patient.ask(xps.address());
            assert_ne!(other.at, arrival.at);
            other.answer(&mut client);
        }
        arrival.answer(&mut held);
    }

    fn connections_over_tcp_are_balanced_too(backend) {
        let place = Place::new(backend);
        let greeters = NAMES.map(|name| Upstream::new(move |mut stream, _| drop(stream.write_all(name.as_bytes()))));
        let addresses: Vec<String> = greeters.iter().map(|greeter| greeter.address().to_string()).collect();
        let server = |host: &str, policy: &str| json!({
            "listeners": [{ "host": host, "port": 0 }],
            "protocol": "tcp",
            "handler": "tcp_proxy",
            "upstreams": addresses,
            "load_balancing": policy,
        });
        place.configure_with([server(HERE, "round_robin"), server("127.0.0.2", "ip_hash")], |document| {
            document["workers"] = json!(1);
        });
        let service = Service::new(place.launch().listening_on(2).start());
        let names = |host: &str| -> Vec<Vec<u8>> { (0..6).map(|_| ask(service.address_on(host), b"")).collect() };
        let in_turn = names(HERE);
        assert_eq!(in_turn[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{in_turn:?}");
        assert_eq!(in_turn[..3], in_turn[3..]);
        assert_eq!(names("127.0.0.2").iter().collect::<BTreeSet<_>>().len(), 1);
    }
}
