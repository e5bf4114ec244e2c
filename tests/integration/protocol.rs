//! Which protocol an HTTP connection speaks: by ALPN, or by its first bytes.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::tls::{Authority, Client};
use crate::support::{Backend, Launch, Xps, backends, connect};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A SETTINGS frame without settings (RFC 9113, 6.5).
const SETTINGS: &[u8; 9] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GET: &[u8] = b"GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const PROXY_HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";

/// A server with one listener, which has these options.
fn start(backend: Backend, authority: &Authority, options: Value) -> Xps {
    let mut listener = json!({ "host": "127.0.0.1", "port": 0 });
    listener.as_object_mut().expect("an object").extend(options.as_object().expect("an object").clone());
    fs::write(authority.path("page"), "a page").expect("a temporary file");
    let routes = json!([{ "req_path": "/", "type": "file_serve", "dir_path": "." }]);
    let file = json!({
        "access_log": "off",
        "trusted_proxies": ["127.0.0.1"],
        "servers": [{ "listeners": [listener], "routes": routes }],
    });
    fs::write(authority.path("xps_config.json"), file.to_string()).expect("a temporary file");
    Launch::new(backend, ["run"]).in_folder(&authority.path("")).start()
}

/// The first bytes of the answer to these pieces, each sent by itself: as many as a frame's head.
fn answer(address: SocketAddr, pieces: &[&[u8]]) -> [u8; 9] {
    let mut stream = connect(address);
    stream.set_nodelay(true).expect("a live connection");
    for piece in pieces {
        stream.write_all(piece).expect("it is read");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

/// Whether a frame begins so that is the server's SETTINGS, which come first (RFC 9113, 3.4).
fn is_http2(answer: [u8; 9]) -> bool {
    answer[3..] == [4, 0, 0, 0, 0, 0]
}

backends! {
    fn the_first_bytes_choose_without_tls(backend) {
        let authority = Authority::new();
        for expects_header in [false, true] {
            let xps = start(backend, &authority, json!({ "h2c": true, "accept_proxy_protocol": expects_header }));
            let header = if expects_header { PROXY_HEADER } else { b"" };
            let opening = [header, PREFACE, SETTINGS].concat();
            for cut in [0, 1, 3, 14, 18, 23, 24, 30].map(|at| header.len() + at) {
                let (first, second) = opening.split_at(cut);
                assert!(is_http2(answer(xps.address(), &[first, second])), "{cut}");
            }
            let bytes: Vec<&[u8]> = opening.chunks(1).collect();
            assert!(is_http2(answer(xps.address(), &bytes)));
            assert_eq!(&answer(xps.address(), &[header, GET]), b"HTTP/1.1 ");
            // HTTP/1.1 says what is wrong with these.
            assert_eq!(&answer(xps.address(), &[header, b"PRI * HTTP/2.0\r\n\r\nSX"]), b"HTTP/1.1 ");
            xps.finish();
        }
        let xps = start(backend, &authority, json!({}));
        assert_eq!(&answer(xps.address(), &[PREFACE, SETTINGS]), b"HTTP/1.1 ");
    }

    fn alpn_chooses_over_tls(backend) {
        let authority = Authority::new();
        let signed = authority.signed(&["localhost"]);
        let certificates = json!([{ "cert": signed.cert, "key": signed.key }]);
        let tls = json!({ "certificates": certificates, "alpn": ["h2", "http/1.1"] });
        let xps = start(backend, &authority, json!({ "tls": tls }));
        let opening = [PREFACE, &SETTINGS[..]].concat();
        for (offered, chosen) in [
            (&["h2"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let client = Client::trusting(&authority).offering(offered);
            let mut stream = client.connect(xps.address(), "localhost").expect("a handshake");
            assert_eq!(stream.alpn().as_deref(), chosen);
            let is_expected = chosen == Some("h2");
            stream.write_all(if is_expected { &opening } else { GET }).expect("it is read");
            let mut answer = [0; 9];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!((is_http2(answer), &answer == b"HTTP/1.1 "), (is_expected, !is_expected), "{offered:?}");
        }
    }
}
