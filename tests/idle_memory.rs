//! An idle connection holds no buffer: the memory that many of them cost is measured from outside.
//!
//! `XPS_IDLE_CONNECTIONS=10000` opens so many instead of 2,000.

mod support;

use std::sync::{Mutex, PoisonError};

use support::client::ping;
use support::environment::{allow_descriptors, report};
use support::{Backend, Launch, backends, connect, is_wrapped, skip};

backends! {
    fn an_idle_connection_costs_little_memory(backend) {
        if is_wrapped() {
            return skip("an_idle_connection_costs_little_memory", "a wrapper's memory is in the way");
        }
        measure(backend);
    }
}

/// One measurement at a time: the connections of all count against this process's descriptors.
static TURN: Mutex<()> = Mutex::new(());

fn measure(backend: Backend) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let connections = std::env::var("XPS_IDLE_CONNECTIONS")
        .map_or(2000, |number| number.parse::<u64>().expect("XPS_IDLE_CONNECTIONS is a number"));
    // The server, too, inherits what is allowed here.
    if !allow_descriptors(connections + 200) {
        return skip("an_idle_connection_costs_little_memory", "too few descriptors are allowed");
    }
    let xps = Launch::echo(backend).flags(["--workers", "1"]).start();
    // What is made at first need, and buffers for a burst, are not the connections' doing.
    let warm: Vec<_> = (0..100).map(|_| connect(xps.address())).collect();
    warm.iter().for_each(|stream| ping(stream, &[7; 10_000]));
    drop(warm);
    let before = xps.usage().rss_bytes;
    let streams: Vec<_> = (0..connections)
        .map(|_| {
            let stream = connect(xps.address());
            // Each has been used, so each has given its buffers back.
            ping(&stream, b"now idle");
            stream
        })
        .collect();
    let each = xps.usage().rss_bytes.saturating_sub(before) / connections;
    report(&format!("{connections} idle connections over {backend:?}: {each} bytes of user memory each"));
    assert!(each <= BYTES_MAX, "{each} bytes each, {BYTES_MAX} at most");
    streams.iter().step_by(100).for_each(|stream| ping(stream, b"and awake again"));
}

/// The aim is 1 KiB; a debug build carries checks along.
const BYTES_MAX: u64 = if cfg!(debug_assertions) { 2048 } else { 1024 };
