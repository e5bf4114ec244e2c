//! A reload in the middle of a look-up: the request that waits was within the limits of when it came.

use std::net::SocketAddr;
use std::time::Duration;

use xps::internals::config::Limits;
use xps::internals::core::{Core, ListenerId, LiveCounts};
use xps::internals::driver::Driver;
use xps::internals::driver::sim::{Faults, Sim, Step};

use crate::run::files;
use crate::scenario::FileCase;

const TURNS_MAX: usize = 10_000;

#[test]
fn limits_that_are_lowered_during_a_look_up_are_those_of_the_next_request() {
    for seed in 0..20 {
        let mut sim = Sim::new(seed, Faults::none());
        let content = FileCase::Small.bytes();
        sim.file("folder/small", content.clone());
        let mut core = Core::new(Limits::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        core.add_listener(ListenerId(0), sim.listener(address), files().into());
        let request = format!("GET /folder/small HTTP/1.1\r\nHost: sim\r\nA: {}\r\n\r\n", "x".repeat(1000));
        let steps = vec![Step::Send(request.repeat(2).into_bytes()), Step::ReadUntilEof];
        let peer = sim.client(address, Duration::ZERO, steps);
        let mut done = Vec::new();
        let (mut has_reloaded, mut is_draining) = (false, false);
        for _ in 0..TURNS_MAX {
            let now = sim.now();
            // Not answered, and with an exchange: it waits for the store.
            if core.live_counts().exchanges == 1 && !has_reloaded {
                assert!(sim.peer(peer).received().is_empty(), "seed {seed}");
                has_reloaded = true;
                let mut limits = Limits::default();
                limits.http.head.head_bytes_max = 500;
                core.set_limits(limits);
            }
            if sim.peers_are_done() && !is_draining {
                is_draining = true;
                core.drain(now, None);
            }
            if core.is_finished() {
                break;
            }
            let wait = core.wait(now);
            let turn = sim.turn(core.ops(), wait, &mut done).expect("the simulation never fails");
            core.on_turn(turn.now, &mut done);
        }
        assert!(has_reloaded && core.live_counts() == LiveCounts::default(), "seed {seed}: {:?}", core.live_counts());
        let received = sim.peer(peer).received();
        let second = received.windows(content.len()).position(|bytes| bytes == content).expect("the file");
        assert!(received.starts_with(b"HTTP/1.1 200 "), "seed {seed}");
        assert!(received[second + content.len()..].starts_with(b"HTTP/1.1 431 "), "seed {seed}");
    }
}
