//! An idle connection holds no buffer: the memory that many of them cost is measured from outside.
//!
//! `XPS_IDLE_CONNECTIONS=10000` opens so many instead of 2,000.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use support::client::ping;
use support::environment::{allow_descriptors, report};
use support::h2::client::Connection;
use support::tls::{Authority, Client};
use support::{Backend, Launch, backends, connect, is_wrapped, skip, uninterrupted};

backends! {
    fn an_idle_connection_costs_little_memory(backend) {
        measure("echo", Launch::echo(backend), backend, BYTES_MAX, connect, |stream, message| ping(stream, message));
    }

    fn an_idle_http_connection_costs_little_memory(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("small"), [b'x'; 612]).expect("a file in it");
        let root = folder.path().to_str().expect("a path of text");
        let serve = Launch::new(backend, ["serve", root, "--listen", "127.0.0.1:0", "--access-log", "off"]);
        measure("HTTP", serve, backend, BYTES_MAX, connect, |stream, _| get_small(stream));
    }

    fn an_idle_connection_of_http_2_costs_little_memory(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("small"), [b'x'; 612]).expect("a file in it");
        let root = folder.path().to_str().expect("a path of text");
        let serve = Launch::new(backend, ["serve", root, "--listen", "127.0.0.1:0", "--access-log", "off", "--h2c"]);
        measure("HTTP/2", serve, backend, H2_BYTES_MAX, Connection::to, |connection, _| request_small(connection));
    }

    fn an_idle_connection_of_http_2_over_tls_costs_little_memory(backend) {
        let (_authority, serve, client) = tls_server(backend, &TLS13, "h2");
        let connect = |address| Connection::over_tls(address, &client, "localhost");
        measure("HTTP/2 over TLS", serve, backend, H2_TLS_BYTES_MAX, connect, |connection, _| request_small(connection));
    }

    fn an_idle_connection_of_tls_1_3_costs_little_memory(backend) {
        over_tls(backend, "HTTP over TLS 1.3", &TLS13);
    }

    fn an_idle_connection_of_tls_1_2_costs_little_memory(backend) {
        over_tls(backend, "HTTP over TLS 1.2", &TLS12);
    }
}

fn over_tls(backend: Backend, what: &str, version: &'static SupportedProtocolVersion) {
    let (_authority, serve, client) = tls_server(backend, version, "http/1.1");
    let connect = |address| client.connect(address, "localhost").expect("a handshake");
    measure(what, serve, backend, TLS_BYTES_MAX, connect, |stream, _| get_small(stream));
}

/// A server of the small file, and a client that offers this protocol. Its files are gone when the authority is.
fn tls_server(
    backend: Backend,
    version: &'static SupportedProtocolVersion,
    protocol: &str,
) -> (Authority, Launch, Client) {
    let authority = Authority::new();
    let signed = authority.signed(&["localhost"]);
    std::fs::create_dir(authority.path("root")).expect("a folder in it");
    std::fs::write(authority.path("root/small"), [b'x'; 612]).expect("a file in it");
    let serve = Launch::new(backend, ["serve"]).flag(authority.path("root").display());
    let serve = serve.flags(["--listen", "127.0.0.1:0", "--access-log", "off", "--tls-cert"]);
    let serve = serve.flag(signed.cert.display()).flag("--tls-key").flag(signed.key.display());
    let client = Client::trusting(&authority).speaking(version).offering(&[protocol]).forgetful();
    (authority, serve, client)
}

/// One measurement at a time: the connections of all count against this process's descriptors.
static TURN: Mutex<()> = Mutex::new(());

/// Measures what connections cost that `use_once` has used.
fn measure<C>(
    what: &str,
    launch: Launch,
    backend: Backend,
    bytes_max: u64,
    connect: impl Fn(SocketAddr) -> C,
    use_once: impl Fn(&mut C, &[u8]),
) {
    if is_wrapped() {
        return skip(what, "a wrapper's memory is in the way");
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let connections = std::env::var("XPS_IDLE_CONNECTIONS")
        .map_or(2000, |number| number.parse::<u64>().expect("XPS_IDLE_CONNECTIONS is a number"));
    // The server, too, inherits what is allowed here.
    if !allow_descriptors(connections + 200) {
        return skip(what, "too few descriptors are allowed");
    }
    let xps = launch.flags(["--workers", "1"]).start();
    // What is made at first need, and buffers for a burst, are not the connections' doing.
    let mut warm: Vec<_> = (0..100).map(|_| connect(xps.address())).collect();
    warm.iter_mut().for_each(|stream| use_once(stream, &[7; 10_000]));
    drop(warm);
    let before = xps.usage().rss_bytes;
    let mut streams: Vec<_> = (0..connections)
        .map(|_| {
            let mut stream = connect(xps.address());
            // Each has been used, so each has given its buffers back.
            use_once(&mut stream, b"now idle");
            stream
        })
        .collect();
    let each = xps.usage().rss_bytes.saturating_sub(before) / connections;
    report(&format!("{connections} idle {what} connections over {backend:?}: {each} bytes of user memory each"));
    assert!(each <= bytes_max, "{each} bytes each, {bytes_max} at most");
    streams.iter_mut().step_by(100).for_each(|stream| use_once(stream, b"and awake again"));
}

/// Asks for the small file, and reads the answer to its end.
fn get_small(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET /small HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server listens");
    let mut answer = Vec::new();
    while !answer.ends_with(&[b'x'; 612]) {
        let mut piece = [0; 4096];
        let count = uninterrupted(|| stream.read(&mut piece)).expect("an answer");
        assert!(count > 0, "an end instead of the rest of an answer");
        answer.extend_from_slice(&piece[..count]);
    }
}

/// The same over HTTP/2. The acknowledgement of PING shows that the server has read everything.
fn request_small(connection: &mut Connection) {
    connection.set_authority("localhost");
    let stream = connection.get("/small");
    assert!(connection.response(stream).body == [b'x'; 612], "the file");
    connection.ping().expect("it goes on");
}

/// The aim is 1 KiB; a debug build carries checks along.
const BYTES_MAX: u64 = if cfg!(debug_assertions) { 2048 } else { 1024 };

/// Keys, and what rustls keeps of a connection.
const TLS_BYTES_MAX: u64 = 10 << 10;

/// The tables of streams and of compressed fields come on top.
const H2_BYTES_MAX: u64 = 4 << 10;
const H2_TLS_BYTES_MAX: u64 = 12 << 10;
