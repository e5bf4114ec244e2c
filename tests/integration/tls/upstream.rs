//! Upstreams over TLS: the origin is a server of its own, with a certificate of the test's authority.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::log::Record;
use crate::support::process::Finished;
use crate::support::tls::{Authority, Client, Signed};
use crate::support::upstream::Upstream;
use crate::support::{Backend, Launch, Xps, backends, connect, eventually, read_rest, uninterrupted};

/// An origin over TLS, and the folder that it serves.
struct Origin {
    xps: Xps,
    _folder: TempDir,
}

impl Origin {
    fn new(backend: Backend, signed: &Signed, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
        std::fs::write(folder.path().join("large"), pattern()).expect("a temporary file");
        let xps = Launch::new(backend, ["serve"])
            .flag(folder.path().display())
            .flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"])
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .flags(flags.iter().copied())
            .start();
        Self { xps, _folder: folder }
    }

    /// Its address, with this host name.
    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.xps.address().port())
    }
}

/// More than is encrypted at a time and than the buffers of a socket hold, and no multiple of a record.
fn pattern() -> Vec<u8> {
    (0..3_000_017_u32).map(|index| (index % 251) as u8).collect()
}

fn http_proxy(backend: Backend, upstream: &str, ca: &Path) -> Xps {
    Launch::new(backend, ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off", "--upstream", upstream])
        .flag("--upstream-ca")
        .flag(ca.display())
        .start()
}

/// The whole answer to GET, on a connection of its own.
fn get(address: SocketAddr, target: &str) -> Vec<u8> {
    let mut stream = connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is read");
    read_rest(&stream)
}

#[track_caller]
fn expect_status(answer: &[u8], status: u16) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
}

/// A listener that nothing accepts from, and that answers every connection with these bytes, if any.
fn speaking(bytes: &'static [u8]) -> Upstream {
    Upstream::new(move |mut stream: TcpStream, _| {
        let _ = stream.write_all(bytes);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    })
}

backends! {
    fn requests_are_forwarded_over_tls_and_connections_are_reused(backend) {
        let authority = Authority::new();
        let origin = Origin::new(backend, &authority.signed(&["localhost"]), &["--log-level", "debug"]);
        let xps = http_proxy(backend, &origin.url("localhost"), &authority.ca());
        for _ in 0..3 {
            let answer = get(xps.address(), "/page");
            expect_status(&answer, 200);
            assert!(answer.ends_with(b"\r\n\r\na page"));
        }
        let answer = get(xps.address(), "/large");
        assert!(answer.ends_with(&pattern()), "{} bytes", answer.len());
        // Requests of one client after another: those of different workers may have connections of their own.
        let mut stream = connect(xps.address());
        for _ in 0..20 {
            stream.write_all(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\na page") {
                let mut byte = [0; 512];
                let count = uninterrupted(|| stream.read(&mut byte)).expect("an answer");
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&byte[..count]);
            }
        }
        let mut accepted = 0;
        for record in origin.xps.log().records() {
            accepted += usize::from(record.to_string().contains("connection ended"));
        }
        assert!(accepted <= 4, "{accepted} connections to the origin have ended");
    }

    fn an_upload_arrives_whole(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        // The proxy behind terminates TLS, and its own upstream counts.
        let sink = Upstream::new(|mut stream: TcpStream, _| {
            let mut received = Vec::new();
            let mut piece = [0; 1 << 16];
            let head_end = loop {
                let count = uninterrupted(|| stream.read(&mut piece)).unwrap_or(0);
                received.extend_from_slice(&piece[..count]);
                if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                if count == 0 {
                    return;
                }
            };
            while received.len() < head_end + pattern().len() {
                match uninterrupted(|| stream.read(&mut piece)) {
                    Ok(count) if count > 0 => received.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let verdict = if received[head_end..] == pattern() { "all" } else { "not all" };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{verdict}", verdict.len());
        });
        let behind = Launch::new(backend, ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off"])
            .flag("--upstream")
            .flag(sink.address())
            .flag("--tls-cert")
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .start();
        let upstream = format!("https://localhost:{}", behind.address().port());
        let xps = http_proxy(backend, &upstream, &authority.ca());
        let mut stream = connect(xps.address());
        let body = pattern();
        let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).expect("it is read");
        let answer = read_rest(&stream);
        assert!(answer.ends_with(b"\r\n\r\nall"), "{}", String::from_utf8_lossy(&answer));
    }

    fn a_certificate_that_is_not_good_is_not_accepted(backend) {
        let (authority, stranger) = (Authority::new(), Authority::new());
        for (signed, why) in [
            (stranger.signed(&["localhost"]), "certificate is invalid"),
            (authority.signed(&["example.org"]), "another name"),
        ] {
            let origin = Origin::new(backend, &signed, &[]);
            let xps = http_proxy(backend, &origin.url("localhost"), &authority.ca());
            expect_status(&get(xps.address(), "/page"), 502);
            xps.log().wait_until(why, |records| {
                let told = |record: &Record| record.text("cause").is_some_and(|reason| reason.contains(why));
                records.iter().any(told).then_some(())
            });
        }
    }

    fn what_does_not_speak_tls_gets_no_request(backend) {
        let authority = Authority::new();
        for bytes in [&b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", b"\x15\x03\x03\x00\x02\x02\x28"] {
            let upstream = speaking(bytes);
            let url = format!("https://localhost:{}", upstream.address().port());
            let xps = http_proxy(backend, &url, &authority.ca());
            let answer = get(xps.address(), "/");
            let text = String::from_utf8_lossy(&answer);
            assert!(text.starts_with("HTTP/1.1 502 ") || text.starts_with("HTTP/1.1 504 "), "{text}");
        }
    }

    fn a_handshake_that_does_not_end_times_out(backend) {
        let authority = Authority::new();
        let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("https://localhost:{}", silent.local_addr().expect("bound").port());
        let xps = Launch::new(backend, ["proxy", "--http", "--listen", "127.0.0.1:0", "--access-log", "off"])
            .flags(["--connect-timeout", "300ms", "--upstream", &url, "--upstream-ca"])
            .flag(authority.ca().display())
            .start();
        let answer = get(xps.address(), "/");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 50"), "{text}");
    }

    fn a_tcp_proxy_relays_over_tls(backend) {
        let authority = Authority::new();
        let origin = Origin::new(backend, &authority.signed(&["localhost"]), &[]);
        let xps = Launch::new(backend, ["proxy", "--listen", "127.0.0.1:0", "--upstream"])
            .flag(origin.url("localhost"))
            .flag("--upstream-ca")
            .flag(authority.ca().display())
            .start();
        let answer = get(xps.address(), "/large");
        assert!(answer.ends_with(&pattern()), "{} bytes", answer.len());
        let stream = connect(xps.address());
        stream.shutdown(Shutdown::Write).expect("it is open");
        assert!(read_rest(&stream).is_empty(), "an end of input is passed on as close_notify");
    }

    fn tls_on_both_sides(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let origin = Origin::new(backend, &signed, &[]);
        let xps = Launch::new(backend, ["proxy", "--listen", "127.0.0.1:0", "--upstream"])
            .flag(origin.url("localhost"))
            .flag("--upstream-ca")
            .flag(authority.ca().display())
            .flag("--tls-cert")
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .start();
        let mut stream = Client::trusting(&authority).connect(xps.address(), "localhost").expect("a handshake");
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is read");
        let answer = stream.read_rest().expect("an answer that ends with close_notify");
        assert!(answer.ends_with(&pattern()), "{} bytes", answer.len());
    }

    fn connect_speaks_tls(backend) {
        let authority = Authority::new();
        let origin = Origin::new(backend, &authority.signed(&["localhost"]), &[]);
        let request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let url = origin.url("localhost").replace("https", "tls");
        let run = |flags: &[&str]| {
            let launch = Launch::new(backend, ["connect", &url]).flags(flags.iter().copied());
            launch.run(request)
        };
        let ca = authority.ca();
        for flags in [&["--ca", ca.to_str().expect("text")][..], &["--insecure"]] {
            let Finished { output, status, errors } = run(flags);
            assert!(status.success() && output.ends_with(b"\r\n\r\na page"), "{errors}");
        }
        let Finished { errors, status, .. } = run(&[]);
        assert!(!status.success() && errors.contains("unknown issuer"), "{errors}");
    }

    fn checks_of_upstreams_are_made_over_tls(backend) {
        let authority = Authority::new();
        let origin = Origin::new(backend, &authority.signed(&["localhost"]), &[]);
        let route = json!({
            "req_path": "/", "type": "reverse_proxy",
            "upstreams": [origin.url("localhost")], "upstream_tls": { "ca": "ca.pem" },
            "health_check": { "active": { "type": "http", "path": "/page", "interval": "50ms" } },
        });
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        let server = json!({ "listeners": [{ "host": "127.0.0.1", "port": 0 }], "routes": [route, metrics] });
        let file = json!({ "access_log": "off", "workers": 1, "servers": [server] });
        std::fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
        let xps = Launch::new(backend, ["run"]).in_folder(&authority.path("")).start();
        let count = |result: &str| -> u64 {
            let metrics = String::from_utf8_lossy(&get(xps.address(), "/metrics")).into_owned();
            let name = format!("xps_health_checks_total{{result=\"{result}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&*name)).expect("a metric");
            value.parse().expect("a number")
        };
        eventually("checks that pass", || count("passed") > 3);
        assert_eq!(count("failed"), 0);
    }
}
