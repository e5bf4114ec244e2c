//! TCP proxies that choose an upstream by the name in the ClientHello, and pass the bytes on as they are.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustls::ClientConnection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::read_until_cut;
use crate::support::log::Record;
use crate::support::tls::{Authority, Client, Stream};
use crate::support::{Backend, Launch, Upstream, Xps, backends, connect, patience, read_rest, uninterrupted, was_cut};

/// A server over TLS with a certificate for this name. Its page is the name.
fn origin(backend: Backend, authority: &Authority, name: &str) -> (Xps, TempDir) {
    let signed = authority.signed(&[name]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("page"), name).expect("a temporary file");
    fs::write(folder.path().join("large"), large()).expect("a temporary file");
    let xps = Launch::new(backend, ["serve"])
        .flag(folder.path().display())
        .flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"])
        .flag(signed.cert.display())
        .flag("--tls-key")
        .flag(signed.key.display())
        .start();
    (xps, folder)
}

/// No multiple of a record, and more than the buffers of a socket hold.
fn large() -> Vec<u8> {
    (0..3_000_017_u32).map(|index| (index % 251) as u8).collect()
}

/// A server for these names whose clients are passed on to `upstream`.
fn server(names: &[&str], upstream: SocketAddr) -> Value {
    json!({
        "listeners": [{ "host": "127.0.0.1", "port": 0 }],
        "protocol": "tcp",
        "handler": "tcp_proxy",
        "hostnames": names,
        "upstreams": [upstream.to_string()],
    })
}

fn start(backend: Backend, authority: &Authority, servers: Value, more: Value) -> Xps {
    let mut file = json!({ "workers": 2, "access_log": "off", "servers": servers });
    file.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

/// What an origin answers to a request over a connection to it. Without `Host`: a name other than that of the handshake
/// would be misdirected.
fn get(mut stream: Stream, target: &str) -> Vec<u8> {
    let request = format!("GET {target} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    stream.read_rest().expect("an answer that ends with close_notify")
}

#[track_caller]
fn expect_page(stream: Stream, page: &str) {
    let answer = get(stream, "/page");
    assert!(answer.ends_with(format!("\r\n\r\n{page}").as_bytes()), "{}", String::from_utf8_lossy(&answer));
}

/// A client and its first message.
fn hello(client: &Client, name: &str) -> (ClientConnection, Vec<u8>) {
    let name = name.to_owned().try_into().expect("a name");
    let mut tls = ClientConnection::new(client.config(), name).expect("a client");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("memory");
    (tls, hello)
}

/// The rest of a handshake whose first message was sent by the test.
fn complete(mut tls: ClientConnection, mut tcp: TcpStream) -> Stream {
    while tls.is_handshaking() {
        uninterrupted(|| tls.complete_io(&mut tcp)).expect("a handshake");
    }
    Stream { tls, tcp }
}

/// An upstream that reports all that a client sends up to its end.
fn reporting() -> (Upstream, Receiver<Vec<u8>>) {
    let (reports, seen) = mpsc::channel();
    let upstream = Upstream::new(move |mut stream, _| {
        let mut bytes = Vec::new();
        if stream.read_to_end(&mut bytes).is_ok() {
            reports.send(bytes).ok();
        }
    });
    (upstream, seen)
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

backends! {
    fn each_name_reaches_its_server_and_others_none(backend) {
        let authority = Authority::new();
        let (first, _folder) = origin(backend, &authority, "a.org");
        let (second, _folder) = origin(backend, &authority, "x.b.org");
        let servers = json!([server(&["a.org"], first.address()), server(&["*.b.org"], second.address())]);
        let xps = start(backend, &authority, servers, json!({}));
        let client = Client::trusting(&authority);
        for name in ["a.org", "x.b.org"] {
            expect_page(client.connect(xps.address(), name).expect("a handshake"), name);
        }
        let answer = get(client.connect(xps.address(), "x.b.org").expect("a handshake"), "/large");
        assert!(answer.ends_with(&large()), "{} bytes", answer.len());
        // An address is not sent.
        for (name, sent) in [("c.org", Some("c.org")), ("127.0.0.1", None)] {
            let refused = client.connect(xps.address(), name).expect_err("there is no server");
            assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
            xps.log().wait_for("the refusal", |record: &Record| {
                record.text("close_reason") == Some("tls_failed")
                    && record.text("server_name") == sent
                    && record.text("cause").is_some_and(|cause| cause.contains("no server here has the name"))
            });
        }
        let upstream = first.address().to_string();
        xps.log().wait_for("the record of a connection", |record: &Record| {
            record.text("server_name") == Some("a.org")
                && record.text("upstream") == Some(&upstream)
                && record.text("close_reason") == Some("done")
        });
    }

    fn a_server_without_names_is_for_all_others(backend) {
        let authority = Authority::new();
        let (named, _folder) = origin(backend, &authority, "a.org");
        let (other, _folder) = origin(backend, &authority, "other.org");
        let servers = json!([server(&[], other.address()), server(&["a.org"], named.address())]);
        let xps = start(backend, &authority, servers, json!({}));
        let client = Client::trusting_anyone().forgetful();
        for (name, page) in [("a.org", "a.org"), ("b.org", "other.org"), ("127.0.0.1", "other.org")] {
            expect_page(client.connect(xps.address(), name).expect("a handshake"), page);
        }
    }

    fn a_hello_may_arrive_in_any_pieces(backend) {
        let authority = Authority::new();
        let (origin, _folder) = origin(backend, &authority, "a.org");
        let xps = start(backend, &authority, json!([server(&["a.org"], origin.address())]), json!({}));
        let client = Client::trusting(&authority).forgetful();
        let (tls, bytes) = hello(&client, "a.org");
        let mut tcp = connect(xps.address());
        tcp.set_nodelay(true).expect("a TCP socket");
        for byte in &bytes {
            tcp.write_all(&[*byte]).expect("it is read");
        }
        expect_page(complete(tls, tcp), "a.org");
        // Two records, the second after a pause.
        let (tls, bytes) = hello(&client, "a.org");
        let (header, message) = bytes.split_at(5);
        let record = |part: &[u8]| {
            let length = u16::try_from(part.len()).expect("it is short").to_be_bytes();
            [&header[..3], &length, part].concat()
        };
        let (one, two) = message.split_at(50);
        let mut tcp = connect(xps.address());
        tcp.write_all(&record(one)).expect("it is read");
        std::thread::sleep(Duration::from_millis(20));
        tcp.write_all(&record(two)).expect("it is read");
        expect_page(complete(tls, tcp), "a.org");
    }

    fn what_is_no_hello_goes_nowhere(backend) {
        let authority = Authority::new();
        let (upstream, seen) = reporting();
        let limits = json!({ "limits": { "http": { "head_timeout": "400ms" } } });
        let xps = start(backend, &authority, json!([server(&[], upstream.address()), server(&["a.org"], upstream.address())]), limits);
        let client = Client::trusting(&authority).forgetful();
        let (_, hello) = hello(&client, "a.org");
        let said = |bytes: &[u8]| {
            let stream = connect(xps.address());
            (&stream).write_all(bytes).expect("it is read");
            read_until_cut(&stream).0
        };
        const DECODE_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 50];
        assert_eq!(said(b"GET / HTTP/1.1\r\nHost: a.org\r\n\r\n"), b"");
        assert_eq!(said(&[22, 3, 1, 0, 4, 2, 0, 0, 0]), DECODE_ERROR);
        assert_eq!(said(&[&[22, 3, 1, 0, 4, 1, 1, 0, 1], &[0; 1000][..]].concat()), DECODE_ERROR);
        // The time is used up.
        assert_eq!(said(&hello[..hello.len() - 1]), b"");
        assert_eq!(said(b""), b"");
        let half = connect(xps.address());
        (&half).write_all(&hello[..100]).expect("it is read");
        half.shutdown(Shutdown::Write).expect("a live connection");
        assert!(was_cut(&half));
        let probe = connect(xps.address());
        probe.shutdown(Shutdown::Write).expect("a live connection");
        assert!(was_cut(&probe));
        for cause in ["the peer does not speak TLS", "malformed message", "took too long", "left during the handshake"] {
            xps.log().wait_for(cause, |record: &Record| record.text("cause").is_some_and(|told| told.contains(cause)));
        }
        assert!(seen.try_recv().is_err());
    }

    fn a_proxy_header_is_read_before_and_sent_before(backend) {
        let authority = Authority::new();
        let (upstream, seen) = reporting();
        let (_, hello) = hello(&Client::trusting(&authority).forgetful(), "a.org");
        for expects in [false, true] {
            let mut server = server(&["a.org"], upstream.address());
            server["send_proxy_protocol"] = json!("v1");
            server["listeners"][0]["accept_proxy_protocol"] = json!(expects);
            let xps = start(backend, &authority, json!([server]), json!({ "trusted_proxies": ["127.0.0.1"] }));
            let stream = connect(xps.address());
            let before = if expects { V1 } else { b"" };
            let header = match (expects, stream.local_addr().expect("it is connected")) {
                (true, _) => V1.to_vec(),
                (false, own) => {
                    let (to, from) = (xps.address(), own);
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port()).into_bytes()
                }
            };
            // More than the message comes at once.
            (&stream).write_all(&[before, &hello, b"what follows"].concat()).expect("it is read");
            (&stream).write_all(&[b'x'; 100_000]).expect("it is read");
            stream.shutdown(Shutdown::Write).expect("a live connection");
            let received = seen.recv_timeout(patience()).expect("a connection");
            assert!(read_rest(&stream).is_empty());
            let expected = [&header, &hello, &b"what follows"[..], &[b'x'; 100_000]].concat();
            assert!(received == expected, "{}", received[..received.len().min(1000)].escape_ascii());
        }
    }

    fn each_server_has_its_own_list_of_clients(backend) {
        let authority = Authority::new();
        let (origin, _folder) = origin(backend, &authority, "a.org");
        let mut closed = server(&["b.org"], origin.address());
        closed["ip_blacklist"] = json!(["127.0.0.0/8"]);
        let xps = start(backend, &authority, json!([closed, server(&["a.org"], origin.address())]), json!({}));
        let client = Client::trusting(&authority);
        expect_page(client.connect(xps.address(), "a.org").expect("a handshake"), "a.org");
        assert!(client.connect(xps.address(), "b.org").is_err());
        xps.log().wait_for("the refusal", |record: &Record| record.text("close_reason") == Some("denied"));
    }
}

#[test]
fn explain_shows_where_a_name_leads() {
    let authority = Authority::new();
    let upstream: SocketAddr = "127.0.0.1:4433".parse().expect("an address");
    let mut closed = server(&["closed.org"], upstream);
    closed["ip_blacklist"] = json!(["192.0.2.0/24"]);
    let mut servers = [server(&["a.org", "*.b.org"], upstream), closed];
    for server in &mut servers {
        server["listeners"] = json!([{ "port": 443 }]);
    }
    let file = json!({ "access_log": "off", "servers": servers });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    let run = |words: &[&str]| {
        let finished = Launch::new(Backend::Epoll, words.iter().copied()).in_folder(&authority.path("")).run(b"");
        let text = format!("{}{}", String::from_utf8_lossy(&finished.output), finished.errors);
        (finished.status.code(), text)
    };
    let (code, text) = run(&["check"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = run(&["explain", "xps_config.json", "GET", "https://x.b.org/"]);
    let expected = "\
listener  0.0.0.0:443, tcp_proxy by server name
tls       passed on to the upstream as it is
server    a.org, *.b.org
client    127.0.0.1
to        bytes are relayed to 127.0.0.1:4433
";
    assert!(code == Some(0) && text.contains(expected), "{text}");
    for (url, client, reason) in [
        ("https://c.org/", "127.0.0.1", "the handshake fails: no server for c.org, and none without `hostnames`"),
        ("https://closed.org/", "192.0.2.1", "the connection is reset: this client address is denied"),
        ("http://a.org:443/", "127.0.0.1", "reads the name that a TLS client asks for; write https:// in the URL"),
    ] {
        let (code, text) = run(&["explain", "xps_config.json", "GET", url, "--client", client]);
        assert!(code == Some(1) && text.contains(reason), "{text}");
    }
}
