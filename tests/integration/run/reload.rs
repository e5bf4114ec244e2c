//! SIGHUP and `xps reload`: another configuration from now on, and nothing that is under way is disturbed.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use crate::place::{Place, Service, echo, files, routes};
use crate::run::load::withstands;
use crate::support::client::ping;
use crate::support::process::{Signal, sleeper, wait_for_exit};
use crate::support::server::Launch;
use crate::support::{
    Backend, Content, Upstream, WaitingWriter, assert_same_bytes, backends, connect, eventually, patience,
};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";

/// Folders `one` and `two`, each with a `page` that says so.
fn two_pages(backend: Backend) -> Place {
    let place = Place::new(backend);
    place.page("one", "one");
    place.page("two", "two");
    place
}

#[track_caller]
fn page(wire: &mut Wire) -> String {
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = wire.response();
    format!("{} {}", response.status, response.text())
}

/// An upstream that answers each request with this, and speaks as an echo when it is asked to upgrade.
pub fn upstream(body: &'static str) -> Upstream {
    upstream_on(TcpListener::bind((HERE, 0)).expect("loopback has a free port"), body)
}

/// The same, on a listener of the caller's.
pub fn upstream_on(listener: TcpListener, body: &'static str) -> Upstream {
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Upstream::on(listener, move |stream, _| {
        let mut requests = BufReader::new(&stream);
        while let Some(head) = head(&mut requests) {
            let is_upgrade = head.contains("Upgrade: ");
            let answer = if is_upgrade { SWITCH } else { &answer };
            if (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
            if is_upgrade {
                return drop(std::io::copy(&mut requests, &mut &stream));
            }
        }
    })
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// The next request's head; `None` at the connection's end.
fn head(requests: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if requests.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A route to it.
pub fn proxied(path: &str, upstream: &Upstream) -> Value {
    json!({ "req_path": path, "type": "reverse_proxy", "upstreams": [upstream.address().to_string()] })
}

backends! {
    fn requests_get_the_new_handler_also_on_connections_that_were_there(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        let mut old = Wire::to(service.address());
        assert_eq!(page(&mut old), "200 one");
        place.configure([files(HERE, "two")]);
        service.reload();
        eventually("the new page, on the old connection", || page(&mut old) == "200 two");
        assert_eq!(page(&mut Wire::to(service.address())), "200 two");
    }

    fn a_listener_is_added_and_removed(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        let here = service.address_on(HERE);
        place.configure([files(HERE, "one"), files(THERE, "two")]);
        service.reload();
        let there = service.address_on(THERE);
        assert_eq!(page(&mut Wire::to(there)), "200 two");
        assert_eq!(page(&mut Wire::to(here)), "200 one");
        let mut kept = Wire::to(there);
        assert_eq!(page(&mut kept), "200 two");
        place.configure([files(HERE, "two")]);
        service.reload();
        eventually("nobody listens there", || TcpStream::connect(there).is_err());
        assert_eq!(page(&mut Wire::to(here)), "200 two");
        assert_eq!(page(&mut kept), "200 two", "a connection outlives its listener");
    }

    fn a_bad_file_changes_nothing_and_says_why(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        let mut wire = Wire::to(service.address());
        place.write("{\n  \"servers\": [{ \"listeners\": [{ \"prot\": 1 }] }]\n}");
        place.page("one", "the first");
        const REFUSED: &str = "the configuration is refused, and nothing has changed";
        const RELOADED: &str = "the configuration was reloaded";
        let refused = service.first.log().clone();
        service.signal(Signal::Hangup);
        let record = refused.wait_for("the refusal", |record| record.message().starts_with(REFUSED));
        assert!(record.message().contains("xps_config.json:2:33: "), "{record}");
        assert!(record.message().contains("port"), "names the nearest key: {record}");
        eventually("the page that was there before", || page(&mut wire) == "200 the first");
        // A file that is well, and cannot be put into practice.
        let taken = TcpListener::bind((THERE, 0)).expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let server = json!({ "listeners": [{ "host": THERE, "port": port }], "protocol": "tcp", "handler": "echo" });
        place.configure([files(HERE, "two"), server.clone()]);
        let record = service.until_told(REFUSED, || service.signal(Signal::Hangup));
        assert!(record.text("error").is_some_and(|error| error.contains(&format!("{THERE}:{port}"))), "{record}");
        assert_eq!(page(&mut Wire::to(service.address())), "200 the first");
        assert_eq!(page(&mut wire), "200 the first");
        // And then it can, once no child that another test has just forked holds a copy of the socket any more.
        drop(taken);
        eventually("the file is put into practice", || {
            let told = || service.count(REFUSED) + service.count(RELOADED);
            let before = told();
            service.signal(Signal::Hangup);
            eventually("what came of the reload", || told() > before);
            service.count(RELOADED) > 0
        });
        eventually("the new page", || page(&mut wire) == "200 two");
        ping(&connect((THERE.parse::<std::net::IpAddr>().expect("an address"), port).into()), b"hello");
    }

    fn what_is_under_way_goes_on(backend) {
        let place = two_pages(backend);
        let content = Content::bytes(5, 48 << 20);
        place.page("large", &content);
        let upstream = upstream("from the upstream");
        let chat = |path| routes(HERE, json!([proxied(path, &upstream), { "req_path": "/", "type": "file_serve", "dir_path": "large" }]));
        place.configure([chat("/chat"), echo(THERE)]);
        let service = Service::new(place.launch().listening_on(2).start());
        let (here, there) = (service.address_on(HERE), service.address_on(THERE));
        let spoken = connect(there);
        ping(&spoken, b"before");
        let mut download = Wire::to(here);
        download.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(download.head_only().length(), Some(content.len() as u64));
        let mut upgraded = Wire::to(here);
        upgraded.send("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(upgraded.response().status, 101);
        upgraded.send("before");
        assert_eq!(upgraded.take(6), b"before");
        // Twice, and nothing that they use is configured any more.
        for folder in ["one", "two"] {
            place.configure([files(HERE, folder)]);
            service.reload();
            eventually("the echo's listener is gone", || TcpStream::connect(there).is_err());
            ping(&spoken, b"after");
            upgraded.send("after");
            assert_eq!(upgraded.take(5), b"after");
            eventually("the new page", || page(&mut Wire::to(here)) == format!("200 {folder}"));
        }
        assert_same_bytes(&download.take(content.len()), &content);
        assert_eq!(page(&mut download), "200 two");
    }

    fn xps_reload_asks_for_it(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        place.configure([files(HERE, "two")]);
        service.until_told("the configuration was reloaded", || {
            let finished = Launch::new(backend, ["reload"]).flag(service.pid()).run(b"");
            assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
        });
        eventually("the new page", || page(&mut Wire::to(service.address())) == "200 two");
    }

    fn what_is_given_holds_in_place_of_the_file_also_after_a_reload_and_a_replacement(backend) {
        let place = two_pages(backend);
        let configure = |folder| {
            place.configure_with([files(HERE, folder)], |document| {
                document["limits"]["http"] = json!({ "head_bytes_max": "32k", "requests_max": 100 });
            });
        };
        configure("one");
        let launch = place.launch().flags(["--head-size", "1k"]).through(["env", "XPS_MAX_REQUESTS=1"]);
        let mut service = Service::new(launch.start());
        let holds = |address, body: &str| {
            let mut large = Wire::to(address);
            large.send(format!("GET /page HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(2000)));
            assert_eq!(large.response().status, 431, "the command line's --head-size");
            let mut last = Wire::to(address);
            last.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
            let response = last.response();
            assert_eq!(response.field("Connection"), Some("close"), "the variable's XPS_MAX_REQUESTS");
            assert_eq!(response.text(), body);
        };
        let address = service.address();
        holds(address, "one");
        let told = service.first.log().wait_for("what is overruled", |record| record.message().starts_with("these options"));
        assert_eq!((told.text("command_line"), told.text("environment")), (Some("head_size"), Some("max_requests")));
        configure("two");
        service.reload();
        eventually("the new page", || page(&mut Wire::to(address)) == "200 two");
        holds(address, "two");
        service.replace();
        holds(address, "two");
    }

    fn what_a_reload_cannot_change_is_said(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        let mut wire = Wire::to(service.address());
        assert_eq!(page(&mut wire), "200 one");
        let keys = ["workers", "pin_workers", "backend", "uring_off", "limits.pool"];
        let told = |service: &Service| {
            let records = service.first.log().records();
            let keys: Vec<String> = records.iter().filter_map(|record| record.text("key").map(str::to_owned)).collect();
            keys
        };
        place.configure_with([files(HERE, "two")], |document| {
            document["workers"] = json!(3);
            document["pin_workers"] = json!(true);
            document["backend"] = json!("auto");
            document["uring_off"] = json!(["defer-taskrun"]);
            document["limits"]["pool"] = json!({ "small_max": 77 });
        });
        service.until_told("the configuration was reloaded", || service.signal(Signal::Hangup));
        assert_eq!(told(&service), keys);
        let remedy = service.first.log().records().iter().filter(|record| record.message().contains("SIGUSR2")).count();
        assert_eq!(remedy, keys.len(), "each with what to do");
        eventually("the rest is taken over", || page(&mut wire) == "200 two");
        // What is as it was, is not spoken of.
        place.configure([files(HERE, "one")]);
        service.until_told("the configuration was reloaded", || service.signal(Signal::Hangup));
        assert_eq!(told(&service).len(), keys.len());
    }

    fn xps_reload_leaves_those_alone_that_would_die_of_it(backend) {
        let xps = Launch::echo(backend).start();
        let refused = Launch::new(backend, ["reload"]).flag(xps.pid()).run(b"");
        assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
        assert!(refused.errors.contains("no configuration file") && refused.errors.contains("--force"), "{}", refused.errors);
        ping(&connect(xps.address()), b"still here");
        xps.finish();
    }

    fn a_hangup_at_the_first_moment_is_a_reload(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        for _ in 0..5 {
            let service = place.start();
            service.reload();
            assert_eq!(page(&mut Wire::to(service.address())), "200 one");
        }
    }

    fn a_file_that_is_a_fifo_now_is_refused_and_not_waited_for(backend) {
        let place = two_pages(backend);
        place.configure([files(HERE, "one")]);
        let service = place.start();
        std::fs::remove_file(place.file()).expect("it was written");
        let writer = WaitingWriter::at(&place.file());
        let refused = service.first.log().clone();
        service.signal(Signal::Hangup);
        let record = refused.wait_for("the refusal", |record| record.message().contains("nothing has changed"));
        assert!(record.message().contains("not a regular file"), "{record}");
        writer.assert_waits();
        assert_eq!(page(&mut Wire::to(service.address())), "200 one");
    }

    fn under_load_no_request_fails(backend) {
        let place = Place::new(backend);
        let (small, large) = (vec![b'1'; 100], vec![b'2'; 40_000]);
        place.page("one", &small);
        place.page("two", &large);
        let upstreams = [upstream("first"), upstream("second")];
        let configure = |number: usize| {
            let files = json!({ "req_path": "/", "type": "file_serve", "dir_path": (["one", "two"][number]) });
            let mut servers = vec![routes(HERE, json!([files, proxied("/api", &upstreams[number])]))];
            if number == 1 {
                servers.push(echo(THERE));
            }
            place.configure(servers);
        };
        configure(0);
        let service = place.start();
        let pages = [("/page", [small, large]), ("/api", [b"first".to_vec(), b"second".to_vec()])];
        withstands("reload", service.address(), &pages, 20, |round| {
            configure((round + 1) % 2);
            service.reload();
        });
    }
}

#[test]
fn xps_reload_leaves_other_programs_alone_unless_it_is_forced() {
    let Some(mut other) = sleeper("xps_reload_leaves_other_programs_alone_unless_it_is_forced") else { return };
    let refused = Launch::new(Backend::Epoll, ["reload"]).flag(other.id()).run(b"");
    assert_eq!(refused.status.code(), Some(1), "{}", refused.errors);
    assert!(refused.errors.contains("not xps") && refused.errors.contains("sleep"), "{}", refused.errors);
    assert!(matches!(other.try_wait(), Ok(None)), "it lives");
    let forced = Launch::new(Backend::Epoll, ["reload", "--force"]).flag(other.id()).run(b"");
    assert_eq!(forced.status.code(), Some(0), "{}", forced.errors);
    let status = wait_for_exit(&mut other, patience()).expect("it dies of the signal");
    assert_eq!(status.signal(), Some(Signal::Hangup.number()));
}

#[test]
fn xps_reload_says_when_there_is_no_such_process() {
    // The largest that there can be (proc(5)), and larger than any machine's pid_max.
    let finished = Launch::new(Backend::Epoll, ["reload"]).flag(i32::MAX).run(b"");
    assert_eq!(finished.status.code(), Some(1), "{}", finished.errors);
    assert!(finished.errors.contains(&i32::MAX.to_string()), "{}", finished.errors);
}
