//! Large responses on a connection do not hold up a small one.

use std::time::{Duration, Instant};

use super::rig::{PAGE, Rig};
use crate::support::environment::report;
use crate::support::h2::client::Connection;
use crate::support::h2::frame::setting;
use crate::support::{Content, backends, is_wrapped};

/// On loopback. In a debug build everything takes many times longer, and the client of the tests copies what it reads.
const LATENCY_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 10 });

const LARGE_BYTES: usize = 1 << 20;

backends! {
    fn a_small_response_passes_a_hundred_large_ones(backend) {
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(1, LARGE_BYTES));
        let window = 2 * LARGE_BYTES as u32;
        let mut latencies = Vec::new();
        for _ in 0..5 {
            let mut connection = Connection::with_settings(rig.address(), &[(setting::INITIAL_WINDOW_SIZE, window)]);
            connection.grant(0, 128 << 20);
            let large: Vec<u32> = (0..99).map(|_| connection.get("/files/large")).collect();
            // It is under way.
            connection.read_until("some of it", |connection| large.iter().all(|stream| !connection.seen(*stream).body.is_empty()));
            let since = Instant::now();
            let small = connection.get("/files/page");
            assert_eq!(connection.response(small).text(), PAGE);
            latencies.push(since.elapsed());
            assert!(large.iter().any(|stream| !connection.is_over(*stream)), "the large ones are over already");
            for stream in large {
                assert_eq!(connection.response(stream).body.len(), LARGE_BYTES);
            }
        }
        latencies.sort();
        report(&format!("a small response beside 99 of 1 MiB over {backend:?}: {latencies:?}"));
        assert!(is_wrapped() || latencies[2] < LATENCY_MAX, "{latencies:?}");
    }

    fn an_urgent_response_comes_before_others(backend) {
        let rig = Rig::new(backend);
        rig.write("large", Content::bytes(1, LARGE_BYTES));
        let window = 2 * LARGE_BYTES as u32;
        let mut connection = Connection::with_settings(rig.address(), &[(setting::INITIAL_WINDOW_SIZE, window)]);
        // Nothing is sent before all are known.
        connection.hold_windows();
        let others: Vec<u32> = (0..5).map(|_| connection.request("GET", "/files/large", &[("priority", "u=5")])).collect();
        let urgent = connection.request("GET", "/files/large", &[("priority", "u=1")]);
        let moved = others[3];
        connection.send_frame(&crate::support::h2::frame::Frame::priority_update(moved, "u=0"));
        connection.ping().expect("the connection goes on");
        connection.grant(0, 16 << 20);
        connection.read_until("the most urgent one", |connection| connection.is_over(moved));
        assert!(!connection.is_over(urgent) && others.iter().filter(|stream| connection.is_over(**stream)).count() == 1);
        connection.read_until("the urgent one", |connection| connection.is_over(urgent));
        assert_eq!(others.iter().filter(|stream| connection.is_over(**stream)).count(), 1);
        for stream in others {
            assert_eq!(connection.response(stream).body.len(), LARGE_BYTES);
        }
    }
}
