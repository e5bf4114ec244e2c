//! PROXY protocol headers and TLS: what upstreams learn of clients over TLS, and where the header goes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};

use rcgen::DnType;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::tls::{Authority, Client, Signed};
use crate::support::{Backend, Launch, Upstream, Xps, backends, connect, patience, read_rest};
use crate::tls::client_subject;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n";

/// A header of version 2, read without the help of the code under test.
#[derive(Debug, PartialEq)]
struct Header {
    client_port: u16,
    fields: BTreeMap<u8, Vec<u8>>,
}

/// Reads the header at the beginning of a connection of IPv4.
fn read_header(mut stream: &TcpStream) -> Header {
    let mut fixed = [0; 28];
    stream.read_exact(&mut fixed).expect("a header");
    assert_eq!((&fixed[..12], &fixed[12..14]), (SIGNATURE, &[0x21, 0x11][..]));
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]])) - 12];
    stream.read_exact(&mut rest).expect("all of it");
    Header { client_port: u16::from_be_bytes([fixed[24], fixed[25]]), fields: fields(&rest) }
}

fn fields(mut bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut fields = BTreeMap::new();
    while let &[kind, high, low, ref rest @ ..] = bytes {
        let (value, rest) = rest.split_at(u16::from_be_bytes([high, low]).into());
        assert_eq!(fields.insert(kind, value.to_vec()), None);
        bytes = rest;
    }
    assert!(bytes.is_empty());
    fields
}

/// An upstream that reports the header of each connection, and answers one request.
fn reporting() -> (Upstream, Receiver<Header>) {
    let (reports, seen) = mpsc::channel();
    let upstream = Upstream::new(move |stream, _| {
        reports.send(read_header(&stream)).ok();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if (&stream).read_exact(&mut byte).is_err() {
                return;
            }
            head.extend_from_slice(&byte);
        }
        (&stream).write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").ok();
    });
    (upstream, seen)
}

/// A server whose listener speaks TLS and may get certificates of clients.
fn over_tls(signed: &Signed, mut server: Value) -> Value {
    let tls = json!({
        "certificates": [{ "cert": signed.cert, "key": signed.key }],
        "client_auth": { "ca": "ca.pem", "mode": "request" },
        "alpn": ["http/1.1", "http/1.0"],
    });
    server["listeners"] = json!([{ "host": "127.0.0.1", "port": 0, "tls": tls }]);
    server
}

fn start(backend: Backend, authority: &Authority, server: Value, change: impl FnOnce(&mut Value)) -> Xps {
    let mut file = json!({ "access_log": "off", "workers": 1, "servers": [server] });
    change(&mut file);
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

/// The options of a proxy to this upstream: of HTTP, and of TCP.
fn proxies(options: &Value) -> [Value; 2] {
    let mut route = options.clone();
    route["req_path"] = json!("/");
    route["type"] = json!("reverse_proxy");
    let mut tcp = options.clone();
    tcp["protocol"] = json!("tcp");
    tcp["handler"] = json!("tcp_proxy");
    [json!({ "routes": [route] }), tcp]
}

backends! {
    fn upstreams_learn_what_clients_over_tls_have_agreed_on(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["a.org"]);
        let shown = authority.signed_with(&["client"], |parameters| {
            parameters.distinguished_name.push(DnType::CommonName, "cl\u{fc}ent");
        });
        let (upstream, seen) = reporting();
        let options = json!({ "upstreams": [upstream.address().to_string()], "send_proxy_protocol": "v2" });
        // Requests are forwarded in HTTP/1.1, whatever the client has agreed on.
        for (server, protocol) in proxies(&options).into_iter().zip(["http/1.1", "http/1.0"]) {
            let xps = start(backend, &authority, over_tls(&signed, server), |_| {});
            let ask = |client: &Client, name: &str| {
                let mut stream = client.connect(xps.address(), name).expect("a handshake");
                let port = stream.tcp.local_addr().expect("it is connected").port();
                stream.write_all(REQUEST).expect("it is read");
                let answer = stream.read_rest().expect("an answer");
                assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
                let header = seen.recv_timeout(patience()).expect("a header");
                assert_eq!(header.client_port, port);
                header.fields
            };
            let ssl = |fields: &BTreeMap<u8, Vec<u8>>| {
                let (fixed, inner) = fields[&0x20].split_at(5);
                (fixed.to_vec(), self::fields(inner))
            };
            let guest = Client::trusting_anyone().speaking(&rustls::version::TLS12).forgetful();
            let guest = ask(&guest, "127.0.0.1");
            assert_eq!(guest.keys().copied().collect::<Vec<_>>(), [0x20], "neither name nor ALPN");
            let (fixed, inner) = ssl(&guest);
            assert_eq!(fixed, [1, 0, 0, 0, 1], "TLS, and no certificate");
            assert_eq!((&*inner[&0x21], inner.contains_key(&0x22)), (&b"TLSv1.2"[..], false));
            let known = Client::trusting_anyone().offering(&["http/1.1"]).showing(&shown);
            for flags in [7, 5] {
                let fields = ask(&known, "a.org");
                assert_eq!((&*fields[&1], &*fields[&2]), (&b"http/1.1"[..], &b"a.org"[..]));
                let (fixed, inner) = ssl(&fields);
                assert_eq!(fixed, [flags, 0, 0, 0, 0], "first on the connection, then in its session");
                assert_eq!((&*inner[&0x21], &*inner[&0x22]), (&b"TLSv1.3"[..], "cl\u{fc}ent".as_bytes()));
                assert!(inner[&0x23].starts_with(b"TLS_AES_"), "{inner:?}");
            }
            let old = ask(&Client::trusting_anyone().offering(&["http/1.0"]), "a.org");
            assert_eq!(&*old[&1], protocol.as_bytes());
        }
    }

    /// The upstream is another server of this program, behind its own reading of the header.
    fn the_header_precedes_the_handshake_with_an_upstream(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let (upstream, seen) = client_subject::reporting();
        let mut origin = json!({ "routes": [{
            "req_path": "/", "type": "reverse_proxy", "upstreams": [upstream.address().to_string()],
        }] });
        origin = over_tls(&signed, origin);
        origin["listeners"][0]["accept_proxy_protocol"] = json!(true);
        let origin = start(backend, &authority, origin, |file| file["trusted_proxies"] = json!(["127.0.0.1"]));
        let secure = format!("https://localhost:{}", origin.address().port());
        for version in ["v1", "v2"] {
            let options = json!({
                "upstreams": [secure], "send_proxy_protocol": version, "upstream_tls": { "ca": "ca.pem" },
                "health_check": { "active": { "type": "http", "path": "/check", "interval": "50ms", "fall": 1 } },
            });
            for mut server in proxies(&options) {
                server["listeners"] = json!([{ "host": "127.0.0.1", "port": 0 }]);
                let xps = start(backend, &authority, server, |_| {});
                // A check has passed, so it said who it is, too.
                while !seen.recv_timeout(patience()).expect("a check").starts_with("GET /check ") {}
                for ip in [2, 3, 4, 2] {
                    // Addresses tell clients apart: only the header brings them to the origin.
                    let source = Ipv4Addr::new(127, 0, 0, ip);
                    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of this host");
                    socket.connect(&xps.address().into()).expect("it listens");
                    let stream = TcpStream::from(socket);
                    stream.set_read_timeout(Some(patience())).expect("a time-out that is not zero");
                    for _ in 0..2 {
                        (&stream).write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            let mut byte = [0];
                            (&stream).read_exact(&mut byte).expect("a response");
                            head.extend_from_slice(&byte);
                        }
                        assert!(head.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&head));
                        let head = loop {
                            let head = seen.recv_timeout(patience()).expect("a request");
                            if head.starts_with("GET /page ") {
                                break head;
                            }
                        };
                        let told = head.lines().find_map(|line| line.strip_prefix("X-Forwarded-For: "));
                        assert_eq!(told, Some(&*source.to_string()), "{version}: {head}");
                    }
                }
                xps.finish();
            }
        }
    }

    /// A group may have upstreams of both kinds: the one in plain text gets the header, too, and first.
    fn after_a_failed_handshake_the_next_upstream_gets_the_header(backend) {
        let authority = Authority::new();
        let (upstream, seen) = reporting();
        let broken = Upstream::new(|mut stream: TcpStream, _| {
            let _ = stream.write_all(b"no TLS");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let options = json!({
            "upstreams": [format!("https://{}", broken.address()), { "address": upstream.address().to_string(), "backup": true }],
            "send_proxy_protocol": "v2",
        });
        for mut server in proxies(&options) {
            server["listeners"] = json!([{ "host": "127.0.0.1", "port": 0 }]);
            let xps = start(backend, &authority, server, |_| {});
            let stream = connect(xps.address());
            (&stream).write_all(REQUEST).expect("it is read");
            let answer = read_rest(&stream);
            assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
            let header = seen.recv_timeout(patience()).expect("a header");
            assert_eq!(header.client_port, stream.local_addr().expect("it is connected").port());
            assert!(header.fields.is_empty(), "the client does not speak TLS: {header:?}");
        }
    }
}
