//! Upstreams that are named, and whose name comes to lead elsewhere.

use std::net::TcpListener;

use serde_json::json;

use crate::place::{Place, Service, routes};
use crate::run::reload::upstream_on;
use crate::support::client::ping;
use crate::support::hosts::{Hosts, SilentNameServer};
use crate::support::upstream::echo;
use crate::support::{Upstream, ask, backends, connect, eventually, patience, skip};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";
const THERE: &str = "127.0.0.2";
const NAME: &str = "moving.test";

/// The same port on both addresses.
fn twins() -> [TcpListener; 2] {
    // Whoever has the other one by chance will not have the next.
    for _ in 0..100 {
        let here = TcpListener::bind((HERE, 0)).expect("loopback has a free port");
        let port = here.local_addr().expect("it is bound").port();
        if let Ok(there) = TcpListener::bind((THERE, port)) {
            return [here, there];
        }
    }
    panic!("a hundred ports are free on one address only");
}

/// How a name is written in the configuration that leads to the first of them now.
fn named(listener: &TcpListener) -> String {
    format!("{NAME}:{}", listener.local_addr().expect("it is bound").port())
}

backends! {
    fn a_name_that_is_never_answered_holds_up_nothing_else(backend) {
        const SILENT: &str = "never-answered.test";
        let server = match SilentNameServer::new() {
            Ok(server) => server,
            Err(error) => return skip("a_name_that_is_never_answered", &error.to_string()),
        };
        if let Some(why) = server.obstacle(SILENT) {
            return skip("a_name_that_is_never_answered", why);
        }
        let place = Place::new(backend);
        place.page("folder", "here");
        let upstream = format!("{SILENT}:80");
        place.configure([routes(HERE, json!([
            { "req_path": "/", "type": "file_serve", "dir_path": "folder", "listing": true },
            { "req_path": "/silent", "type": "reverse_proxy", "upstreams": [upstream], "resolve_interval": "0" },
        ]))]);
        let service = Service::new(place.launch().through(server.namespace()).start());
        let here = service.address();
        // Everybody asks and leaves.
        for _ in 0..40 {
            let mut wire = Wire::to(here);
            wire.send("GET /silent/ HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        assert!(server.is_asked(patience()), "the name is looked up");
        for _ in 0..8 {
            let mut wire = Wire::to(here);
            wire.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n");
            let response = wire.response();
            assert_eq!(response.status, 200, "{response:?}");
            assert!(response.text().contains("page"), "{response:?}");
        }
        // Once for each type of address, however many asked.
        let more = std::iter::from_fn(|| server.is_asked(std::time::Duration::from_millis(100)).then_some(())).count();
        assert!(more <= 1, "{more} more questions");
    }

    fn a_name_that_leads_elsewhere_moves_new_requests_and_leaves_what_is_under_way(backend) {
        let hosts = Hosts::new(&format!("{HERE} {NAME}\n"));
        if let Some(why) = hosts.obstacle(NAME, &[HERE]) {
            return skip("a_name_that_leads_elsewhere", why);
        }
        let (http, tcp) = (twins(), twins());
        let relayed = json!({
            "listeners": [{ "host": THERE, "port": 0 }],
            "protocol": "tcp",
            "handler": "tcp_proxy",
            "upstreams": [named(&tcp[0])],
            "resolve_interval": "20ms",
        });
        let forwarded = routes(HERE, json!([{
            "req_path": "/",
            "type": "reverse_proxy",
            "upstreams": [named(&http[0])],
            "resolve_interval": "20ms",
        }]));
        let [first, second] = http;
        let _http = [upstream_on(first, "before"), upstream_on(second, "after")];
        let [first, second] = tcp;
        let _tcp = [
            Upstream::on(first, |stream, _| echo(&stream)),
            Upstream::on(second, |mut stream, _| drop(std::io::Write::write_all(&mut stream, b"after"))),
        ];
        let place = Place::new(backend);
        place.configure([forwarded, relayed]);
        let service = Service::new(place.launch().through(hosts.namespace()).listening_on(2).start());
        let (here, there) = (service.address_on(HERE), service.address_on(THERE));
        let page = |wire: &mut Wire| {
            wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
            let response = wire.response();
            assert_eq!(response.status, 200, "{response:?}");
            response.text()
        };
        let mut kept = Wire::to(here);
        assert_eq!(page(&mut kept), "before");
        let mut upgraded = Wire::to(here);
        upgraded.send("GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(upgraded.response().status, 101);
        let stream = connect(there);
        ping(&stream, b"before");
        hosts.write(&format!("{THERE} {NAME}\n"));
        // Each of the workers finds out for itself; and where a client has come from before changes nothing.
        for _ in 0..20 {
            eventually("a request goes to the new address", || page(&mut Wire::to(here)) == "after");
            eventually("a connection goes to the new address", || ask(there, b"") == b"after");
        }
        eventually("a request on a connection that was there, too", || page(&mut kept) == "after");
        for _ in 0..3 {
            upgraded.send("hello");
            assert_eq!(upgraded.take(5), b"hello");
            ping(&stream, b"still there");
        }
        // A name that leads nowhere is no reason to forget where it led.
        hosts.write("");
        service.first.log().wait_for("the resolver's answer", |record| {
            record.message().contains("cannot be looked up") && record.to_string().contains(NAME)
        });
        assert_eq!(page(&mut Wire::to(here)), "after");
    }
}
