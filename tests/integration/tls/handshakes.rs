//! Handshakes that come in pieces, or never to an end.
//!
//! `XPS_HALF_HANDSHAKES=10000` begins so many instead of 500.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::client::ClientConnection;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};

use crate::place::{Place, Service};
use crate::support::environment::{allow_descriptors, report};
use crate::support::tls::{Authority, Client, Signed, Stream};
use crate::support::{Backend, backends, connect, eventually, is_wrapped, skip, uninterrupted};

/// An echo server over TLS with these limits. One worker.
fn start(backend: Backend, authority: &Authority, limits: Value) -> (Place, Service) {
    let place = Place::new(backend);
    let Signed { cert, key, .. } = authority.signed(&["localhost"]);
    let tls = json!({ "certificates": [{ "cert": cert, "key": key }] });
    let listener = json!({ "host": "127.0.0.1", "port": 0, "tls": tls });
    place.configure_with([json!({ "listeners": [listener], "protocol": "tcp", "handler": "echo" })], |document| {
        document["workers"] = json!(1);
        document["limits"]["http"] = limits;
    });
    // Also with the ends of connections.
    let service = Service::new(place.launch().logging("info").start());
    (place, service)
}

/// The first message of this client.
fn hello(client: &Client) -> (ClientConnection, Vec<u8>) {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(client.config(), name).expect("a client");
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).expect("memory takes it");
    (tls, hello)
}

/// The same message in two records, the first with so many bytes of it.
fn in_two_records(hello: &[u8], first: usize) -> [Vec<u8>; 2] {
    let (header, message) = hello.split_at(5);
    let (one, other) = message.split_at(first);
    [one, other].map(|part| {
        let length = u16::try_from(part.len()).expect("it was one record").to_be_bytes();
        [&header[..3], &length, part].concat()
    })
}

#[track_caller]
fn expect_echo(stream: &mut Stream) {
    stream.write_all(b"hello").expect("it is read");
    let mut echo = [0; 5];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"hello");
}

/// Sends these pieces, which are a ClientHello, and goes on from there.
#[track_caller]
fn shake_hands(address: SocketAddr, mut tls: ClientConnection, pieces: &[Vec<u8>]) {
    let mut tcp = connect(address);
    tcp.set_nodelay(true).expect("TCP has it");
    for piece in pieces {
        tcp.write_all(piece).expect("it is read");
    }
    while tls.is_handshaking() {
        uninterrupted(|| tls.complete_io(&mut tcp)).expect("a handshake");
    }
    expect_echo(&mut Stream { tls, tcp });
}

backends! {
    fn a_client_hello_may_come_in_single_bytes_and_in_two_records(backend) {
        let authority = Authority::new();
        let (_place, service) = start(backend, &authority, json!({}));
        for version in [&TLS12, &TLS13] {
            let client = Client::trusting(&authority).speaking(version).forgetful();
            let (tls, bytes) = hello(&client);
            let single: Vec<Vec<u8>> = bytes.chunks(1).map(<[u8]>::to_vec).collect();
            shake_hands(service.address(), tls, &single);
            for first in [1, 3, 60] {
                let (tls, bytes) = hello(&client);
                shake_hands(service.address(), tls, &in_two_records(&bytes, first));
                let (tls, bytes) = hello(&client);
                shake_hands(service.address(), tls, &[in_two_records(&bytes, first).concat()]);
            }
        }
    }

    fn one_that_never_ends_is_cut_and_told_of(backend) {
        let authority = Authority::new();
        let (_place, service) = start(backend, &authority, json!({ "head_timeout": "300ms" }));
        let (_, bytes) = hello(&Client::trusting(&authority));
        for length in [0, 5, bytes.len() / 2, bytes.len()] {
            let mut tcp = connect(service.address());
            tcp.write_all(&bytes[..length]).expect("it is read");
            let peer = tcp.local_addr().expect("it is connected").to_string();
            // What the server has to say comes first.
            let _ = tcp.read_to_end(&mut Vec::new());
            let is_its_end = |record: &crate::support::log::Record| record.text("peer") == Some(&peer);
            let record = service.first.log().wait_for("the end of the connection", is_its_end);
            assert_eq!(record.text("close_reason"), Some("tls_failed"), "{length}: {record}");
        }
        expect_echo(&mut Client::trusting(&authority).connect(service.address(), "localhost").expect("a handshake"));
    }

    fn many_that_are_half_done_take_little_memory_and_keep_nobody_out(backend) {
        const NAME: &str = "many_that_are_half_done_take_little_memory_and_keep_nobody_out";
        let count = std::env::var("XPS_HALF_HANDSHAKES")
            .map_or(500, |number| number.parse::<u64>().expect("XPS_HALF_HANDSHAKES is a number"));
        if !allow_descriptors(count + 200) {
            return skip(NAME, "too few descriptors are allowed");
        }
        let authority = Authority::new();
        let (_place, service) = start(backend, &authority, json!({ "head_timeout": "600s" }));
        let client = Client::trusting(&authority).forgetful();
        let expect_served = || expect_echo(&mut client.connect(service.address(), "localhost").expect("a handshake"));
        (0..100).for_each(|_| expect_served());
        let before = service.first.usage().rss_bytes;
        let half: Vec<TcpStream> = (0..count)
            .map(|number| {
                let mut tcp = connect(service.address());
                let (_, bytes) = hello(&client);
                // One in two waits for the client's part after the server's, the others for the rest of the first message.
                let length = if number % 2 == 0 { bytes.len() } else { bytes.len() / 2 };
                tcp.write_all(&bytes[..length]).expect("it is read");
                if number % 2 == 0 {
                    tcp.read_exact(&mut [0; 100]).expect("the server's part");
                }
                tcp
            })
            .collect();
        expect_served();
        let each = service.first.usage().rss_bytes.saturating_sub(before) / count;
        report(&format!("{count} half-done handshakes over {backend:?}: {each} bytes of user memory each"));
        assert!(is_wrapped() || each <= HALF_BYTES_MAX, "{each} bytes each");
        drop(half);
        eventually("their descriptors are closed", || service.first.usage().descriptors < 100);
        expect_served();
    }
}

/// Keys, the messages so far, and what is gathered of one.
const HALF_BYTES_MAX: u64 = 32 << 10;
