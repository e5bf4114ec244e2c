//! What an operator sets for endpoints by `xps ctl`: which of them take requests, and what part of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::load::withstands;
use crate::place::{Place, Service, kill, routes};
use crate::support::process::{Finished, Signal};
use crate::support::upstream::ClosedPort;
use crate::support::{Backend, Launch, Upstream, backends, eventually, uninterrupted};
use crate::wire::{Response, Wire};

const HERE: &str = "127.0.0.1";

/// An origin that tells its name, and counts what it is asked.
struct Origin {
    upstream: Upstream,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    fn new(name: &'static str) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let upstream = Upstream::new(move |mut stream, _| {
            if read_head(&mut stream) {
                count.fetch_add(1, Ordering::SeqCst);
                let length = name.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{name}");
                stream.write_all(answer.as_bytes()).ok();
            }
        });
        Self { upstream, asked }
    }

    fn address(&self) -> String {
        self.upstream.address().to_string()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if !matches!(uninterrupted(|| stream.read(&mut byte)), Ok(1)) {
            return false;
        }
        head.push(byte[0]);
    }
    true
}

/// A proxy with these upstreams and options, and an admin socket.
fn configure(place: &Place, upstreams: &Value, more: Value) {
    let mut route = json!({ "req_path": "/app", "type": "reverse_proxy", "upstreams": upstreams });
    if let (Some(route), Value::Object(more)) = (route.as_object_mut(), more) {
        route.extend(more);
    }
    place
        .configure_with([routes(HERE, json!([route]))], |document| document["admin"] = json!({ "unix": "admin.sock" }));
}

#[track_caller]
fn ctl(place: &Place, words: &[&str]) -> Finished {
    let socket = place.path("admin.sock");
    Launch::new(Backend::Epoll, ["ctl", "--json", "--socket"])
        .flag(socket.display())
        .flags(words.iter().copied())
        .run(b"")
}

/// What a command says that is done.
#[track_caller]
pub fn done(place: &Place, words: &[&str]) -> Value {
    let finished = ctl(place, words);
    assert_eq!(finished.status.code(), Some(0), "{words:?}: {}", finished.errors);
    serde_json::from_slice(&finished.output).expect("JSON")
}

/// What the server says of an endpoint.
#[track_caller]
fn endpoint(place: &Place, address: &str) -> Value {
    let all = done(place, &["endpoints"]);
    let all = all["endpoints"].as_array().expect("a list");
    all.iter().find(|endpoint| endpoint["address"] == address).unwrap_or_else(|| panic!("{address}: {all:?}")).clone()
}

#[track_caller]
fn get(service: &Service, lines: &str) -> Response {
    let mut wire = Wire::to(service.address());
    wire.send(format!("GET /app HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n"));
    wire.response()
}

/// These options, with weights in the file.
fn weighted(mut more: Value) -> Value {
    more["load_balancing"] = json!("weighted_round_robin");
    more
}

/// Has a new process take over, and waits until it answers on the admin socket.
#[track_caller]
fn replace(service: &mut Service, place: &Place) {
    service.replace();
    eventually("the new process answers", || {
        let finished = ctl(place, &["status"]);
        let status = serde_json::from_slice::<Value>(&finished.output).unwrap_or_default();
        status["process"] == service.pid()
    });
}

/// Who answers a number of requests.
#[track_caller]
fn who(service: &Service, requests: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..requests).map(|_| get(service, "").text()).collect();
    names.sort();
    names
}

backends! {
    fn a_drain_of_an_endpoint_under_load_loses_no_request(backend) {
        let place = Place::new(backend);
        let origins = [Origin::new("first"), Origin::new("second")];
        configure(&place, &json!(origins.each_ref().map(Origin::address)), json!({}));
        let service = place.start();
        let page = ("/app", [b"first".to_vec(), b"second".to_vec()]);
        withstands("a drain of an endpoint", service.address(), &[page], 6, |turn| {
            let origin = &origins[turn % 2];
            let name = format!("*/app/{}", origin.address());
            done(&place, &["drain", &name]);
            eventually("nothing is in flight there", || endpoint(&place, &origin.address())["in_flight"] == 0);
            let asked = origin.asked();
            let others = origins[1 - turn % 2].asked();
            eventually("the other one goes on", || origins[1 - turn % 2].asked() > others + 20);
            assert_eq!(origin.asked(), asked, "it got a request after it was drained");
            done(&place, &["auto", &name]);
        });
    }

    fn drain_down_up_and_auto_decide_who_takes_requests(backend) {
        let place = Place::new(backend);
        let (first, second) = (Origin::new("first"), Origin::new("second"));
        configure(&place, &json!([first.address(), second.address()]), json!({}));
        let service = place.start();
        assert_eq!(who(&service, 4).len(), 4);
        for command in ["drain", "down"] {
            let changed = done(&place, &[command, &first.address()]);
            assert_eq!(changed["endpoints"][0]["set"], command);
            assert_eq!(who(&service, 6), ["second"; 6], "{command}");
            done(&place, &["auto", &first.address()]);
            let names = who(&service, 8);
            assert!(names.contains(&"first".to_owned()) && names.contains(&"second".to_owned()), "{names:?}");
        }
        // All of them: no request can be served, and none waits.
        for origin in [&first, &second] {
            done(&place, &["down", &origin.address()]);
        }
        assert_eq!(get(&service, "").status, 503);
        done(&place, &["up", &second.address()]);
        assert_eq!(who(&service, 4), ["second"; 4]);
    }

    fn up_overrules_health_checks(backend) {
        let place = Place::new(backend);
        let (live, broken) = (Origin::new("live"), ClosedPort::new());
        let check = json!({ "health_check": { "active": { "interval": "50ms", "rise": 1, "fall": 1 } }, "tries": 1 });
        configure(&place, &json!([live.address(), broken.address().to_string()]), check);
        let service = place.start();
        eventually("it is down", || endpoint(&place, &broken.address().to_string())["health"] == "down");
        assert_eq!(who(&service, 4), ["live"; 4]);
        done(&place, &["up", &broken.address().to_string()]);
        eventually("it gets requests", || get(&service, "").status == 502);
    }

    fn a_sticky_session_ends_when_its_endpoint_is_drained(backend) {
        let place = Place::new(backend);
        let (first, second) = (Origin::new("first"), Origin::new("second"));
        configure(&place, &json!([first.address(), second.address()]), json!({ "load_balancing": "sticky_cookie" }));
        let service = place.start();
        let answer = get(&service, "");
        let cookie = answer.field("Set-Cookie").expect("a cookie").split(';').next().expect("a value").to_owned();
        let (own, other) = if answer.text() == "first" { (&first, "second") } else { (&second, "first") };
        let line = format!("Cookie: {cookie}\r\n");
        assert_eq!(get(&service, &line).text(), answer.text());
        done(&place, &["drain", &own.address()]);
        for _ in 0..4 {
            assert_eq!(get(&service, &line).text(), other);
        }
    }

    fn a_weight_can_be_set(backend) {
        let place = Place::new(backend);
        let (first, second) = (Origin::new("first"), Origin::new("second"));
        configure(&place, &json!([first.address(), second.address()]), json!({}));
        let service = place.start();
        done(&place, &["weight", &first.address(), "9"]);
        let names = who(&service, 40);
        let heavy = names.iter().filter(|name| *name == "first").count();
        assert!((30..40).contains(&heavy), "{heavy} of 40");
        done(&place, &["weight", &first.address(), "0"]);
        assert_eq!(who(&service, 6), ["second"; 6]);
    }

    fn what_is_set_survives_a_reload_and_status_says_what_differs(backend) {
        let place = Place::new(backend);
        let (first, second) = (Origin::new("first"), Origin::new("second"));
        let both = json!([{ "address": first.address(), "weight": 3 }, second.address()]);
        configure(&place, &both, weighted(json!({})));
        let service = place.start();
        assert_eq!(done(&place, &["status"])["differs"], json!([]));
        done(&place, &["drain", &first.address()]);
        done(&place, &["weight", &second.address(), "7"]);
        configure(&place, &both, weighted(json!({ "tries": 2 })));
        service.reload();
        assert_eq!(who(&service, 4), ["second"; 4]);
        let differs = done(&place, &["status"])["differs"].clone();
        assert_eq!((&differs[0]["set"], &differs[0]["weight"]), (&json!("drain"), &json!(3)));
        assert_eq!((&differs[1]["weight"], &differs[1]["weight_in_file"]), (&json!(7), &json!(1)));
        let text = Launch::new(Backend::Epoll, ["ctl", "--socket"]).flag(place.path("admin.sock").display()).flag("status").run(b"");
        let text = String::from_utf8_lossy(&text.output).into_owned();
        assert!(text.contains("what differs from the file:") && text.contains("weight 7 (in the file 1)"), "{text}");
        // An endpoint that is gone in between is new.
        configure(&place, &json!([second.address()]), json!({}));
        service.reload();
        configure(&place, &both, weighted(json!({})));
        service.reload();
        assert_eq!(endpoint(&place, &first.address())["set"], "auto");
        assert_eq!(endpoint(&place, &second.address())["weight"], 7);
    }

    fn what_is_set_goes_to_a_process_that_replaces_this_one(backend) {
        let place = Place::new(backend);
        let (first, second) = (Origin::new("first"), Origin::new("second"));
        let both = json!([{ "address": first.address(), "weight": 3 }, second.address()]);
        configure(&place, &both, weighted(json!({})));
        let mut service = place.start();
        done(&place, &["drain", &first.address()]);
        done(&place, &["weight", &second.address(), "7"]);
        replace(&mut service, &place);
        assert_eq!(who(&service, 4), ["second"; 4]);
        assert_eq!(endpoint(&place, &first.address())["set"], "drain");
        assert_eq!(endpoint(&place, &second.address())["weight"], 7);
        // Nothing is left of what was taken back.
        done(&place, &["auto", &first.address()]);
        done(&place, &["auto", &second.address()]);
        replace(&mut service, &place);
        assert_eq!(done(&place, &["status"])["differs"], json!([]));
        let names = who(&service, 8);
        assert!(names.contains(&"first".to_owned()), "{names:?}");
    }

    fn nothing_is_set_while_a_new_process_takes_over(backend) {
        let place = Place::new(backend);
        let origin = Origin::new("only");
        configure(&place, &json!([origin.address()]), json!({}));
        let service = place.start();
        // Nobody ever writes to it, so the new process waits for its configuration.
        std::fs::remove_file(place.file()).expect("it was written");
        assert!(Command::new("mkfifo").arg(place.file()).status().expect("mkfifo starts").success());
        let begun = service.until_told("a new process takes over", || service.signal(Signal::User2));
        let refused = ctl(&place, &["drain", &origin.address()]);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
        assert!(refused.errors.contains("a new process is taking over"), "{}", refused.errors);
        let process = begun.number("process").expect("its number");
        service.until_told("the new process ended before it served; this one goes on", || kill(Signal::Terminate, process));
        done(&place, &["drain", &origin.address()]);
        assert_eq!(endpoint(&place, &origin.address())["set"], "drain");
    }

    fn an_endpoint_that_is_not_there_is_refused_and_those_that_are_there_are_named(backend) {
        let place = Place::new(backend);
        let origin = Origin::new("only");
        configure(&place, &json!([origin.address()]), json!({}));
        let service = place.start();
        for words in [&["drain", "*/app/127.0.0.1:1"][..], &["up", "x"], &["down", ""], &["auto", "*/app"], &["weight", "x", "1"]] {
            let finished = ctl(&place, words);
            assert_eq!(finished.status.code(), Some(1), "{words:?}");
            let known = format!("*/app/{}", origin.address());
            assert!(finished.errors.contains("there is no endpoint") && finished.errors.contains(&known), "{}", finished.errors);
        }
        for words in [&["weight", "x"][..], &["weight", "x", "65536"], &["weight", "x", "-1"], &["drain"]] {
            assert_eq!(ctl(&place, words).status.code(), Some(2), "{words:?}");
        }
        assert_eq!(who(&service, 1), ["only"]);
    }
}
