//! The core behaviour in short, for sweeps over many configurations.

use std::path::Path;

use super::backend::Backend;
use super::client::{ask, echo_content, ping, reset};
use super::content::{Content, assert_same_bytes};
use super::environment::{bulk, eventually};
use super::server::{Launch, Xps};
use super::upstream::{ClosedPort, Upstream};
use super::{connect, was_cut};

/// Echo: bulk both ways, many small ones at once, half-close, a reset, and no descriptor left.
pub fn echo(backend: Backend) {
    let xps = Launch::echo(backend).start();
    talk_to_echo(&xps, 1);
    xps.finish();
}

/// Reverse: lines that come in pieces, and one that never ends.
pub fn reverse(backend: Backend) {
    let xps = Launch::reverse(backend).flags(["--line-max", "4k"]).start();
    let stream = connect(xps.address());
    stream.set_nodelay(true).expect("TCP has it");
    for piece in [&b"stre"[..], b"ssed\n\nde", b"sserts"] {
        std::io::Write::write_all(&mut &stream, piece).expect("the server takes the bytes");
    }
    assert_eq!(super::client::exchange(&stream, b""), b"desserts\n\nstressed");
    let line = Content::bytes(2, 10_000).into_iter().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
    let expected: Vec<u8> = line.chunks(4096).flat_map(|piece| piece.iter().rev().copied()).collect();
    assert_same_bytes(&ask(xps.address(), &line), &expected);
    xps.finish();
}

/// Proxy: the same as echo, through an upstream that echoes, and with no upstream.
pub fn proxy(backend: Backend) {
    let upstream = Upstream::echo();
    let xps = Launch::proxy(backend, upstream.address()).start();
    talk_to_echo(&xps, 3);
    xps.finish();

    let nobody = ClosedPort::new();
    let xps = Launch::proxy(backend, nobody.address()).start();
    assert!(was_cut(&connect(xps.address())));
    assert!(was_cut(&connect(xps.address())), "the proxy lives on");
    xps.finish();
}

/// Send: a file of several buffers' size, exactly, to several clients at once; and one that is gone.
pub fn send(backend: Backend) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("file");
    let content = Content::bytes(4, bulk(8 << 20) + 13);
    std::fs::write(&path, &content).expect("a temporary file");
    let xps = Launch::send(backend, Path::new("file")).in_folder(folder.path()).start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_same_bytes(&super::read_rest(&connect(xps.address())), &content));
        }
    });
    std::fs::remove_file(&path).expect("it was there");
    assert!(was_cut(&connect(xps.address())));
    xps.finish();
}

/// Connect: a round trip through standard input and output.
pub fn connect_client(backend: Backend) {
    let upstream = Upstream::echo();
    let content = Content::bytes(5, bulk(1 << 20));
    let finished = Launch::new(backend, ["connect"]).flag(upstream.address()).run(&content);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.errors);
    assert_same_bytes(&finished.output, &content);
}

fn talk_to_echo(xps: &Xps, seed: u64) {
    let address = xps.address();
    ping(&connect(address), b"hello");
    let before = xps.usage().descriptors;
    echo_content(address, seed, bulk(16 << 20));
    std::thread::scope(|scope| {
        for client in 0..16 {
            scope.spawn(move || {
                let content = Content::bytes(seed << 8 | client, 50_000);
                assert_same_bytes(&ask(address, &content), &content);
            });
        }
    });
    let broken = connect(address);
    ping(&broken, b"x");
    reset(broken);
    // At most: the very first connection may still have been open when they were counted.
    eventually("every descriptor is closed again", || xps.usage().descriptors <= before);
}
