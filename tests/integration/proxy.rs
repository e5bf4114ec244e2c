//! `xps proxy`: the bytes of both sides reach the other, and so does the way each side ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::client::{
    echo_content, exchange, expect_content, flood, ping, read_until_cut, reset, send_content,
};
use crate::support::environment::{bulk, require_program};
use crate::support::log::Record;
use crate::support::process::allow_more_descriptors;
use crate::support::upstream::{ClosedPort, echo, fill_backlog};
use crate::support::{
    Backend, Content, Launch, Upstream, ask, assert_same_bytes, backends, connect, eventually, patience, read_rest,
    uninterrupted, was_cut,
};

/// `xps proxy`, with TLS to its clients if tests are to run over it.
fn proxy(backend: Backend, upstream: impl ToString) -> Launch {
    Launch::proxy(backend, upstream).over_tls_where_asked()
}

backends! {
    fn bytes_reach_the_upstream_and_come_back(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).start();
        let content = Content::bytes(1, 1_000_003);
        assert_same_bytes(&ask(xps.address(), &content), &content);
    }

    fn messages_are_passed_on_at_once(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).start();
        let stream = connect(xps.address());
        stream.set_nodelay(true).expect("TCP has it");
        for round in 0..300 {
            ping(&stream, &Content::bytes(round, 700));
        }
    }

    fn bulk_flows_both_ways_at_once(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).start();
        echo_content(xps.address(), 2, bulk(64 << 20));
    }

    fn a_small_pipe_is_enough_for_bulk(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).flags(["--pipe-size", "64k"]).start();
        echo_content(xps.address(), 3, bulk(16 << 20));
    }

    fn the_same_warning_again_and_again_is_counted_instead_of_told(backend) {
        const BURST: u64 = 200;
        /// More than the second after which a suppressed warning is reported.
        const INTERVAL: Duration = Duration::from_millis(1_200);
        let refusing = ClosedPort::new();
        let xps = proxy(backend, refusing.address()).start();
        let mut clients = 0;
        // A machine on which a burst takes ten seconds logs each of its warnings: then another follows.
        eventually("some of a burst are suppressed", || {
            let burst: Vec<_> = (0..BURST).map(|_| connect(xps.address())).collect();
            assert!(burst.iter().all(was_cut));
            // Only time ends the interval; the next record then reports what was suppressed in it.
            std::thread::sleep(INTERVAL);
            assert!(was_cut(&connect(xps.address())));
            clients += BURST + 1;
            let mut suppressed = 0;
            eventually("each is told, or counted", || {
                let records = xps.log().records();
                let is_warning = |record: &&Record| record.level() == "WARN" && record.message() == "connection ended";
                let told = records.iter().filter(is_warning).count() as u64;
                let left_out = |record: &Record| (record.message() == "repeated, and left out").then(|| record.number("count"));
                suppressed = records.iter().filter_map(left_out).flatten().sum();
                told + suppressed == clients
            });
            suppressed > 0
        });
    }

    fn many_clients_each_have_an_upstream_connection(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).start();
        let address = xps.address();
        std::thread::scope(|scope| {
            for client in 0..48 {
                scope.spawn(move || echo_content(address, 100 + client, bulk(256 << 10)));
            }
        });
    }

    fn the_client_may_half_close_first(backend) {
        let upstream = Upstream::new(|mut stream, _| {
            let mut request = read_rest(&stream);
            request.reverse();
            stream.write_all(&request).expect("the client reads");
        });
        let xps = proxy(backend, upstream.address()).start();
        let mut content = Content::bytes(4, 500_000);
        let answer = exchange(&connect(xps.address()), &content);
        content.reverse();
        assert_same_bytes(&answer, &content);
    }

    fn the_upstream_may_half_close_first(backend) {
        let (requests, received) = mpsc::channel();
        let requests = Mutex::new(requests);
        let upstream = Upstream::new(move |mut stream, _| {
            stream.write_all(b"that is all from here").expect("the client reads");
            stream.shutdown(Shutdown::Write).expect("the connection is there");
            let request = read_rest(&stream);
            let _ = requests.lock().expect("no panic").send(request);
        });
        let xps = proxy(backend, upstream.address()).start();
        let stream = connect(xps.address());
        assert_eq!(read_rest(&stream), b"that is all from here");
        send_content(&stream, &mut Content::new(5), 500_000);
        assert_same_bytes(&received.recv_timeout(patience()).expect("a request"), &Content::bytes(5, 500_000));
    }

    fn bytes_are_held_back_while_the_upstream_does_not_read(backend) {
        let (start, started) = mpsc::channel::<()>();
        let started = Mutex::new(started);
        let upstream = Upstream::new(move |stream, _| {
            let _ = started.lock().expect("no panic").recv_timeout(patience());
            echo(&stream);
        });
        let xps = proxy(backend, upstream.address()).start();
        let stream = connect(xps.address());
        let mut content = Content::new(6);
        let sent = crate::support::client::flood(&stream, &mut content, 1 << 30);
        assert!(sent < 256 << 20, "{sent} bytes were taken for an upstream that reads none");
        start.send(()).expect("the upstream waits");
        stream.shutdown(Shutdown::Write).expect("the connection is there");
        expect_content(&stream, &mut Content::new(6), sent);
    }

    fn an_upstream_that_breaks_off_is_seen_by_the_client(backend) {
        upstream_breaks_off(backend);
    }

    fn a_reset_by_the_client_reaches_the_upstream_as_a_reset(backend) {
        let (ends, seen) = mpsc::channel();
        let ends = Mutex::new(ends);
        let upstream = Upstream::new(move |mut stream, _| {
            let mut greeting = [0; 5];
            stream.read_exact(&mut greeting).expect("a greeting");
            stream.write_all(&greeting).expect("the client reads");
            let end = uninterrupted(|| stream.read(&mut greeting)).map_err(|error| error.kind());
            let _ = ends.lock().expect("no panic").send(end);
        });
        let xps = proxy(backend, upstream.address()).start();
        let stream = connect(xps.address());
        ping(&stream, b"hello");
        reset(stream);
        let end = seen.recv_timeout(patience()).expect("the upstream sees an end");
        assert_eq!(end, Err(ErrorKind::ConnectionReset));
    }

    fn a_reset_after_the_clients_end_reaches_an_upstream_that_is_held_up(backend) {
        let (tell, told) = mpsc::channel();
        let upstream = Upstream::new(move |mut stream, _| {
            assert_eq!(uninterrupted(|| stream.read(&mut [0])).expect("the client's end"), 0);
            let sent = flood(&stream, &mut Content::new(133), 500_000_000);
            tell.send(sent).expect("the test waits");
            stream.set_write_timeout(Some(patience())).expect("a time-out that is not zero");
            let end = stream.write_all(&[0; 1 << 20]).expect_err("nothing takes it").kind();
            // What a reset is after the other side's end (`tcp_reset` in the kernel).
            tell.send(u64::from(end == ErrorKind::BrokenPipe)).expect("the test waits");
        });
        let xps = proxy(backend, upstream.address()).start();
        let stream = connect(xps.address());
        stream.shutdown(Shutdown::Write).expect("it is still there");
        let sent = told.recv_timeout(patience()).expect("the upstream is held up");
        assert!(sent < 500_000_000, "nothing holds it up");
        reset(stream);
        assert_eq!(told.recv_timeout(patience()).expect("the end of the connection"), 1, "a reset");
    }

    fn an_end_in_order_is_no_reset(backend) {
        let (ends, seen) = mpsc::channel();
        let ends = Mutex::new(ends);
        let upstream = Upstream::new(move |stream, _| {
            let end = uninterrupted(|| (&stream).read(&mut [0])).map_err(|error| error.kind());
            let _ = ends.lock().expect("no panic").send(end);
        });
        let xps = proxy(backend, upstream.address()).start();
        drop(connect(xps.address()));
        assert_eq!(seen.recv_timeout(patience()).expect("the upstream sees an end"), Ok(0));
    }

    fn without_an_upstream_the_client_is_closed_at_once(backend) {
        let port = ClosedPort::new();
        let xps = proxy(backend, port.address()).start();
        let since = Instant::now();
        for _ in 0..5 {
            assert!(was_cut(&connect(xps.address())));
        }
        assert!(since.elapsed() < patience() / 3, "five refusals took {:?}", since.elapsed());
        // The upstream comes up: the proxy finds it without being started again.
        let _upstream = Upstream::on(port.listen(), |stream, _| echo(&stream));
        assert_eq!(ask(xps.address(), b"at last"), b"at last");
    }

    fn a_name_is_resolved(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, format!("localhost:{}", upstream.address().port())).start();
        for _ in 0..3 {
            assert_eq!(ask(xps.address(), b"by name"), b"by name");
        }
    }

    fn a_name_that_does_not_resolve_closes_the_client(backend) {
        let xps = proxy(backend, "nobody.invalid:80").start();
        assert!(was_cut(&connect(xps.address())));
        assert!(was_cut(&connect(xps.address())), "the proxy lives on");
    }

    fn an_upstream_that_does_not_answer_is_given_up(backend) {
        let port = ClosedPort::new();
        let address = port.address();
        let listener = port.listen_with_backlog(0);
        let waiting = fill_backlog(address);
        let xps = proxy(backend, address).flags(["--connect-timeout", "300ms"]).start();
        let since = Instant::now();
        assert!(was_cut(&connect(xps.address())));
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(250), "given up after {took:?} already");
        // The kernel alone would try for two minutes.
        assert!(took < patience(), "given up after {took:?} only");
        drop(waiting);
        let _upstream = Upstream::on(listener, |stream, _| echo(&stream));
        // The kernel may still drop the first attempts, and tries each again only after a second.
        let since = Instant::now();
        while ask(xps.address(), b"room again") != b"room again" {
            assert!(since.elapsed() < patience(), "the upstream has room, and is not reached");
        }
    }

    fn without_descriptors_connections_live_on_and_afterwards_new_ones_are_relayed(backend) {
        const NAME: &str = "without_descriptors_connections_live_on_and_afterwards_new_ones_are_relayed";
        if require_program(NAME, "prlimit", "util-linux").is_none() {
            return;
        }
        let upstreams = [Upstream::echo(), Upstream::echo()];
        let xps = proxy(backend, upstreams[0].address())
            .flag("--upstream")
            .flag(upstreams[1].address())
            .flags(["--workers", "1"])
            .start();
        let old = connect(xps.address());
        ping(&old, b"before");
        // Room for a client, and none for its upstream.
        allow_more_descriptors(xps.pid(), 1);
        for _ in 0..10 {
            assert!(was_cut(&connect(xps.address())));
            ping(&old, b"meanwhile");
        }
        allow_more_descriptors(xps.pid(), 100);
        let new = [(); 2].map(|()| connect(xps.address()));
        new.iter().for_each(|stream| ping(stream, b"afterwards"));
        assert_eq!(xps.log().records().iter().filter(|record| record.message().contains("upstream down")).count(), 0);
    }

    fn a_silent_connection_is_closed_after_the_idle_timeout(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).flags(["--idle-timeout", "300ms"]).start();
        let stream = connect(xps.address());
        ping(&stream, b"alive");
        let since = Instant::now();
        assert!(was_cut(&stream));
        assert!(since.elapsed() >= Duration::from_millis(200), "closed after {:?}", since.elapsed());
        ping(&connect(xps.address()), b"the next one");
    }

    fn a_connection_that_speaks_now_and_then_is_not_idle(backend) {
        let upstream = Upstream::echo();
        let xps = proxy(backend, upstream.address()).flags(["--idle-timeout", "1500ms"]).start();
        let stream = connect(xps.address());
        for _ in 0..12 {
            ping(&stream, b"still here");
            // The pause is the subject: together they are longer than the time-out, each is shorter.
            std::thread::sleep(Duration::from_millis(200));
        }
        ping(&stream, b"and still");
    }
}

fn upstream_breaks_off(backend: Backend) {
    const SENT: usize = 300_000;
    let upstream = Upstream::new(|mut stream, number| match number {
        0 => {
            stream.write_all(&Content::bytes(7, SENT)).expect("the client reads");
            // Waits until the client has it all, for a reset overtakes bytes.
            stream.read_exact(&mut [0]).expect("the client says so");
            reset(stream);
        }
        _ => echo(&stream),
    });
    let xps = proxy(backend, upstream.address()).start();
    let mut stream = connect(xps.address());
    let mut received = vec![0; SENT];
    stream.read_exact(&mut received).expect("what was sent before the fault");
    Content::new(7).expect(&received);
    stream.write_all(b"!").expect("the connection stands");
    let (rest, _reset_or_end) = read_until_cut(&stream);
    assert_eq!(rest, b"", "nothing was invented");
    assert_eq!(ask(xps.address(), b"the proxy lives on"), b"the proxy lives on");
}

/// A port where only `open` listens, while `refusing`, with the same number, refuses.
fn port_of_one_family(open: &str, refusing: &str) -> Option<(TcpListener, ClosedPort)> {
    for _ in 0..20 {
        let port = ClosedPort::at(format!("{open}:0").parse().expect("an address")).ok()?;
        let refusing = format!("{refusing}:{}", port.address().port()).parse().expect("an address");
        if let Ok(refusing) = ClosedPort::at(refusing) {
            return Some((port.listen(), refusing));
        }
    }
    None
}

mod dual_stack {
    //! A name with two addresses, of which one answers.

    use super::*;
    use crate::support::hosts::Hosts;
    use crate::support::skip;

    backends! {
        fn the_next_address_is_tried_when_ipv6_refuses(backend) {
            one_family("the_next_address_is_tried_when_ipv6_refuses", backend, "127.0.0.1", "[::1]");
        }

        fn the_next_address_is_tried_when_ipv4_refuses(backend) {
            one_family("the_next_address_is_tried_when_ipv4_refuses", backend, "[::1]", "127.0.0.1");
        }
    }

    /// Gives the program a hosts file of its own, in a mount namespace.
    fn one_family(test: &str, backend: Backend, open: &str, refusing: &str) {
        let Some((listener, _refusing)) = port_of_one_family(open, refusing) else {
            return skip(test, "this machine lacks ::1 or 127.0.0.1");
        };
        let hosts = Hosts::new("127.0.0.1 dual.test\n::1 dual.test\n");
        if let Some(why) = hosts.obstacle("dual.test", &["127.0.0.1", "::1"]) {
            return skip(test, why);
        }
        let name = format!("dual.test:{}", listener.local_addr().expect("it has an address").port());
        let _upstream = Upstream::on(listener, |stream, _| echo(&stream));
        let xps = proxy(backend, name).through(hosts.namespace()).start();
        for _ in 0..3 {
            assert_eq!(ask(xps.address(), b"either will do"), b"either will do");
        }
    }
}
