//! Too few descriptors for connections to upstreams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http_proxy::gateway::{GET, Gateway, assert_ok};
use crate::origin::Visit;
use crate::support::environment::require_program;
use crate::support::process::allow_more_descriptors;
use crate::support::{Upstream, backends, eventually};

/// An upstream that answers each connection's first request and ends it, and how many it has answered.
fn counted() -> (Upstream, Arc<AtomicUsize>) {
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let upstream = Upstream::new(move |stream, _| {
        let mut visit = Visit::new(stream);
        if visit.try_request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            visit.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (upstream, served)
}

backends! {
    fn row_73_without_descriptors_it_answers_503_blames_no_upstream_and_recovers(backend) {
        const NAME: &str = "row_73_without_descriptors_it_answers_503_blames_no_upstream_and_recovers";
        if require_program(NAME, "prlimit", "util-linux").is_none() {
            return;
        }
        let members = [counted(), counted()];
        let gateway = Gateway::of(backend, &[members[0].0.address(), members[1].0.address()], &[]);
        let mut busy = gateway.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo");
        let mut wire = gateway.send(GET);
        assert_ok(&wire.response());
        eventually("one connection to an upstream is in use", || gateway.connections() == 3);
        allow_more_descriptors(gateway.xps.pid(), 0);
        // More than the failures in a row that would take both upstreams down.
        for _ in 0..10 {
            wire.send(GET);
            let response = wire.response();
            assert!(response.status == 503 && !response.is_last(), "{response:?}");
        }
        // What was under way goes on, and who comes now waits, or hears the same.
        let mut late = gateway.send(GET);
        busy.send("dy");
        assert_ok(&busy.response());
        allow_more_descriptors(gateway.xps.pid(), 100);
        let before = members.each_ref().map(|(_, served)| served.load(Ordering::SeqCst));
        for _ in 0..6 {
            wire.send(GET);
            assert_ok(&wire.response());
        }
        let after = members.each_ref().map(|(_, served)| served.load(Ordering::SeqCst));
        assert!(matches!(late.response().status, 200 | 503));
        assert!((0..2).all(|index| after[index] > before[index]), "one was left alone: {before:?}, {after:?}");
    }
}
