//! Who is let in, how often, and who is believed: by address, over the loopback's many.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::place::{Place, Service};
use crate::support::client::{ping, stays_silent};
use crate::support::{Backend, Upstream, backends, eventually, was_cut};
use crate::wire::{Response, Wire};

const SERVER: &str = "127.0.0.1";
const ALICE: [u8; 4] = [127, 0, 1, 1];
const BOB: [u8; 4] = [127, 0, 2, 2];
const REQUEST: &str = "GET /page HTTP/1.1\r\nHost: h\r\n\r\n";

/// A connection from one of the loopback's addresses.
fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of the loopback");
    socket.connect(&address.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::support::patience())).expect("a socket has it");
    stream
}

/// The answer to a request from there on a connection of its own.
fn get(source: [u8; 4], service: &Service, fields: &str) -> Response {
    let mut wire = Wire::over(connect_from(source, service.address()));
    wire.send(format!("GET /page HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    wire.response()
}

fn statuses(requests: usize, mut get: impl FnMut() -> Response) -> Vec<u16> {
    (0..requests).map(|_| get().status).collect()
}

/// A folder with a page, served as `server` and `route` say.
fn serve(backend: Backend, server: Value, route: Value, all: Value) -> (Place, Service) {
    let place = Place::new(backend);
    place.page("site", "a page");
    let mut files = json!({ "req_path": "/", "type": "file_serve", "dir_path": "site" });
    merge(&mut files, route);
    let mut http = json!({ "listeners": [{ "host": SERVER, "port": 0 }], "routes": [files] });
    merge(&mut http, server);
    place.configure_with([http], |document| merge(document, all));
    let service = place.start();
    (place, service)
}

fn merge(into: &mut Value, from: Value) {
    let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) else { panic!("objects") };
    into.extend(from);
}

backends! {
    fn a_server_lets_in_whom_it_is_for(backend) {
        let rules = json!({ "ip_whitelist": ["127.0.0.0/8"], "ip_blacklist": ["127.0.2.0/24"] });
        let (_place, service) = serve(backend, rules, json!({}), json!({}));
        assert_eq!(get(ALICE, &service, "").status, 200);
        let refused = get(BOB, &service, "");
        assert_eq!((refused.status, refused.is_last()), (403, false));
    }

    fn a_route_has_rules_of_its_own_and_the_servers_hold_too(backend) {
        let place = Place::new(backend);
        place.page("site", "a page");
        let route = |path: &str, allowed: &str| {
            json!({ "req_path": path, "type": "file_serve", "dir_path": "site", "ip_whitelist": [allowed] })
        };
        place.configure([json!({
            "listeners": [{ "host": SERVER, "port": 0 }],
            "ip_blacklist": ["127.0.3.3"],
            "routes": [route("/", "127.0.0.0/8"), route("/page", "127.0.1.1")],
        })]);
        let service = place.start();
        let get = |source: [u8; 4], path: &str| {
            let mut wire = Wire::over(connect_from(source, service.address()));
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            wire.response().status
        };
        assert_eq!([get(BOB, "/other"), get(BOB, "/page"), get(BOB, "/%70age")], [404, 403, 403]);
        assert_eq!([get([127, 0, 3, 3], "/other"), get([127, 0, 3, 3], "/page")], [403, 403]);
        assert_ne!(get(ALICE, "/page"), 403);
    }

    fn a_tcp_server_cuts_off_whom_it_is_not_for(backend) {
        let place = Place::new(backend);
        let mut echo = crate::place::echo(SERVER);
        merge(&mut echo, json!({ "ip_blacklist": ["127.0.2.2"] }));
        place.configure([echo]);
        let service = place.start();
        ping(&connect_from(ALICE, service.address()), b"who is there");
        assert!(was_cut(&connect_from(BOB, service.address())));
    }

    fn a_network_of_ipv4_that_is_written_as_ipv6_is_one_of_ipv4_in_every_list(backend) {
        let server = json!({ "ip_whitelist": ["::ffff:127.0.0.0/104"], "ip_blacklist": ["::ffff:127.0.2.0/120"] });
        let route = json!({ "ip_blacklist": ["::ffff:127.0.3.3"] });
        let all = json!({ "trusted_proxies": ["::ffff:127.0.1.1/128"], "connections_per_address": 1 });
        let (place, service) = serve(backend, server, route, all);
        assert_eq!([get(ALICE, &service, ""), get(BOB, &service, "")].map(|response| response.status), [200, 403]);
        assert_eq!(get([127, 0, 3, 3], &service, "").status, 403);
        // A trusted proxy is believed, and may have more connections than others.
        let _open = Wire::over(connect_from(ALICE, service.address()));
        assert_eq!(get(ALICE, &service, "X-Forwarded-For: 127.0.2.9\r\n").status, 403);
        assert_eq!(get(ALICE, &service, "X-Forwarded-For: 127.0.4.4\r\n").status, 200);

        let mut echo = crate::place::echo(SERVER);
        merge(&mut echo, json!({ "ip_blacklist": ["::ffff:127.0.2.2"] }));
        let other = Place::new(backend);
        other.configure([echo]);
        let service = other.start();
        ping(&connect_from(ALICE, service.address()), b"who is there");
        assert!(was_cut(&connect_from(BOB, service.address())));
        drop(place);
    }

    fn only_trusted_proxies_say_for_whom_they_come(backend) {
        let (place, service) = serve(
            backend,
            json!({ "ip_blacklist": ["192.0.2.7"] }),
            json!({}),
            json!({ "trusted_proxies": ["127.0.1.0/24"], "access_log": "access.log" }),
        );
        let for_seven = "X-Forwarded-For: 198.51.100.1, 192.0.2.7, 127.0.1.9\r\n";
        assert_eq!(get(ALICE, &service, for_seven).status, 403);
        assert_eq!(get(BOB, &service, for_seven).status, 200);
        assert_eq!(get(ALICE, &service, "X-Forwarded-For: 192.0.2.7, 192.0.2.8\r\n").status, 200);
        let who = || {
            let log = std::fs::read_to_string(place.path("access.log")).unwrap_or_default();
            log.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
        };
        eventually("three lines of the access log", || who().len() == 3);
        let mut who = who();
        who.sort_unstable();
        assert_eq!(who, ["127.0.2.2", "192.0.2.7", "192.0.2.8"]);
    }

    fn an_upstream_is_told_what_a_trusted_proxy_said_and_nothing_of_what_others_say(backend) {
        let (heads, seen) = std::sync::mpsc::channel();
        let upstream = Upstream::new(move |stream, _| {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            // Whoever reads both may have what is needed already.
            heads.send(head).ok();
            (&stream).write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok();
        });
        let place = Place::new(backend);
        let route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": [upstream.address().to_string()] });
        place.configure_with([crate::place::routes(SERVER, json!([route]))], |document| {
            document["trusted_proxies"] = json!(["127.0.1.1"]);
        });
        let service = place.start();
        let told = |source: [u8; 4]| {
            assert_eq!(get(source, &service, "X-Forwarded-For: 192.0.2.7\r\n").status, 204);
            let head: Vec<String> = seen.recv_timeout(crate::support::patience()).expect("a request");
            let line = head.iter().find_map(|line| line.strip_prefix("X-Forwarded-For: ")).map(str::to_owned);
            line.expect("a line that tells the client")
        };
        assert_eq!(told(ALICE), "192.0.2.7, 127.0.1.1");
        assert_eq!(told(BOB), "127.0.2.2");
    }

    fn who_asks_too_often_is_told_when_to_come_again(backend) {
        let (_place, service) =
            serve(backend, json!({}), json!({}), json!({ "requests_per_second": 1, "burst": 3 }));
        // All on one connection, at once: the answers before the look-up and after it are to one request each.
        let mut wire = Wire::over(connect_from(ALICE, service.address()));
        wire.send(REQUEST.repeat(4));
        assert_eq!(statuses(4, || wire.response())[..3], [200, 200, 200]);
        let refused = get(ALICE, &service, "");
        assert_eq!((refused.status, refused.field("Retry-After")), (429, Some("1")));
        assert_eq!(get(BOB, &service, "").status, 200);
        eventually("a request is allowed again", || get(ALICE, &service, "").status == 200);
    }

    fn each_visitor_of_a_trusted_proxy_has_a_rate_of_its_own(backend) {
        let limits = json!({ "requests_per_second": 1, "trusted_proxies": ["127.0.1.1"] });
        let (_place, service) = serve(backend, json!({}), json!({}), limits);
        for last in 1..=20 {
            assert_eq!(get(ALICE, &service, &format!("X-Forwarded-For: 192.0.2.{last}\r\n")).status, 200);
        }
        let again = statuses(3, || get(ALICE, &service, "X-Forwarded-For: 192.0.2.21\r\n"));
        assert!(again.contains(&429), "{again:?}");
    }

    fn an_address_has_no_more_connections_than_it_may(backend) {
        let (_place, service) = serve(backend, json!({}), json!({}), json!({ "connections_per_address": 2 }));
        let open = |source| {
            let mut wire = Wire::over(connect_from(source, service.address()));
            wire.send(REQUEST);
            wire
        };
        let mut first = [open(ALICE), open(ALICE)];
        first.iter_mut().for_each(|wire| assert_eq!(wire.response().status, 200));
        assert!(was_cut(&connect_from(ALICE, service.address())));
        assert_eq!(open(BOB).response().status, 200);
        drop(first);
        eventually("one may come in after others have left", || {
            let stream = connect_from(ALICE, service.address());
            let is_sent = (&stream).write_all(b"GET /page HTTP/1.0\r\n\r\n").is_ok();
            is_sent && !was_cut(&stream)
        });
    }

    fn beyond_the_limit_of_all_connections_one_waits(backend) {
        let (_place, service) = serve(backend, json!({}), json!({}), json!({ "max_connections": 2 }));
        let open = || {
            let mut wire = Wire::over(connect_from(ALICE, service.address()));
            wire.send(REQUEST);
            wire
        };
        let is_waiting = |wire: &Wire| stays_silent(&wire.stream, Duration::from_millis(50));
        // Workers are told at once that there is no room; connections that come in that very moment may still be served.
        let (mut served, mut waiting) = (Vec::new(), Vec::new());
        while waiting.len() < 3 {
            let wire = open();
            let list = if is_waiting(&wire) { &mut waiting } else { &mut served };
            list.push(wire);
            assert!(served.len() < 40, "nobody waits");
        }
        assert!(served.len() >= 2);
        served.iter_mut().for_each(|wire| assert_eq!(wire.response().status, 200));
        drop(served);
        while let Some(mut wire) = waiting.pop() {
            // Whoever is served makes room for another by leaving.
            waiting.retain(|wire| is_waiting(wire));
            if is_waiting(&wire) {
                waiting.insert(0, wire);
                continue;
            }
            assert_eq!(wire.response().status, 200);
        }
    }

    fn beyond_the_limit_of_all_connections_one_is_told_so_where_that_is_configured(backend) {
        let limits = json!({ "max_connections": 2, "when_full": "refuse" });
        let (_place, service) = serve(backend, json!({}), json!({}), limits);
        let (mut served, mut refused) = (Vec::new(), 0);
        while refused < 3 {
            let mut wire = Wire::over(connect_from(ALICE, service.address()));
            wire.send(REQUEST);
            match wire.response() {
                response if response.status == 200 => served.push(wire),
                response => {
                    assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")));
                    wire.expect_end();
                    refused += 1;
                }
            }
            assert!(served.len() < 40, "nobody is refused");
        }
        assert!(served.len() >= 2);
        drop(served);
        eventually("there is room again", || {
            let mut wire = Wire::over(connect_from(ALICE, service.address()));
            wire.send(REQUEST);
            wire.response().status == 200
        });
    }

    fn beyond_the_limit_that_is_the_answer_whatever_the_request_is(backend) {
        let limits = json!({ "max_connections": 1, "when_full": "refuse", "limits": { "http": { "head_timeout": "200ms" } } });
        let (_place, service) = serve(backend, json!({}), json!({}), limits);
        let open = || Wire::over(connect_from(ALICE, service.address()));
        // Workers are told that there is no room, and may let a few more in until they are.
        let mut served = Vec::new();
        loop {
            let mut wire = open();
            wire.send(REQUEST);
            if wire.response().status == 503 {
                break;
            }
            served.push(wire);
            assert!(served.len() < 40, "nobody is refused");
        }
        let long = "x".repeat(100_000);
        let too_large = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Long: {long}\r\n\r\n");
        let too_long = format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n");
        // The last one is never complete.
        for head in [&too_large, &too_long, "GET / HTTP/1.1\r\n\r\n", "no request\r\n\r\n", "GET /"] {
            let mut wire = open();
            wire.send(head);
            let response = wire.response();
            let begins = &head[..head.len().min(20)];
            assert_eq!((response.status, response.field("Retry-After")), (503, Some("1")), "{begins:?}");
            wire.expect_end();
        }
        assert!(!served.is_empty());
    }

    fn a_reload_changes_who_is_let_in_also_on_connections_that_are_there(backend) {
        let (place, service) = serve(backend, json!({}), json!({}), json!({}));
        let mut wire = Wire::over(connect_from(BOB, service.address()));
        wire.send(REQUEST);
        assert_eq!(wire.response().status, 200);
        let mut closed = crate::place::files(SERVER, "site");
        merge(&mut closed, json!({ "ip_blacklist": ["127.0.2.2"] }));
        place.configure([closed]);
        service.reload();
        eventually("the rule holds", || {
            wire.send(REQUEST);
            wire.response().status == 403
        });
        assert_eq!(get(ALICE, &service, "").status, 200);
    }
}
