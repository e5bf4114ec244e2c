//! `xps serve` over TLS: what its banner says, and connections.

use std::process::Stdio;

use rustls::{HandshakeKind, ProtocolVersion};

use crate::support::log::{Log, Record};
use crate::support::process::Signal;
use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, backends};

/// The lines of the banner of a server on a port of the kernel's choice.
fn banner(flags: &[&str]) -> String {
    let launch = Launch::new(Backend::Epoll, ["serve", ".", "--listen", "127.0.0.1:0"]).flags(flags.iter().copied());
    let mut process = launch.command().stdout(Stdio::null()).spawn().expect("it starts");
    let log = Log::follow(process.stderr.take().expect("standard error is a pipe"));
    let text = log.wait_until("the fingerprint", |records| {
        let lines: Vec<String> = records.iter().map(Record::to_string).collect();
        lines.iter().any(|line| line.contains("SHA-256")).then(|| lines.join("\n"))
    });
    Signal::Terminate.send(&process);
    process.wait().expect("it ends");
    text
}

#[test]
fn the_banner_names_the_url_and_the_fingerprint() {
    let text = banner(&["--tls-self-signed"]);
    assert!(text.contains("https://127.0.0.1:"), "{text}");
    assert!(text.contains("self-signed certificate for localhost, 127.0.0.1, ::1, valid for 30 days"), "{text}");
    let (_, fingerprint) = text.split_once("SHA-256 ").expect("a fingerprint");
    let bytes = fingerprint.lines().next().unwrap_or_default().split(':');
    assert!(bytes.clone().count() == 32 && bytes.clone().all(|byte| u8::from_str_radix(byte, 16).is_ok()), "{text}");
}

backends! {
    fn a_page_is_served(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
        let xps = Launch::new(backend, ["serve"])
            .flag(folder.path().display())
            .flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-self-signed"])
            .start();
        let client = Client::trusting_anyone().offering(&["http/1.1"]);
        let mut stream = client.connect(xps.address(), "localhost").expect("a handshake");
        assert_eq!(stream.version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(stream.alpn().as_deref(), Some("http/1.1"));
        let request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        std::io::Write::write_all(&mut stream, request).expect("it is read");
        let answer = stream.read_rest().expect("an answer that ends with close_notify");
        assert!(answer.ends_with(b"\r\n\r\na page"), "{}", String::from_utf8_lossy(&answer));
    }

    /// Only where nothing can be missing: the same in the middle of a request is a loss.
    fn an_end_without_close_notify_between_requests_is_none_worth_a_word(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("page"), "a page").expect("a temporary file");
        let xps = Launch::new(backend, ["serve"])
            .flag(folder.path().display())
            .flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-self-signed", "--log-level", "debug"])
            .start();
        let client = Client::trusting_anyone();
        for (more, close_reason) in [("", "done"), ("GET /pa", "client_lost")] {
            let mut stream = client.connect(xps.address(), "localhost").expect("a handshake");
            let peer = stream.tcp.local_addr().expect("a connected socket has an address").to_string();
            std::io::Write::write_all(&mut stream, b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is read");
            let mut answer = Vec::new();
            while !answer.ends_with(b"a page") {
                let mut bytes = [0; 1000];
                let count = std::io::Read::read(&mut stream, &mut bytes).expect("an answer");
                answer.extend_from_slice(&bytes[..count]);
            }
            std::io::Write::write_all(&mut stream, more.as_bytes()).expect("it is read");
            std::io::Write::flush(&mut stream).expect("it is read");
            stream.tcp.shutdown(std::net::Shutdown::Write).expect("a connected socket");
            let record = xps.log().wait_for("the end of the connection", |record| {
                record.message() == "connection ended" && record.text("peer") == Some(&peer)
            });
            assert_eq!(record.text("close_reason"), Some(close_reason), "{record}");
            assert_eq!(record.level(), "DEBUG", "{record}");
        }
    }

    /// Their signatures are made on other threads.
    fn keys_of_rsa_work(backend) {
        let authority = Authority::new();
        let signed = authority.signed_with_rsa(&["a.org"]);
        let xps = Launch::new(backend, ["serve", ".", "--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"])
            .flag(signed.cert.display())
            .flag("--tls-key")
            .flag(signed.key.display())
            .start();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = Client::trusting(&authority).speaking(version);
            let kinds = [HandshakeKind::Full, HandshakeKind::Resumed].map(|_| {
                let mut stream = client.connect(xps.address(), "a.org").expect("a handshake");
                let request = b"HEAD /Cargo.toml HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\n\r\n";
                std::io::Write::write_all(&mut stream, request).expect("it is read");
                let answer = stream.read_rest().expect("an answer that ends with close_notify");
                assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
                stream.kind()
            });
            assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]);
        }
        let refused = Client::trusting(&Authority::new()).connect(xps.address(), "a.org");
        assert!(refused.is_err());
    }

    /// As `curl --http1.0` does.
    fn a_client_may_speak_http_1_0_only(backend) {
        let flags = ["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-self-signed"];
        let xps = Launch::new(backend, ["serve", "."]).flags(flags).start();
        for (offered, expected) in [(["http/1.0", "http/0.9"], "http/1.0"), (["http/1.0", "http/1.1"], "http/1.1")] {
            let client = Client::trusting_anyone().offering(&offered);
            let mut stream = client.connect(xps.address(), "localhost").expect("a handshake");
            assert_eq!(stream.alpn().as_deref(), Some(expected));
            std::io::Write::write_all(&mut stream, b"HEAD /Cargo.toml HTTP/1.0\r\n\r\n").expect("it is read");
            let answer = stream.read_rest().expect("an answer that ends with close_notify");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
        }
        let refused = Client::trusting_anyone().offering(&["h3"]).connect(xps.address(), "localhost");
        assert!(refused.is_err_and(|error| error.to_string().contains("NoApplicationProtocol")));
    }
}
