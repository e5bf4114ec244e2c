//! The PROXY protocol: who comes by a proxy, and what upstreams are told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};

use crate::place::{Place, Service};
use crate::support::client::{ping, read_rest};
use crate::support::{Backend, Upstream, backends, connect, eventually, was_cut};
use crate::wire::Wire;

const SERVER: &str = "127.0.0.1";
const REQUEST: &str = "GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x67\x01\xbb";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The listener of `server` expects headers, and believes those of `trusted`.
fn run(backend: Backend, mut server: Value, trusted: &str) -> (Place, Service) {
    server["listeners"][0]["accept_proxy_protocol"] = json!(true);
    let place = Place::new(backend);
    place.page("site", "a page");
    place.configure_with([server], |document| {
        document["trusted_proxies"] = json!([trusted]);
        document["access_log"] = json!("access.log");
    });
    let service = place.start();
    (place, service)
}

fn closed_to(mut server: Value, network: &str) -> Value {
    server["ip_blacklist"] = json!([network]);
    server
}

/// The status of the answer to these bytes and a request after them, sent as they are cut.
fn status(address: SocketAddr, pieces: &[&[u8]]) -> u16 {
    let mut wire = Wire::over(connect(address));
    for piece in pieces.iter().chain(&[REQUEST.as_bytes()]) {
        wire.send(piece);
    }
    wire.response().status
}

/// An upstream that reports what each connection begins with, up to an empty line, and answers it.
fn reporting() -> (Upstream, Receiver<Vec<u8>>) {
    let (reports, seen) = mpsc::channel();
    let upstream = Upstream::new(move |stream, _| {
        let mut requests = BufReader::new(&stream);
        let mut begin = Vec::new();
        // The signature of version 2 begins with an empty line.
        while begin.len() <= V2_SIGNATURE.len() || !begin.ends_with(b"\r\n\r\n") {
            if requests.read_until(b'\n', &mut begin).unwrap_or(0) == 0 {
                return;
            }
        }
        reports.send(begin).ok();
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
        // It would go on, and whoever may use the connection again can.
        std::io::copy(&mut requests, &mut std::io::sink()).ok();
    });
    (upstream, seen)
}

fn report(seen: &Receiver<Vec<u8>>) -> Vec<u8> {
    seen.recv_timeout(crate::support::patience()).expect("a request")
}

fn proxied(upstream: &Upstream, version: &str) -> Value {
    json!([{
        "req_path": "/",
        "type": "reverse_proxy",
        "upstreams": [upstream.address().to_string()],
        "send_proxy_protocol": version,
    }])
}

backends! {
    fn a_trusted_proxy_says_who_comes(backend) {
        let (place, service) = run(backend, closed_to(crate::place::files(SERVER, "site"), "192.0.2.7"), "127.0.0.1");
        for header in [V1, V2] {
            assert_eq!(status(service.address(), &[header]), 403);
            for cut in [1, 5, 12, header.len() - 1] {
                let (first, second) = header.split_at(cut);
                assert_eq!(status(service.address(), &[first, second]), 403);
            }
            assert_eq!(status(service.address(), &[&[header, REQUEST.as_bytes()].concat()]), 403);
        }
        let other = b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n";
        assert_eq!(status(service.address(), &[other]), 200);
        eventually("the visitors in the access log", || {
            let log = std::fs::read_to_string(place.path("access.log")).unwrap_or_default();
            log.contains("192.0.2.7 - - [") && log.contains("2001:db8::1 - - [") && !log.contains("127.0.0.1")
        });
    }

    fn networks_of_ipv4_that_are_written_as_ipv6_are_of_ipv4(backend) {
        let server = closed_to(crate::place::files(SERVER, "site"), "::ffff:192.0.2.0/120");
        let (_place, service) = run(backend, server, "::ffff:127.0.0.0/104");
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4711 443\r\n";
        for header in [V1, V2, mapped] {
            assert_eq!(status(service.address(), &[header]), 403, "{}", header.escape_ascii());
        }
        assert_eq!(status(service.address(), &[b"PROXY TCP4 192.0.3.7 198.51.100.1 4711 443\r\n"]), 200);
    }

    fn a_proxy_that_speaks_for_itself_is_who_it_is(backend) {
        let (_place, service) = run(backend, closed_to(crate::place::files(SERVER, "site"), "127.0.0.0/8"), "127.0.0.1");
        let local = [V2_SIGNATURE, b"\x20\0\0\0"].concat();
        assert_eq!(status(service.address(), &[&local]), 403);
        assert_eq!(status(service.address(), &[b"PROXY UNKNOWN\r\n"]), 403);
        assert_eq!(status(service.address(), &[V1]), 200);
    }

    fn of_others_the_header_is_read_and_not_believed(backend) {
        let (_place, service) = run(backend, closed_to(crate::place::files(SERVER, "site"), "192.0.2.7"), "10.0.0.0/8");
        assert_eq!(status(service.address(), &[V1]), 200);
        assert_eq!(status(service.address(), &[V2]), 200);
    }

    fn without_a_header_there_is_no_service(backend) {
        let (_place, service) = run(backend, crate::place::files(SERVER, "site"), "127.0.0.1");
        for bytes in [REQUEST.as_bytes(), b"PROXY TCP4 somebody\r\n", b"\r\n\r\nx"] {
            let stream = connect(service.address());
            (&stream).write_all(bytes).expect("the server takes it");
            assert!(was_cut(&stream), "{}", bytes.escape_ascii());
        }
        let half = connect(service.address());
        (&half).write_all(&V2[..20]).expect("the server takes it");
        half.shutdown(Shutdown::Write).expect("a live connection");
        assert!(was_cut(&half));
        let probe = connect(service.address());
        probe.shutdown(Shutdown::Write).expect("a live connection");
        assert!(was_cut(&probe));
    }

    fn bytes_behind_a_header_are_the_clients(backend) {
        let (_place, service) = run(backend, crate::place::echo(SERVER), "127.0.0.1");
        let mut stream = connect(service.address());
        stream.write_all(&[V1, b"first"].concat()).expect("the server takes it");
        let mut back = [0; 5];
        stream.read_exact(&mut back).expect("the same bytes");
        assert_eq!(&back, b"first");
        ping(&stream, b"second");
    }

    fn a_tcp_server_decides_by_whom_it_is_told(backend) {
        let (_place, service) = run(backend, closed_to(crate::place::echo(SERVER), "192.0.2.7"), "127.0.0.1");
        let stream = connect(service.address());
        (&stream).write_all(V2).expect("the server takes it");
        assert!(was_cut(&stream));
    }

    fn upstreams_are_told_both_ends_and_each_connection_is_one_clients(backend) {
        let (upstream, seen) = reporting();
        for version in ["v1", "v2"] {
            let place = Place::new(backend);
            place.configure([crate::place::routes(SERVER, proxied(&upstream, version))]);
            let service = place.start();
            let mut wire = Wire::over(connect(service.address()));
            for _ in 0..3 {
                let ends = (wire.stream.local_addr().expect("connected"), service.address());
                wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                assert_eq!((wire.response().status, begins_with(&report(&seen), version)), (200, Some(ends)));
            }
        }
    }

    fn a_tcp_upstream_is_told_before_the_first_byte(backend) {
        let (upstream, seen) = reporting();
        let place = Place::new(backend);
        let mut server = json!({
            "listeners": [{ "host": "*", "port": 0 }],
            "protocol": "tcp",
            "handler": "tcp_proxy",
            "upstreams": [upstream.address().to_string()],
        });
        server["send_proxy_protocol"] = json!("v2");
        place.configure([server]);
        let service = place.start();
        // It listens on all addresses; this is the one that was meant.
        let meant = SocketAddr::new([127, 0, 0, 5].into(), service.address().port());
        let stream: TcpStream = connect(meant);
        (&stream).write_all(REQUEST.as_bytes()).expect("the server takes it");
        let ends = (stream.local_addr().expect("connected"), meant);
        assert_eq!(begins_with(&report(&seen), "v2"), Some(ends));
        stream.shutdown(Shutdown::Write).expect("a live connection");
        assert!(String::from_utf8_lossy(&read_rest(&stream)).ends_with("ok"));
    }

    /// TLS 1.3 with a certificate that was verified, and what a proxy of another kind adds.
    fn what_a_trusted_proxy_says_of_tls_is_used(backend) {
        const FIELDS: &[u8] = b"\x04\0\x01\0\x01\0\x02h2\x02\0\x05a.org\x20\0\x21\x07\0\0\0\0\
            \x21\0\x07TLSv1.3\x23\0\x04NONE\x22\0\x08e,CN=rot\xea\0\x02ok";
        let (upstream, seen) = reporting();
        let mut routes = proxied(&upstream, "v1");
        routes[0]["client_cert_header"] = json!("X-Who");
        for (trusted, proto, who, tls) in [
            ("127.0.0.1", "https", Some("X-Who: CN=e\\,CN=rot"), json!(["TLSv1.3", "NONE", "a.org", "h2", "CN=e\\,CN=rot"])),
            ("10.0.0.0/8", "http", None, json!([null, null, null, null, null])),
        ] {
            let mut server = crate::place::routes(SERVER, routes.clone());
            server["access_format"] = json!("json");
            let (place, service) = run(backend, server, trusted);
            assert_eq!(status(service.address(), &[&v2_with(FIELDS)]), 200);
            let begin = report(&seen);
            let head = String::from_utf8_lossy(&begin);
            let field = |name: &str| head.lines().find(|line| line.starts_with(name));
            assert_eq!(field("X-Forwarded-Proto: "), Some(&*format!("X-Forwarded-Proto: {proto}")), "{head}");
            assert_eq!(field("X-Who"), who, "{head}");
            let read = || std::fs::read_to_string(place.path("access.log")).unwrap_or_default();
            eventually("the line of the log", || read().ends_with('\n'));
            let entry: Value = serde_json::from_str(&read()).expect("JSON");
            assert_eq!(json!(["tls", "cipher", "server_name", "alpn", "client_subject"].map(|name| &entry[name])), tls);
        }
    }

    fn a_field_that_is_malformed_makes_the_header_malformed(backend) {
        let (_place, service) = run(backend, crate::place::files(SERVER, "site"), "127.0.0.1");
        for fields in [&b"\x02\0\x09a"[..], b"\x20\0\x02\x01\0", b"\x20\0\x09\x01\0\0\0\0\x21\0\x01\n", b"\x02"] {
            let stream = connect(service.address());
            (&stream).write_all(&v2_with(fields)).expect("the server takes it");
            assert!(was_cut(&stream), "{}", fields.escape_ascii());
        }
        assert_eq!(status(service.address(), &[&v2_with(b"\xea\0\x01x")]), 200);
    }

    fn what_one_proxy_says_the_next_one_passes_on(backend) {
        let (upstream, seen) = reporting();
        let (_place, service) = run(backend, crate::place::routes(SERVER, proxied(&upstream, "v1")), "127.0.0.1");
        assert_eq!(status(service.address(), &[V2]), 200);
        let ends = ("192.0.2.7:4711".parse().expect("an address"), "198.51.100.1:443".parse().expect("an address"));
        let begin = report(&seen);
        assert_eq!(begins_with(&begin, "v1"), Some(ends));
        assert!(String::from_utf8_lossy(&begin).contains("\r\nX-Forwarded-For: 192.0.2.7\r\n"));
    }
}

/// A header of version 2 with these fields behind its addresses.
fn v2_with(fields: &[u8]) -> Vec<u8> {
    let mut header = V2.to_vec();
    header[15] += u8::try_from(fields.len()).expect("a short header");
    header.extend_from_slice(fields);
    header
}

/// What a header of this version says, read without the help of the code under test.
fn begins_with(begin: &[u8], version: &str) -> Option<(SocketAddr, SocketAddr)> {
    if version == "v1" {
        let line = String::from_utf8_lossy(begin.split(|byte| *byte == b'\r').next()?).into_owned();
        let [client, server, client_port, server_port] =
            *line.strip_prefix("PROXY TCP4 ")?.split(' ').collect::<Vec<_>>()
        else {
            return None;
        };
        let address = |ip: &str, port: &str| format!("{ip}:{port}").parse().ok();
        return Some((address(client, client_port)?, address(server, server_port)?));
    }
    let bytes: &[u8; 16] = begin.strip_prefix(V2_SIGNATURE)?.get(..16)?.try_into().ok()?;
    let [0x21, 0x11, 0, 12, c0, c1, c2, c3, s0, s1, s2, s3, p0, p1, q0, q1] = *bytes else { return None };
    let client = SocketAddr::from(([c0, c1, c2, c3], u16::from_be_bytes([p0, p1])));
    Some((client, SocketAddr::from(([s0, s1, s2, s3], u16::from_be_bytes([q0, q1])))))
}
