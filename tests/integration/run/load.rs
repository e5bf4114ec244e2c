//! Clients that ask without pause while something is done to the server, and for whom nothing may go wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::support::environment::report;
use crate::wire::{Response, Wire};

/// Clients that keep their connections, and clients that open one for each request.
const KEEPING: usize = 4;
const OPENING: usize = 2;

/// How many requests are made in all: `XPS_LOAD_REQUESTS`, or enough to meet most races within seconds.
fn wanted() -> u64 {
    let wanted =
        std::env::var("XPS_LOAD_REQUESTS").map(|number| number.parse().expect("XPS_LOAD_REQUESTS is a number"));
    wanted.unwrap_or(4_000)
}

/// A target, and the bodies that its answer may have.
pub type Page = (&'static str, [Vec<u8>; 2]);

/// Asks for these pages until the requests are made and `disturb` has been called so many `times` at least. Every connection
/// must come about, and every answer be whole and one of the two; no request is ever made twice.
#[track_caller]
pub fn withstands(what: &str, address: SocketAddr, pages: &[Page], times: usize, mut disturb: impl FnMut(usize)) {
    let load = Load { address, pages, answered: AtomicU64::new(0), is_over: AtomicBool::new(false) };
    let since = Instant::now();
    let mut disturbances = 0;
    std::thread::scope(|scope| {
        let _end = End(&load.is_over);
        let clients: Vec<_> = (0..KEEPING + OPENING)
            .map(|number| {
                scope.spawn({
                    let load = &load;
                    move || if number < KEEPING { load.keep() } else { load.open() }
                })
            })
            .collect();
        while disturbances < times || load.answered.load(Ordering::Relaxed) < wanted() {
            disturb(disturbances);
            disturbances += 1;
            if clients.iter().any(|client| client.is_finished()) {
                // It has panicked, and the scope will say so.
                break;
            }
        }
    });
    let answered = load.answered.into_inner();
    report(&format!("{what}: {answered} requests, {disturbances} times, {:?}, 0 failed", since.elapsed()));
}

/// Ends the load, also when a disturbance fails.
struct End<'l>(&'l AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Load<'p> {
    address: SocketAddr,
    pages: &'p [Page],
    answered: AtomicU64,
    is_over: AtomicBool,
}

impl Load<'_> {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// One request after the other on a connection, for as long as the server lets it.
    fn keep(&self) {
        while !self.is_over() {
            let mut wire = Wire::to(self.address);
            for (target, bodies) in self.pages.iter().cycle() {
                wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
                let response = wire.response();
                self.check(target, bodies, &response);
                if response.is_last() {
                    wire.expect_end();
                    break;
                }
                if self.is_over() {
                    break;
                }
            }
        }
    }

    /// A connection for each request.
    fn open(&self) {
        for (target, bodies) in self.pages.iter().cycle() {
            if self.is_over() {
                break;
            }
            let mut wire = Wire::to(self.address);
            wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
            self.check(target, bodies, &wire.response());
            wire.expect_end();
        }
    }

    fn check(&self, target: &str, bodies: &[Vec<u8>], response: &Response) {
        assert_eq!(response.status, 200, "{target}: {response:?}");
        assert!(bodies.contains(&response.body), "{target}: neither of the two: {response:?}");
        self.answered.fetch_add(1, Ordering::Relaxed);
    }
}
