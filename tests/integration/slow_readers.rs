//! Many clients that ask for much and read nothing: what that costs is bounded, and measured from outside.
//!
//! `XPS_SLOW_READERS=10000` opens so many instead of 300.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::environment::{allow_descriptors, report};
use crate::support::{Backend, Launch, Xps, backends, eventually, is_wrapped, skip, uninterrupted};

/// Receive buffers that the server may use, for each reader: about what other proxies take.
const BUFFERS_BYTES: u64 = 64 << 10;

/// The same where they are few: not quite two small buffers for each reader.
const FEW_BUFFERS_BYTES: u64 = 32 << 10;

/// What a reader may cost beside that: state, heads, and what the allocator keeps.
const STATE_BYTES: u64 = 16 << 10;

const REQUEST: &str = "GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

const HTTP: &[&str] = &["proxy", "--http", "--access-log", "off", "--send-timeout", "0"];
const TCP: &[&str] = &["proxy"];

/// More than the sockets' buffers on the way can take.
const FILE_BYTES: u64 = 16 << 20;

backends! {
    fn a_slow_reader_holds_no_more_than_the_bound(backend) {
        const NAME: &str = "a_slow_reader_holds_no_more_than_the_bound";
        let readers = std::env::var("XPS_SLOW_READERS")
            .map_or(300, |number| number.parse::<u64>().expect("XPS_SLOW_READERS is a number"));
        if is_wrapped() {
            return skip(NAME, "a wrapper's memory is in the way");
        }
        if !allow_descriptors(2 * readers + 200) {
            return skip(NAME, "too few descriptors are allowed");
        }
        measure(backend, readers, BUFFERS_BYTES, HTTP);
    }

    fn with_few_buffers_the_last_of_many_slow_readers_has_one(backend) {
        serve_the_last(backend, "with_few_buffers_the_last_of_many_slow_readers_has_one", HTTP);
    }

    fn with_few_buffers_the_last_of_many_slow_connections_has_one(backend) {
        serve_the_last(backend, "with_few_buffers_the_last_of_many_slow_connections_has_one", TCP);
    }

    fn files_of_many_streams_hold_a_bounded_number_of_pieces(backend) {
        const CONNECTIONS: u64 = 10;
        if is_wrapped() {
            return skip("files_of_many_streams_hold_a_bounded_number_of_pieces", "a wrapper's memory is in the way");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        crate::support::files::write_sparse(&folder.path().join("large"), FILE_BYTES);
        let words = ["serve", ".", "--listen", "127.0.0.1:0", "--access-log", "off", "--h2c", "--workers", "1"];
        // Without windows, with windows that nothing is read of, and with that of the connection closed.
        for (stream_window, connection_window) in [(0, 0), (1 << 20, 1 << 30), (1 << 20, 0)] {
            let server = Launch::new(backend, words).in_folder(folder.path()).start();
            let before = server.usage().rss_bytes;
            let streams: Vec<TcpStream> =
                (0..CONNECTIONS).map(|_| ask_on_streams(&server, stream_window, connection_window)).collect();
            let held = settled(|| server.usage().rss_bytes).saturating_sub(before) / CONNECTIONS;
            assert!(held <= 2 << 20, "{held} bytes for each connection, {stream_window} {connection_window}");
            drop(streams);
        }
    }
}

/// Requests a large file on 100 streams of HTTP/2, and reads nothing. The windows are those of the streams,
/// and what that of the connection grows by.
fn ask_on_streams(server: &Xps, stream_window: u32, connection_window: u32) -> TcpStream {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[&[0, 4][..], &stream_window.to_be_bytes()].concat()));
    if connection_window > 0 {
        bytes.extend(frame(8, 0, 0, &connection_window.to_be_bytes()));
    }
    for stream in (1..200).step_by(2) {
        bytes.extend(frame(1, 5, stream, b"\x82\x86\x04\x06/large\x01\x01h"));
    }
    let mut client = TcpStream::connect(server.address()).expect("a listening server");
    client.write_all(&bytes).expect("requests");
    client
}

fn serve_the_last(backend: Backend, name: &str, proxy: &[&str]) {
    const READERS: u64 = 150;
    if !allow_descriptors(2 * READERS + 200) {
        return skip(name, "too few descriptors are allowed");
    }
    measure(backend, READERS, FEW_BUFFERS_BYTES, proxy);
}

/// Opens so many slow readers, each of which gets the beginning of its answer, and looks at what they cost.
fn measure(backend: Backend, readers: u64, buffers_bytes: u64, proxy: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    crate::support::files::write_sparse(&folder.path().join("large"), FILE_BYTES);
    let server =
        |words: &[&str]| Launch::new(backend, words.iter().copied()).flags(["--workers", "1"]).in_folder(folder.path());
    let origin =
        server(&["serve", ".", "--listen", "127.0.0.1:0", "--access-log", "off", "--send-timeout", "0"]).start();
    let (upstream, buffers) = (origin.address().to_string(), (readers * buffers_bytes).to_string());
    let mut words = proxy.to_vec();
    words.extend(["--listen", "127.0.0.1:0", "--upstream", &upstream, "--buffers", &buffers]);
    let proxy = server(&words).start();
    download(&proxy);
    let before = proxy.usage().rss_bytes;
    let streams: Vec<TcpStream> = (0..readers).map(|_| ask_slowly(&proxy)).collect();
    let held = settled(|| proxy.usage().rss_bytes).saturating_sub(before);
    let each = held / readers;
    report(&format!("{readers} slow readers over {backend:?}: {each} bytes of user memory each"));
    if !is_wrapped() {
        assert!(each <= buffers_bytes + STATE_BYTES, "{each} bytes each");
    }
    // Others are served meanwhile, and a slow one gets on as soon as it reads.
    download(&proxy);
    for stream in streams.iter().take(1).chain(streams.last()) {
        let got = std::io::copy(&mut { stream }, &mut std::io::sink()).expect("the rest of the answer");
        assert!(got > FILE_BYTES, "{got} bytes");
    }
}

/// A connection with a request for the file, of which nothing is read.
fn ask_slowly(proxy: &Xps) -> TcpStream {
    let mut stream = crate::support::connect(proxy.address());
    stream.write_all(REQUEST.as_bytes()).expect("the server takes it");
    // The answer has begun.
    assert_eq!(uninterrupted(|| stream.peek(&mut [0])).expect("an answer"), 1);
    stream
}

/// A client like others.
fn download(proxy: &Xps) {
    let answer = crate::support::ask(proxy.address(), REQUEST.as_bytes());
    assert!(answer.len() as u64 > FILE_BYTES, "{} bytes", answer.len());
}

/// A figure that no longer grows.
fn settled(mut figure: impl FnMut() -> u64) -> u64 {
    const QUIET: Duration = Duration::from_millis(300);
    let mut last = figure();
    eventually("a figure that no longer grows", || {
        std::thread::sleep(QUIET);
        let next = figure();
        std::mem::replace(&mut last, next) >= next
    });
    last
}
