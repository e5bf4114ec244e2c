//! `xps echo`: every byte comes back, in order, whatever the clients do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use crate::support::client::{echo_content, exchange, ping, reset};
use crate::support::environment::{allow_descriptors, bulk};
use crate::support::process::Signal;
use crate::support::{
    Backend, Content, Launch, ask, assert_same_bytes, backends, connect, eventually, patience, read_rest, skip,
};

backends! {
    fn what_is_sent_comes_back(backend) {
        let xps = Launch::echo(backend).start();
        let content = Content::bytes(1, 1_000_003);
        assert_same_bytes(&ask(xps.address(), &content), &content);
    }

    fn each_message_is_answered_at_once(backend) {
        let xps = Launch::echo(backend).start();
        let stream = connect(xps.address());
        stream.set_nodelay(true).expect("TCP has it");
        let mut lengths = Content::new(2);
        for round in 0..500 {
            ping(&stream, &Content::bytes(round, 1 + lengths.below(3000)));
        }
    }

    fn sixty_four_mebibytes_go_both_ways_at_once(backend) {
        let xps = Launch::echo(backend).start();
        echo_content(xps.address(), 3, bulk(64 << 20));
    }

    fn the_answer_goes_on_after_a_half_close(backend) {
        let xps = Launch::echo(backend).start();
        let stream = connect(xps.address());
        assert_same_bytes(&exchange(&stream, b"the last words"), b"the last words");
    }

    fn an_empty_conversation_ends_in_order(backend) {
        let xps = Launch::echo(backend).start();
        let stream = connect(xps.address());
        stream.shutdown(Shutdown::Write).expect("the connection is there");
        assert_eq!(read_rest(&stream), b"");
    }

    fn many_clients_at_once_each_get_their_own(backend) {
        let xps = Launch::echo(backend).start();
        let address = xps.address();
        std::thread::scope(|scope| {
            for client in 0..50 {
                scope.spawn(move || echo_content(address, 100 + client, bulk(512 << 10)));
            }
        });
    }

    fn one_worker_serves_as_well_as_many(backend) {
        for workers in ["1", "4"] {
            let xps = Launch::echo(backend).flags(["--workers", workers]).start();
            let address = xps.address();
            std::thread::scope(|scope| {
                for client in 0..16 {
                    scope.spawn(move || echo_content(address, 200 + client, 100_000));
                }
            });
            xps.finish();
        }
    }

    fn a_thousand_connections_stay_open_together(backend) {
        a_thousand_connections(backend);
    }

    fn both_families_are_served(backend) {
        if TcpListener::bind("[::1]:0").is_err() {
            return skip("both_families_are_served", "this machine has no [::1]");
        }
        let xps = Launch::new(backend, ["echo", "127.0.0.1:0", "[::1]:0"]).listening_on(2).start();
        assert!(xps.addresses().iter().any(|address| address.is_ipv6()));
        for address in xps.addresses() {
            let content = Content::bytes(u64::from(address.port()), 100_000);
            assert_same_bytes(&ask(*address, &content), &content);
        }
    }

    fn a_client_that_breaks_off_harms_nobody(backend) {
        let xps = Launch::echo(backend).start();
        let bystander = connect(xps.address());
        ping(&bystander, b"before");
        for _ in 0..20 {
            let stream = connect(xps.address());
            std::io::Write::write_all(&mut &stream, &Content::bytes(4, 100_000)).expect("the server takes it");
            reset(stream);
        }
        ping(&bystander, b"after");
    }

    fn the_end_of_a_connection_is_logged_with_its_bytes(backend) {
        let xps = Launch::echo(backend).start();
        let stream = connect(xps.address());
        let client = stream.local_addr().expect("a connected socket has an address").to_string();
        assert_eq!(exchange(&stream, b"twelve bytes").len(), 12);
        drop(stream);
        let record = xps.log().wait_for("the end of the connection", |record| {
            record.message() == "connection ended" && record.text("peer") == Some(&client)
        });
        assert_eq!(record.level(), "INFO", "{record}");
        assert_eq!(record.text("service"), Some("echo"), "{record}");
        assert_eq!(record.number("received"), Some(12), "{record}");
        assert_eq!(record.number("sent"), Some(12), "{record}");
        assert!(record.number("duration_ms").is_some_and(|time| u128::from(time) <= patience().as_millis()), "{record}");
        assert_eq!(record.text("close_reason"), Some("done"), "{record}");
        assert_eq!(record.text("cause"), None, "{record}");
    }

    fn what_came_while_the_process_was_stopped_keeps_a_connection_alive(backend) {
        let xps = Launch::echo(backend).flags(["--idle-timeout", "1s"]).start();
        let mut streams: Vec<_> = (0..8).map(|_| connect(xps.address())).collect();
        streams.iter().for_each(|stream| ping(stream, b"before"));
        xps.signal(Signal::Stop);
        streams.iter_mut().for_each(|stream| stream.write_all(b"meanwhile").expect("the socket has room"));
        std::thread::sleep(Duration::from_millis(1500));
        xps.signal(Signal::Continue);
        for stream in &mut streams {
            let mut bytes = [0; 9];
            stream.read_exact(&mut bytes).expect("the connection is served");
            assert_eq!(&bytes, b"meanwhile");
        }
    }

    fn a_silent_connection_is_closed_after_the_idle_timeout(backend) {
        let xps = Launch::echo(backend).flags(["--idle-timeout", "300ms"]).start();
        let stream = connect(xps.address());
        ping(&stream, b"alive");
        let since = std::time::Instant::now();
        assert!(crate::support::was_cut(&stream));
        // The last byte may have passed the server a little before it was seen here.
        assert!(since.elapsed().as_millis() >= 200, "closed after {:?}", since.elapsed());
    }
}

fn a_thousand_connections(backend: Backend) {
    const CONNECTIONS: u64 = 1000;
    if !allow_descriptors(3 * CONNECTIONS) {
        return skip("a_thousand_connections_stay_open_together", "too few descriptors are allowed");
    }
    let xps = Launch::echo(backend).start();
    ping(&connect(xps.address()), b"warm");
    let idle = xps.usage().descriptors;
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(xps.address())).collect();
    // All send before any reads: every connection is under way at the same time.
    for (number, mut stream) in streams.iter().enumerate() {
        let message = Content::bytes(number as u64, 1000);
        std::io::Write::write_all(&mut stream, &message).expect("the server takes the message");
    }
    for (number, stream) in streams.iter().enumerate().rev() {
        let mut answer = [0; 1000];
        let mut source = stream;
        std::io::Read::read_exact(&mut source, &mut answer).expect("an answer");
        Content::new(number as u64).expect(&answer);
    }
    assert!(xps.usage().descriptors >= idle.saturating_sub(1) + streams.len(), "all are open at once");
    streams.clear();
    eventually("every descriptor is closed again", || xps.usage().descriptors <= idle);
}
