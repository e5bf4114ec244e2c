//! Connections relayed as a configuration file says: how hard is tried to reach an upstream, and when one counts as back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::place::{Place, Service};
use crate::support::upstream::{ClosedPort, fill_backlog};
use crate::support::{Backend, Upstream, backends, connect, eventually, uninterrupted, was_cut};

/// A relay of one worker that is configured like this besides where it listens.
#[track_caller]
fn start(backend: Backend, mut server: Value) -> (Place, Service) {
    let place = Place::new(backend);
    server["listeners"] = json!([{ "host": "127.0.0.1", "port": 0 }]);
    server["protocol"] = json!("tcp");
    server["handler"] = json!("tcp_proxy");
    place.configure_with([server], |document| {
        document["workers"] = json!(1);
        document["limits"]["connect_timeout"] = json!("1m");
    });
    let service = place.start();
    (place, service)
}

/// An upstream that sends its name, and keeps the connection until its client ends it.
fn named(port: ClosedPort, name: &'static [u8; 1]) -> Upstream {
    Upstream::on(port.listen(), |mut stream, _| {
        let _ = stream.write_all(name);
        let _ = uninterrupted(|| stream.read(&mut [0]));
    })
}

/// A connection, and the name of the upstream that it has reached.
#[track_caller]
fn reach(service: &Service) -> (TcpStream, u8) {
    let mut stream = connect(service.address());
    let mut name = [0];
    stream.read_exact(&mut name).expect("an upstream's name");
    (stream, name[0])
}

backends! {
    fn so_many_upstreams_are_tried_as_is_said(backend) {
        let (nobody, open) = ([ClosedPort::new(), ClosedPort::new()], ClosedPort::new());
        let addresses = [&nobody[0], &nobody[1], &open].map(|port| port.address().to_string());
        let _upstream = named(open, b"a");
        let server = |tries: u32| {
            json!({ "upstreams": addresses, "tries": tries, "health_check": { "passive": { "failures": 0 } } })
        };
        let (_place, service) = start(backend, server(3));
        assert!((0..3).all(|_| reach(&service).1 == b'a'));
        let (_place, service) = start(backend, server(1));
        // Each is the first of one of them, and is not passed on.
        let is_served = |mut stream: TcpStream| uninterrupted(|| stream.read(&mut [0])).is_ok_and(|bytes| bytes == 1);
        let served = (0..3).filter(|_| is_served(connect(service.address()))).count();
        assert_eq!(served, 1);
    }

    fn connecting_may_take_as_long_as_is_said(backend) {
        let port = ClosedPort::new();
        let address = port.address();
        let _listener = port.listen_with_backlog(0);
        let _waiting = fill_backlog(address);
        let (_place, service) =
            start(backend, json!({ "upstreams": [address.to_string()], "connect_timeout": "300ms" }));
        let since = Instant::now();
        assert!(was_cut(&connect(service.address())));
        assert!(since.elapsed() >= Duration::from_millis(250), "given up after {:?} already", since.elapsed());
    }

    fn a_connection_that_lasts_shows_at_once_that_its_upstream_is_back(backend) {
        let (down, up) = (ClosedPort::new(), ClosedPort::new());
        let passive = json!({ "failures": 1, "backoff": "20ms", "slow_start": "0s" });
        let upstreams = [down.address().to_string(), up.address().to_string()];
        let (_place, service) =
            start(backend, json!({ "upstreams": upstreams, "health_check": { "passive": passive } }));
        let _up = named(up, b"b");
        assert_eq!(reach(&service).1, b'b', "the first one refuses");
        let _down = named(down, b"a");
        let mut lasting = None;
        eventually("a connection tries it", || {
            lasting = Some(reach(&service)).filter(|(_, name)| *name == b'a');
            lasting.is_some()
        });
        let names: Vec<u8> = (0..4).map(|_| reach(&service).1).collect();
        assert!(names.contains(&b'a'), "while one connection lasts, nobody else gets there: {names:?}");
    }
}
