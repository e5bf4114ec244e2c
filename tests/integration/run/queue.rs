//! The queue before an upstream that has all the requests it may have: who is served when, and who is not; and what an
//! operator who sets an endpoint does to those who wait.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::operated::done;
use crate::origin::{Origin, Visit};
use crate::place::{Place, Service, routes};
use crate::support::client::{flood, reset};
use crate::support::{Backend, Content, Upstream, backends};
use crate::wire::Wire;

/// A proxy of one worker before an upstream that may have one request at a time.
struct Narrow {
    origin: Origin,
    place: Place,
    service: Service,
}

impl Narrow {
    #[track_caller]
    fn new(backend: Backend, queue: &Value) -> Self {
        Self::beside(backend, queue, &[])
    }

    /// With these other upstreams in its group.
    #[track_caller]
    fn beside(backend: Backend, queue: &Value, others: &[&Origin]) -> Self {
        let origin = Origin::new();
        let place = Place::new(backend);
        let upstreams: Vec<Value> = ([&origin].into_iter().chain(others.iter().copied()))
            .map(|origin| json!({ "address": origin.address().to_string(), "max_connections": 1 }))
            .collect();
        let server = routes(
            "127.0.0.1",
            json!([
                { "req_path": "/", "type": "reverse_proxy", "upstreams": upstreams, "queue": queue },
                { "req_path": "/metrics", "type": "metrics" },
            ]),
        );
        place.configure_with([server], |document| {
            document["workers"] = json!(1);
            document["admin"] = json!({ "unix": "admin.sock" });
        });
        let service = place.start();
        Self { origin, place, service }
    }

    /// The log says why a request was refused.
    #[track_caller]
    fn expect_warning(&self, reason: &str) {
        self.service.first.log().wait_for(reason, |record| {
            record.level() == "WARN"
                && record.message() == "upstream request failed"
                && record.number("status") == Some(503)
                && record.text("cause").is_some_and(|text| text.contains(reason))
        });
    }

    /// A client whose connection is known to be accepted.
    #[track_caller]
    fn client(&self) -> Wire {
        let mut wire = Wire::to(self.service.address());
        wire.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.response().status, 200);
        wire
    }

    /// Asks for this, and returns when the proxy has seen that: what comes later on another connection is read later.
    #[track_caller]
    fn ask(&self, wire: &mut Wire, targets: &[&str]) {
        let requests: Vec<String> =
            targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
        wire.send(requests.concat());
        self.client();
    }

    /// A client that has asked for this.
    #[track_caller]
    fn asking(&self, targets: &[&str]) -> Wire {
        let mut wire = self.client();
        self.ask(&mut wire, targets);
        wire
    }
}

/// Reads the next request, which must be for this, and answers it with its target.
#[track_caller]
fn serve(visit: &mut Visit, target: &str) {
    let request = visit.request();
    assert_eq!(request.line(), format!("GET {target} HTTP/1.1"));
    visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
}

/// The same, on a connection that carries no further request.
#[track_caller]
fn serve_last(mut visit: Visit, target: &str) {
    let request = visit.request();
    assert_eq!(request.line(), format!("GET {target} HTTP/1.1"));
    let length = target.len();
    visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{target}"));
}

#[track_caller]
fn expect(wire: &mut Wire, target: &str) {
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, target));
}

backends! {
    fn an_endpoint_that_is_set_up_takes_who_waits(backend) {
        let other = Origin::new();
        let narrow = Narrow::beside(backend, &json!({}), &[&other]);
        let name = other.address().to_string();
        for command in ["up", "auto"] {
            done(&narrow.place, &["down", &name]);
            let mut first = narrow.asking(&["/first"]);
            let busy = narrow.origin.visit();
            let mut second = narrow.asking(&["/second"]);
            other.expect_no_visit();
            done(&narrow.place, &[command, &name]);
            serve_last(other.visit(), "/second");
            expect(&mut second, "/second");
            serve_last(busy, "/first");
            expect(&mut first, "/first");
        }
    }

    fn who_waits_hears_503_at_once_if_the_only_endpoint_is_set_down_or_drained(backend) {
        // The queue's own timeout would end the test much later.
        let narrow = Narrow::new(backend, &json!({ "timeout": "1h" }));
        let name = narrow.origin.address().to_string();
        for command in ["down", "drain"] {
            let mut first = narrow.asking(&["/first"]);
            let busy = narrow.origin.visit();
            let mut second = narrow.asking(&["/second"]);
            done(&narrow.place, &[command, &name]);
            assert_eq!(second.response().status, 503, "{command}");
            // What is in progress there goes on.
            serve_last(busy, "/first");
            expect(&mut first, "/first");
            done(&narrow.place, &["auto", &name]);
        }
        let mut third = narrow.asking(&["/third"]);
        serve_last(narrow.origin.visit(), "/third");
        expect(&mut third, "/third");
    }

    fn those_who_wait_are_served_as_they_came_one_at_a_time(backend) {
        let narrow = Narrow::new(backend, &json!({}));
        let mut wires: Vec<Wire> = ["/0", "/1", "/2", "/3"].iter().map(|target| narrow.asking(&[target])).collect();
        let mut visit = narrow.origin.visit();
        for (wire, target) in wires.iter_mut().zip(["/0", "/1", "/2", "/3"]) {
            serve(&mut visit, target);
            expect(wire, target);
        }
        assert!(visit.is_silent());
        narrow.origin.expect_no_visit();
    }

    fn who_pipelines_does_not_overtake_those_who_wait(backend) {
        let narrow = Narrow::new(backend, &json!({}));
        let mut greedy = narrow.asking(&["/greedy/0", "/greedy/1", "/greedy/2"]);
        let mut first = narrow.asking(&["/first"]);
        let mut second = narrow.asking(&["/second"]);
        let mut visit = narrow.origin.visit();
        for target in ["/greedy/0", "/first", "/second", "/greedy/1", "/greedy/2"] {
            serve(&mut visit, target);
        }
        (0..3).for_each(|number| expect(&mut greedy, &format!("/greedy/{number}")));
        expect(&mut first, "/first");
        expect(&mut second, "/second");
    }

    fn a_full_queue_is_503_at_once(backend) {
        let narrow = Narrow::new(backend, &json!({ "max": 1, "timeout": "0s" }));
        let mut served = narrow.asking(&["/served"]);
        let mut waiting = narrow.asking(&["/waiting"]);
        let mut refused = narrow.asking(&["/refused"]);
        let response = refused.response();
        assert_eq!((response.status, response.is_last()), (503, false), "{response:?}");
        narrow.expect_warning("the queue is full");
        let mut visit = narrow.origin.visit();
        serve(&mut visit, "/served");
        expect(&mut served, "/served");
        narrow.ask(&mut refused, &["/again"]);
        serve(&mut visit, "/waiting");
        expect(&mut waiting, "/waiting");
        serve(&mut visit, "/again");
        expect(&mut refused, "/again");
    }

    fn who_waits_for_too_long_hears_503(backend) {
        let narrow = Narrow::new(backend, &json!({ "timeout": "300ms" }));
        let mut served = narrow.asking(&["/served"]);
        let since = Instant::now();
        let mut waiting = narrow.asking(&["/waiting"]);
        let response = waiting.response();
        assert_eq!((response.status, response.is_last()), (503, false), "{response:?}");
        narrow.expect_warning("busy for too long");
        assert!(since.elapsed() >= Duration::from_millis(300));
        let mut visit = narrow.origin.visit();
        serve(&mut visit, "/served");
        expect(&mut served, "/served");
        narrow.ask(&mut waiting, &["/again"]);
        serve(&mut visit, "/again");
        expect(&mut waiting, "/again");
    }

    /// While a request waits whose body is long, nothing is received, so the client's end is heard late.
    fn who_has_ended_its_side_while_it_waited_has_not_left(backend) {
        let narrow = Narrow::new(backend, &json!({}));
        let mut served = narrow.asking(&["/served"]);
        let mut waiting = narrow.client();
        // Just more than is held back: all of it is received, and then nothing more.
        let body = vec![b'x'; 70_000];
        waiting.send(format!("PUT /waiting HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
        waiting.send(&body);
        narrow.client();
        waiting.stream.shutdown(Shutdown::Write).expect("the connection is still there");
        // Longer than the grace for ending it after the last byte.
        std::thread::sleep(Duration::from_millis(1200));
        let mut visit = narrow.origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\n/served");
        expect(&mut served, "/served");
        // It comes over a connection that has to be made first.
        let mut visit = narrow.origin.visit();
        let request = visit.request();
        assert_eq!((request.line(), request.body.len()), ("PUT /waiting HTTP/1.1", body.len()));
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n/waiting");
        expect(&mut waiting, "/waiting");
    }

    /// Nothing of it is received any more, since its upstream takes nothing.
    fn who_breaks_off_an_upload_that_is_held_up_frees_its_place(backend) {
        let narrow = Narrow::new(backend, &json!({}));
        let mut uploading = narrow.client();
        uploading.send("PUT /held-up HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
        let mut held_up = narrow.origin.visit();
        assert_eq!(held_up.head().line(), "PUT /held-up HTTP/1.1");
        let sent = flood(&uploading.stream, &mut Content::new(12), 100_000_000);
        assert!(sent < 100_000_000);
        let mut waiting = narrow.asking(&["/waiting"]);
        reset(uploading.stream);
        serve(&mut narrow.origin.visit(), "/waiting");
        expect(&mut waiting, "/waiting");
    }

    fn workers_share_what_an_upstream_may_have(backend) {
        let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let upstream = Upstream::new(move |stream, _| {
            let mut visit = Visit::new(stream);
            while let Some(request) = visit.try_request() {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough for others to come meanwhile.
                std::thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
                let body = request.line().to_owned();
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            }
        });
        let place = Place::new(backend);
        let member = json!({ "address": upstream.address().to_string(), "max_connections": 5 });
        let route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": [member] });
        place.configure_with([routes("127.0.0.1", json!([route]))], |document| document["workers"] = json!(2));
        let service = place.start();
        let mut wires: Vec<Wire> = (0..32).map(|_| Wire::to(service.address())).collect();
        for _ in 0..3 {
            wires.iter_mut().for_each(|wire| wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
            wires.iter_mut().for_each(|wire| assert_eq!(wire.response().status, 200));
        }
        let most = seen.load(Ordering::SeqCst);
        assert!((2..=4).contains(&most), "{most} at a time, where each worker may have two");
    }

    fn who_leaves_the_queue_costs_nobody_its_turn(backend) {
        let narrow = Narrow::new(backend, &json!({}));
        let mut served = narrow.asking(&["/served"]);
        let leaving = narrow.asking(&["/leaving"]);
        let mut staying = narrow.asking(&["/staying"]);
        reset(leaving.stream);
        narrow.client();
        let mut visit = narrow.origin.visit();
        serve(&mut visit, "/served");
        expect(&mut served, "/served");
        serve(&mut visit, "/staying");
        expect(&mut staying, "/staying");
        assert!(visit.is_silent());
    }
}
