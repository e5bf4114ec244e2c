//! The bridge of the tests, against a server of rustls: each kind of end is the same kind behind it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::support::bridge::Encryption;
use crate::support::client::{connect, read_until_cut, reset};
use crate::support::{Content, assert_same_bytes, eventually, patience, uninterrupted};
use crate::tls::client::configured;

type Served = StreamOwned<ServerConnection, TcpStream>;

/// A connection through a bridge to a server that does this after the handshake.
fn served<T: Send + 'static>(
    version: &'static SupportedProtocolVersion,
    act: impl FnOnce(Served) -> T + Send + 'static,
) -> (TcpStream, JoinHandle<T>, Encryption) {
    let mut encryption = Encryption::new(version);
    let config = configured(encryption.signed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    encryption.covers(&[listener.local_addr().unwrap()]);
    let near = connect(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let tcp = listener.accept().unwrap().0;
        tcp.set_read_timeout(Some(patience())).unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        while stream.conn.is_handshaking() {
            uninterrupted(|| stream.conn.complete_io(&mut stream.sock)).unwrap();
        }
        act(stream)
    });
    (near, server, encryption)
}

fn finish(stream: &mut Served) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn bytes_and_half_closes_go_both_ways() {
    const BYTES: usize = 3_000_000;
    for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let (mut near, server, _encryption) = served(version, move |mut stream| {
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("close_notify");
            stream.write_all(&received).unwrap();
            finish(&mut stream);
            stream.conn.protocol_version()
        });
        let content = Content::bytes(1, BYTES);
        near.write_all(&content).unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        let (received, end) = read_until_cut(&near);
        assert_same_bytes(&received, &content);
        end.expect("an orderly end");
        assert_eq!(server.join().unwrap(), Some(expected));
    }
    // The other way round.
    let (mut near, server, _encryption) = served(&TLS13, |mut stream| {
        stream.write_all(b"first").unwrap();
        finish(&mut stream);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("close_notify");
        received
    });
    assert_eq!(read_until_cut(&near).0, b"first");
    near.write_all(b"then").unwrap();
    drop(near);
    assert_eq!(server.join().unwrap(), b"then");
}

#[test]
fn every_other_end_of_the_server_is_a_reset() {
    type End = fn(Served);
    let ends: [(&str, End); 3] = [
        ("FIN without close_notify", |stream| drop(stream.sock)),
        ("a reset", |stream| reset(stream.sock)),
        ("what is no record", |mut stream| stream.sock.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap()),
    ];
    for (what, end) in ends {
        let (near, server, _encryption) = served(&TLS13, move |mut stream| {
            stream.write_all(b"half").unwrap();
            // It must have been read: a reset takes with it what was not.
            let mut seen = [0; 4];
            stream.read_exact(&mut seen).unwrap();
            end(stream);
        });
        let mut half = [0; 4];
        (&near).read_exact(&mut half).unwrap();
        (&near).write_all(b"seen").unwrap();
        let (rest, end) = read_until_cut(&near);
        assert!(half == *b"half" && rest.is_empty(), "{what}");
        assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{what}");
        server.join().unwrap();
    }
}

#[test]
fn a_reset_by_the_server_is_seen_by_who_reads_nothing() {
    let (near, server, _encryption) = served(&TLS13, |mut stream| {
        stream.sock.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        loop {
            // `StreamOwned` would read as well.
            stream.conn.writer().write_all(&[b'x'; 1 << 10]).unwrap();
            if uninterrupted(|| stream.conn.write_tls(&mut stream.sock)).is_err() {
                return reset(stream.sock);
            }
        }
    });
    server.join().unwrap();
    eventually("the reset", || uninterrupted(|| (&near).write(b"x")).is_err());
}

#[test]
fn a_reset_by_the_test_is_one_for_the_server() {
    type Act = fn(TcpStream);
    let acts: [(&str, Act); 3] = [
        ("at rest", reset),
        ("after its end", |near| {
            near.shutdown(Shutdown::Write).unwrap();
            thread::sleep(Duration::from_millis(100));
            reset(near);
        }),
        ("while the server reads nothing", |mut near| {
            near.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            while near.write_all(&[b'x'; 16 << 10]).is_ok() {}
            reset(near);
        }),
    ];
    for (what, act) in acts {
        let (mut near, server, _encryption) = served(&TLS13, |mut stream| {
            stream.write_all(b"!").unwrap();
            let mut error = None;
            eventually("a reset", || {
                error = stream.sock.take_error().unwrap();
                error.is_some()
            });
            error.map(|error| error.kind())
        });
        // Before, the reset could be the end of the handshake.
        near.read_exact(&mut [0]).unwrap();
        act(near);
        // The second is what a reset is called after the end of input.
        let kind = server.join().unwrap();
        assert!(matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)), "{what}: {kind:?}");
    }
}
