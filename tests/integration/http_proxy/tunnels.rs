//! WebSockets over HTTP/2 whose time is up: nothing passes, or the server stops, reloads, or is replaced.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http_proxy::gateway::{Gateway, OK};
use crate::http_proxy::websockets::{BOTH, open, opened_on, wait_for};
use crate::origin::{Origin, Visit};
use crate::place::{Place, Service, routes};
use crate::support::h2::client::{Connection, Fault};
use crate::support::h2::frame::code;
use crate::support::process::Signal;
use crate::support::tls::{Authority, Client, Signed};
use crate::support::{backends, eventually};

/// Sends a message each way.
#[track_caller]
fn talk(client: &mut Connection, stream: u32, visit: &mut Visit) {
    client.upload(stream, b"question", false);
    assert_eq!(visit.take(8), b"question");
    let before = client.seen(stream).body.len();
    visit.send("answer");
    wait_for(client, stream, before + 6);
    assert!(client.seen(stream).body.ends_with(b"answer"));
}

/// Ends a tunnel from both sides, in order.
#[track_caller]
fn end(client: &mut Connection, stream: u32, mut visit: Visit) {
    client.upload(stream, b"bye", true);
    assert_eq!(visit.take(3), b"bye");
    visit.end();
    client.response(stream);
    visit.expect_end();
}

/// Waits for both GOAWAYs of a server that leaves. The second names the last stream that it serves.
#[track_caller]
fn expect_leave(client: &mut Connection, last_stream: u32) {
    client.read_until("two GOAWAYs", |client| client.goaways.len() >= 2);
    let said: Vec<_> = client.goaways.iter().map(|goaway| (goaway.last_stream, goaway.code)).collect();
    assert_eq!(said, [(u32::MAX >> 1, code::NO_ERROR), (last_stream, code::NO_ERROR)]);
}

const PLAIN_HOST: &str = "127.0.0.1";
const TLS_HOST: &str = "127.0.0.2";

/// Writes the configuration: a proxy in front of this upstream, without TLS on one host and over it on the other.
fn configure(place: &Place, signed: &Signed, origin: &Origin) {
    let mut server = routes(
        PLAIN_HOST,
        json!([{ "req_path": "/", "type": "reverse_proxy", "upstreams": [origin.address().to_string()] }]),
    );
    let certificates = json!([{ "cert": signed.cert, "key": signed.key }]);
    server["listeners"] = json!([
        { "host": PLAIN_HOST, "port": 0, "h2c": true },
        { "host": TLS_HOST, "port": 0, "tls": { "certificates": certificates } },
    ]);
    place.configure([server]);
}

/// The next connection to one of two upstreams, and whether it is to the second.
#[track_caller]
fn visit_of_either(first: &Origin, second: &Origin) -> (Visit, bool) {
    const MOMENT: Duration = Duration::from_millis(10);
    let look =
        || first.next_visit(MOMENT).map(|visit| (visit, false)).or_else(|| Some((second.next_visit(MOMENT)?, true)));
    (0..1000).find_map(|_| look()).expect("a connection to an upstream")
}

/// A client on each of the two hosts.
#[track_caller]
fn connections(service: &Service) -> [Connection; 2] {
    let client = Client::trusting_anyone().offering(&["h2"]);
    let mut over_tls = Connection::over_tls(service.address_on(TLS_HOST), &client, "localhost");
    over_tls.set_authority("localhost");
    [Connection::to(service.address_on(PLAIN_HOST)), over_tls]
}

backends! {
    fn only_a_tunnel_through_which_nothing_passes_is_reset(backend) {
        const IDLE: Duration = Duration::from_millis(1500);
        for over in BOTH {
            let origin = Origin::new();
            let gateway = Gateway::over_http2(backend, over, origin.address(), &["--idle-timeout", "1500ms"]);
            let mut client = gateway.connection();
            let (busy, mut busy_visit) = opened_on(&mut client, &origin);
            let (quiet, mut quiet_visit) = opened_on(&mut client, &origin);
            talk(&mut client, quiet, &mut quiet_visit);
            let since = Instant::now();
            while client.reset_of(quiet).is_none() {
                talk(&mut client, busy, &mut busy_visit);
                std::thread::sleep(IDLE / 6);
                assert!(since.elapsed() < 10 * IDLE, "nothing ends it");
            }
            assert!(since.elapsed() >= IDLE, "after {:?}", since.elapsed());
            assert_eq!(client.reset_of(quiet), Some(code::CANCEL));
            quiet_visit.expect_end();
            // A message one way is enough.
            for _ in 0..8 {
                let before = client.seen(busy).body.len();
                busy_visit.send("news");
                wait_for(&mut client, busy, before + 4);
                std::thread::sleep(IDLE / 6);
            }
            talk(&mut client, busy, &mut busy_visit);
            // The connection is then as idle as its last tunnel, and may end with it.
            assert_eq!(client.expect_reset(busy), code::CANCEL);
            busy_visit.expect_end();
        }
    }

    fn a_stop_lets_a_tunnel_go_on_and_takes_no_other(backend) {
        for over in BOTH {
            let origin = Origin::new();
            let flags = ["--drain-timeout", "60s", "--drain-idle-timeout", "300ms"];
            let mut gateway = Gateway::over_http2(backend, over, origin.address(), &flags);
            let mut client = gateway.connection();
            let (stream, mut visit) = opened_on(&mut client, &origin);
            gateway.xps.signal(Signal::Terminate);
            expect_leave(&mut client, stream);
            eventually("the listening socket is gone", || TcpStream::connect(gateway.xps.address()).is_err());
            let late = open(&mut client);
            for _ in 0..3 {
                talk(&mut client, stream, &mut visit);
                std::thread::sleep(Duration::from_millis(150));
            }
            assert!(!client.is_over(late), "a request behind the last GOAWAY gets nothing");
            origin.expect_no_visit();
            end(&mut client, stream, visit);
            assert_eq!(client.end(), Fault::End);
            assert_eq!(gateway.xps.wait().code(), Some(0));
        }
    }

    fn the_drain_time_of_a_tunnel_is_kept(backend) {
        const DRAIN: Duration = Duration::from_millis(700);
        for over in BOTH {
            let origin = Origin::new();
            let mut gateway = Gateway::over_http2(backend, over, origin.address(), &["--drain-timeout", "700ms"]);
            let mut client = gateway.connection();
            let (stream, mut visit) = opened_on(&mut client, &origin);
            let since = Instant::now();
            gateway.xps.signal(Signal::Terminate);
            expect_leave(&mut client, stream);
            talk(&mut client, stream, &mut visit);
            assert_eq!(client.end(), Fault::End);
            assert!(since.elapsed() >= DRAIN, "cut after {:?} already", since.elapsed());
            visit.expect_end();
            assert_eq!(gateway.xps.wait().code(), Some(0));
        }
    }

    fn a_reload_leaves_tunnels_and_their_connections_as_they_are(backend) {
        let (old, new) = (Origin::new(), Origin::new());
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let place = Place::new(backend);
        configure(&place, &signed, &old);
        let service = Service::new(place.launch().listening_on(2).start());
        let mut clients = connections(&service).map(|mut client| {
            let (stream, visit) = opened_on(&mut client, &old);
            (client, stream, visit)
        });
        configure(&place, &signed, &new);
        service.reload();
        for (client, stream, visit) in &mut clients {
            talk(client, *stream, visit);
            // Each worker takes the new configuration in its own time.
            eventually("a request gets the new upstream", || {
                let beside = client.get("/beside");
                let (mut upstream, is_new) = visit_of_either(&old, &new);
                upstream.request();
                upstream.send(OK);
                upstream.end();
                assert_eq!(client.response(beside).text(), "ok");
                is_new
            });
            let (other, mut visit_of_other) = opened_on(client, &new);
            talk(client, other, &mut visit_of_other);
            talk(client, *stream, visit);
            end(client, other, visit_of_other);
            assert!(client.goaways.is_empty(), "{:?}", client.goaways);
        }
        for (mut client, stream, visit) in clients {
            end(&mut client, stream, visit);
            client.finish();
        }
    }

    fn a_process_that_is_replaced_serves_its_tunnels_to_their_end(backend) {
        let (old, new) = (Origin::new(), Origin::new());
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let place = Place::new(backend);
        configure(&place, &signed, &old);
        let mut service = Service::new(place.launch().listening_on(2).start());
        let mut clients = connections(&service).map(|mut client| {
            let (stream, visit) = opened_on(&mut client, &old);
            (client, stream, visit)
        });
        configure(&place, &signed, &new);
        service.replace();
        // Until then a worker of the old process may accept.
        clients.iter_mut().for_each(|(client, stream, _)| expect_leave(client, *stream));
        let fresh = connections(&service);
        for ((mut client, stream, mut visit), mut fresh) in clients.into_iter().zip(fresh) {
            talk(&mut client, stream, &mut visit);
            let (stream_of_fresh, mut visit_of_fresh) = opened_on(&mut fresh, &new);
            talk(&mut fresh, stream_of_fresh, &mut visit_of_fresh);
            assert!(service.first.is_running(), "it has tunnels");
            end(&mut client, stream, visit);
            assert_eq!(client.end(), Fault::End);
            end(&mut fresh, stream_of_fresh, visit_of_fresh);
            fresh.finish();
        }
        assert_eq!(service.first.wait().code(), Some(0));
    }
}
