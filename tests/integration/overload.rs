//! Too much of everything: peers that do not read, more connections than descriptors or allowed. What is
//! served goes on being served, memory stays within its bound, and waiting costs no processor time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::client::{expect_content, flood, ping, stays_silent};
use crate::support::environment::report;
use crate::support::process::{Signal, cpu_within_a_second};
use crate::support::{
    Backend, Content, Launch, Upstream, Xps, backends, connect, eventually, is_wrapped, patience, skip,
};

backends! {
    fn a_client_that_reads_nothing_costs_others_nothing(backend) {
        let xps = Launch::echo(backend).flags(["--workers", "1"]).start();
        flood_and_watch("echo", backend, &xps);
    }

    fn a_client_that_reads_nothing_is_borne_by_the_proxy_too(backend) {
        let upstream = Upstream::echo();
        let xps = Launch::proxy(backend, upstream.address()).over_tls_where_asked().flags(["--workers", "1"]).start();
        flood_and_watch("proxy", backend, &xps);
    }

    fn an_upstream_that_reads_nothing_costs_others_nothing(backend) {
        let (streams, kept) = mpsc::channel();
        let streams = Mutex::new(streams);
        let upstream = Upstream::new(move |stream, number| match number {
            // The first is the watcher's warm-up, the second is the flood.
            1 => drop(streams.lock().expect("no panic").send(stream)),
            _ => crate::support::upstream::echo(&stream),
        });
        let xps = Launch::proxy(backend, upstream.address()).over_tls_where_asked().flags(["--workers", "1"]).start();
        let before = warm_up(&xps);
        let stream = connect(xps.address());
        let deaf = kept.recv_timeout(patience()).expect("the connection reached the upstream");
        let mut content = Content::new(1);
        let sent = flood_while_others_are_served(&stream, &mut content, &xps);
        assert!(sent < FLOOD_BYTES_MAX, "{sent} bytes were taken for an upstream that reads none");
        assert_at_rest("proxy with a deaf upstream", backend, &xps, before);
        stream.shutdown(Shutdown::Write).expect("the connection is there");
        expect_content(&deaf, &mut Content::new(1), sent);
    }

    fn connections_beyond_the_descriptors_wait_and_none_is_lost(backend) {
        if is_wrapped() {
            return skip("connections_beyond_the_descriptors_wait_and_none_is_lost", "a wrapper needs descriptors itself");
        }
        let xps = Launch::echo(backend).flags(["--workers", "1"]).with_descriptors_max(64).start();
        ping(&connect(xps.address()), b"warm");
        let idle = xps.usage().descriptors;
        serve_in_turn(&xps, 150, 1, 63);
        eventually("every descriptor is closed again", || xps.usage().descriptors <= idle);
        ping(&connect(xps.address()), b"as before");
    }

    fn a_burst_of_connections_stays_within_the_limit(backend) {
        let xps = Launch::echo(backend).flags(["--workers", "1", "--max-connections", "4"]).start();
        // All of them wait in the backlog when the worker accepts.
        xps.signal(Signal::Stop);
        let clients: Vec<_> = (0..12).map(|_| connect(xps.address())).collect();
        xps.signal(Signal::Continue);
        let reached = "connection limit of the server reached";
        let notice = xps.log().wait_for("the limit", |record| record.message() == reached);
        assert_eq!(notice.number("connections"), Some(4), "{notice}");
        clients.into_iter().for_each(|client| ping(&client, b"each in its turn"));
    }

    fn connections_beyond_the_limit_wait_and_none_is_lost(backend) {
        let xps = Launch::echo(backend).flags(["--workers", "1", "--max-connections", "4"]).start();
        serve_in_turn(&xps, 20, 4, 0);
        ping(&connect(xps.address()), b"as before");
    }
}

/// A flood that nobody reads, while others are served; then it is read after all, and complete.
fn flood_and_watch(service: &str, backend: Backend, xps: &Xps) {
    let before = warm_up(xps);
    let stream = connect(xps.address());
    let sent = flood_while_others_are_served(&stream, &mut Content::new(1), xps);
    assert!(sent < FLOOD_BYTES_MAX, "{sent} bytes were taken from a client that reads none");
    assert_at_rest(service, backend, xps, before);
    stream.shutdown(Shutdown::Write).expect("the connection is there");
    expect_content(&stream, &mut Content::new(1), sent);
}

/// Serves one connection, so that what is made at first need is made; returns the memory in use then.
fn warm_up(xps: &Xps) -> u64 {
    let stream = connect(xps.address());
    ping(&stream, &Content::bytes(0, 100_000));
    xps.usage().rss_bytes
}

/// Sends until nothing more is taken, 4 GiB at most, while another client talks and measures.
fn flood_while_others_are_served(stream: &TcpStream, content: &mut Content, xps: &Xps) -> u64 {
    let (done, flooding) = mpsc::channel();
    let (slowest, sent) = std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = done.send(flood(stream, content, 4 << 30));
        });
        let mut slowest = Duration::ZERO;
        loop {
            let other = connect(xps.address());
            for _ in 0..20 {
                let since = Instant::now();
                ping(&other, b"is anybody there?");
                slowest = slowest.max(since.elapsed());
            }
            match flooding.try_recv() {
                Ok(sent) => break (slowest, sent),
                Err(mpsc::TryRecvError::Empty) => {}
                Err(mpsc::TryRecvError::Disconnected) => panic!("the flood broke off"),
            }
        }
    });
    // Far above any answer's time, far below a server that is held up.
    assert!(slowest < patience() / 10, "another client waited {slowest:?}");
    sent
}

/// Nothing moves: no processor time is used, and memory is within the connection's bound.
fn assert_at_rest(service: &str, backend: Backend, xps: &Xps, rss_before: u64) {
    if is_wrapped() {
        return;
    }
    // The quietest of a few seconds: what the other clients left may still be tidied up in the first.
    let cpu = (0..3).map(|_| cpu_within_a_second(xps.pid())).min().expect("three seconds");
    let grown = xps.usage().rss_bytes.saturating_sub(rss_before);
    report(&format!(
        "{service} over {backend:?}, a client that reads nothing: {} KiB more memory, {cpu:?} of processor time a second",
        grown >> 10
    ));
    assert!(cpu <= Duration::from_millis(20), "{cpu:?} of processor time in a second in which nothing moves");
    assert!(grown <= MEMORY_BYTES_MAX, "{grown} bytes more memory");
}

/// More clients than are served at a time. `one_by_one` of them are served each before the next connects; then
/// the others come together, of which `more_max` may be served at once. Each that leaves makes room for the next.
fn serve_in_turn(xps: &Xps, clients: usize, one_by_one: usize, more_max: usize) {
    let mut streams = Vec::new();
    for number in 0..clients {
        let mut stream = connect(xps.address());
        if number < one_by_one {
            ping(&stream, &number.to_le_bytes());
        } else {
            stream.write_all(&number.to_le_bytes()).expect("the kernel takes the message");
        }
        streams.push(stream);
    }
    let others = &streams[one_by_one..];
    assert!(stays_silent(others.last().expect("there are others"), Duration::from_millis(300)), "the last has to wait");
    if !is_wrapped() {
        let cpu = (0..3).map(|_| cpu_within_a_second(xps.pid())).min().expect("three seconds");
        assert!(cpu <= Duration::from_millis(50), "{cpu:?} of processor time in a second of waiting");
    }
    let more = others.iter().filter(|stream| !stays_silent(stream, Duration::from_millis(1))).count();
    assert!(more <= more_max, "{more} of those who came together were served, {more_max} may be");
    for (number, mut stream) in streams.into_iter().enumerate().skip_while(|(number, _)| *number < one_by_one) {
        let mut answer = 0_usize.to_le_bytes();
        stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("client {number} was not served: {error}"));
        assert_eq!(usize::from_le_bytes(answer), number);
    }
}

/// What the sockets on the way may hold in the kernel (tcp_rmem and tcp_wmem of tcp(7)), with room to spare.
const FLOOD_BYTES_MAX: u64 = 256 << 20;

/// Both pipes of one connection (256 KiB each way and what was on its way), and what a worker makes at the
/// first bulk it meets: large buffers for its ring. Far below the 4 GiB that were to be sent.
const MEMORY_BYTES_MAX: u64 = 16 << 20;
