//! Upstreams that are killed, fall ill and come back: who gets requests when, and what clients notice of it, which is nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::origin::Visit;
use crate::place::{Place, Service, routes};
use crate::run::endpoint::{Endpoint, HEALTH};
use crate::run::load::withstands;
use crate::support::environment::require_program;
use crate::support::process::allow_more_descriptors;
use crate::support::{Backend, Upstream, backends, eventually};
use crate::wire::Wire;

const HERE: &str = "127.0.0.1";
const PAGE: &str = "the page";

/// A proxy before these, found well or not as `health_check` says; `/metrics` tells.
fn start(backend: Backend, endpoints: &[Endpoint], health_check: &Value, workers: usize) -> (Place, Service) {
    let place = Place::new(backend);
    let upstreams: Vec<Value> = endpoints.iter().map(Endpoint::to_json).collect();
    let server = routes(
        HERE,
        json!([
            { "req_path": "/", "type": "reverse_proxy", "upstreams": upstreams, "health_check": health_check },
            { "req_path": "/metrics", "type": "metrics" },
        ]),
    );
    place.configure_with([server], |document| document["workers"] = json!(workers));
    let service = place.start();
    (place, service)
}

/// Quick ones.
fn active(kind: &str) -> Value {
    let mut check = json!({ "type": kind, "interval": "20ms", "rise": 2, "fall": 2 });
    if kind == "http" {
        check["path"] = json!(HEALTH);
    }
    check
}

/// One request.
#[track_caller]
fn ask(service: &Service) {
    let mut wire = Wire::to(service.address());
    wire.send("GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let response = wire.response();
    assert_eq!((response.status, response.text().as_str()), (200, PAGE));
}

/// How many requests of so many a member gets.
#[track_caller]
fn share(service: &Service, endpoint: &Endpoint, requests: u64) -> u64 {
    let before = endpoint.served();
    for _ in 0..requests {
        ask(service);
    }
    endpoint.served() - before
}

/// A figure of the metrics page.
#[track_caller]
fn metric(service: &Service, name: &str) -> u64 {
    metric_over(&mut Wire::to(service.address()), name)
}

/// The same, over a connection that is there.
#[track_caller]
fn metric_over(wire: &mut Wire, name: &str) -> u64 {
    let text = metrics_text(wire);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::parse);
    value.unwrap_or_else(|| panic!("no {name} in {text}")).expect("a number")
}

#[track_caller]
fn metrics_text(wire: &mut Wire) -> String {
    wire.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    wire.response().text()
}

/// The figures of the samples that begin and end like this.
fn figures<'t>(text: &'t str, begin: &'t str, end: &'t str) -> impl Iterator<Item = u64> + 't {
    let lines = text.lines().filter(move |line| line.starts_with(begin));
    lines.filter_map(move |line| line.rsplit_once(end)).filter_map(|(_, figure)| figure.parse().ok())
}

/// An upstream that answers one request on each connection with the page, or ends it without an answer.
struct Moody {
    server: Upstream,
    is_failing: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Moody {
    fn new() -> Self {
        let (is_failing, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (fails, count) = (Arc::clone(&is_failing), Arc::clone(&connections));
        let server = Upstream::new(move |stream, _| {
            let mut visit = Visit::new(stream);
            if visit.try_request().is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                if !fails.load(Ordering::SeqCst) {
                    let head =
                        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", PAGE.len());
                    visit.send(head + PAGE);
                }
            }
        });
        Self { server, is_failing, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

const UP: &str = "xps_upstreams{state=\"up\"}";
const DOWN: &str = "xps_upstreams{state=\"down\"}";
const FAILED: &str = "xps_health_checks_total{result=\"failed\"}";
const PASSED: &str = "xps_health_checks_total{result=\"passed\"}";

backends! {
    fn under_load_nobody_notices_that_upstreams_are_killed_and_revived(backend) {
        let mut endpoints = [PAGE; 3].map(Endpoint::new);
        let health_check = json!({ "active": active("tcp"), "passive": { "backoff": "20ms", "slow_start": "100ms" } });
        let (_place, service) = start(backend, &endpoints, &health_check, 2);
        let pages = [("/page", [PAGE.into(), PAGE.into()])];
        let total = |endpoints: &[Endpoint]| endpoints.iter().map(Endpoint::served).sum::<u64>();
        let what = format!("one of three upstreams killed and revived over {backend:?}");
        withstands(&what, service.address(), &pages, 4, |number| {
            let victim = number % endpoints.len();
            endpoints[victim].kill();
            let before = total(&endpoints);
            eventually("the others serve", || total(&endpoints) > before + 100);
            endpoints[victim].revive();
            let mut last = (endpoints[victim].served(), total(&endpoints));
            eventually("a fair share of the load again, or nearly", || {
                let now = (endpoints[victim].served(), total(&endpoints));
                if now.1 - last.1 < 100 {
                    std::thread::yield_now();
                    return false;
                }
                let (mine, all) = (now.0 - last.0, now.1 - last.1);
                last = now;
                mine * 4 >= all
            });
        });
    }

    fn one_that_says_it_is_unwell_gets_nothing_until_it_is_well_again(backend) {
        let endpoints = [PAGE; 2].map(Endpoint::new);
        let health_check = json!({ "active": active("http"), "passive": { "slow_start": "0s" } });
        let (_place, service) = start(backend, &endpoints, &health_check, 2);
        assert!(share(&service, &endpoints[0], 40) >= 10);
        endpoints[0].set_unwell(true);
        // One worker finds it out, and the other one knows at the same time.
        eventually("it is down", || metric(&service, DOWN) == 1);
        assert_eq!(share(&service, &endpoints[0], 20), 0);
        endpoints[0].set_unwell(false);
        eventually("it is well", || metric(&service, UP) == 2);
        assert!(share(&service, &endpoints[0], 40) >= 10);
        assert!(metric(&service, FAILED) >= 2);
    }

    fn four_workers_make_one_check_and_one_record(backend) {
        let endpoints = [PAGE; 3].map(Endpoint::new);
        let mut active = active("http");
        active["interval"] = json!("100ms");
        let health_check = json!({ "active": active, "passive": { "slow_start": "0s" } });
        let since = Instant::now();
        let (_place, service) = start(backend, &endpoints, &health_check, 4);
        eventually("each is checked ten times", || endpoints.iter().all(|endpoint| endpoint.checked() >= 10));
        let most = since.elapsed().as_millis() as u64 / 90 + 1;
        for endpoint in &endpoints {
            let checked = endpoint.checked();
            // Each interval is shorter by up to a tenth. The last check is not timed.
            assert!(checked <= most + 1, "{checked} checks, of at most {most}");
        }
        let (passed, checked) = (metric(&service, PASSED), endpoints.iter().map(Endpoint::checked).sum::<u64>());
        assert!(passed <= checked + 3 && checked <= passed + 6, "{passed} are counted of {checked}");
        endpoints[0].set_unwell(true);
        eventually("it is down", || metric(&service, DOWN) == 1);
        assert_eq!((metric(&service, UP), share(&service, &endpoints[0], 40)), (2, 0));
        endpoints[0].set_unwell(false);
        eventually("it is up", || metric(&service, UP) == 3);
        assert!(share(&service, &endpoints[0], 60) > 0);
        for message in ["upstream down: its checks fail", "upstream up: its checks pass"] {
            eventually(message, || service.count(message) >= 1);
            assert_eq!(service.count(message), 1, "{message}");
        }
    }

    fn routes_with_the_same_check_share_it(backend) {
        let endpoints = [PAGE; 1].map(Endpoint::new);
        let place = Place::new(backend);
        let mut check = active("http");
        check["interval"] = json!("100ms");
        let route = |path: &str| json!({
            "req_path": path, "type": "reverse_proxy", "upstreams": [endpoints[0].to_json()],
            "health_check": { "active": &check },
        });
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        place.configure([routes(HERE, json!([route("/"), route("/a"), route("/b"), metrics]))]);
        let service = place.start();
        let (since, before) = (Instant::now(), endpoints[0].checked());
        eventually("it is checked ten times", || endpoints[0].checked() >= before + 10);
        let (checked, most) = (endpoints[0].checked() - before, since.elapsed().as_millis() as u64 / 90 + 2);
        assert!(checked <= most, "{checked} checks, of at most {most}");
        endpoints[0].set_unwell(true);
        eventually("it is down", || metric(&service, DOWN) == 1);
        for path in ["/page", "/a/page", "/b/page"] {
            let mut wire = Wire::to(service.address());
            wire.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(wire.response().status, 503, "{path}");
        }
        // Of the three groups, one counts it.
        eventually("its checks are counted once", || {
            let text = metrics_text(&mut Wire::to(service.address()));
            let of_groups: Vec<u64> = figures(&text, "xps_upstream_checks_total{", "result=\"failed\"} ").collect();
            let all: u64 = figures(&text, FAILED, " ").sum();
            of_groups.len() == 3 && of_groups.iter().filter(|count| **count > 0).count() == 1 && of_groups.iter().sum::<u64>() == all
        });
    }

    fn a_reload_keeps_what_checks_have_found(backend) {
        let endpoints = [PAGE; 2].map(Endpoint::new);
        let mut check = active("http");
        check["interval"] = json!("100ms");
        let place = Place::new(backend);
        let configure = |paths: &[&str]| {
            let upstreams: Vec<Value> = endpoints.iter().map(Endpoint::to_json).collect();
            let mut all = vec![json!({ "req_path": "/metrics", "type": "metrics" })];
            all.extend(paths.iter().map(|path| json!({
                "req_path": path, "type": "reverse_proxy", "upstreams": upstreams, "health_check": { "active": check },
            })));
            place.configure_with([routes(HERE, json!(all))], |document| document["workers"] = json!(3));
        };
        configure(&["/"]);
        let service = place.start();
        endpoints[0].set_unwell(true);
        eventually("it is down", || metric(&service, DOWN) == 1);
        for paths in [&["/", "/a"][..], &["/"], &["/b", "/"]] {
            configure(paths);
            service.reload();
            let checked = endpoints[0].checked();
            assert_eq!(share(&service, &endpoints[0], 20), 0);
            eventually("it is checked again", || endpoints[0].checked() >= checked + 3);
            assert_eq!(metric(&service, DOWN), 1);
        }
        assert_eq!(service.count("upstream down: its checks fail"), 1);
        assert_eq!(service.count("upstream up: its checks pass"), 0);
    }

    fn one_that_serves_only_its_own_host_is_checked_by_that_name(backend) {
        let upstream = Upstream::new(|stream, _| {
            let mut visit = Visit::new(stream);
            while let Some(request) = visit.try_request() {
                let is_check = request.line() == "HEAD /health HTTP/1.1";
                let is_known = request.values("Host") == ["app.example.org"];
                let status = match (is_known, is_check) {
                    (true, true) if request.values("X-Probe") == ["1"] => "204 No Content",
                    (true, false) => "200 OK",
                    (true, true) | (false, _) => "421 Misdirected Request",
                };
                let body = if is_check { "" } else { PAGE };
                let length = if is_check { String::new() } else { format!("Content-Length: {}\r\n", PAGE.len()) };
                visit.send(format!("HTTP/1.1 {status}\r\n{length}\r\n{body}"));
            }
        });
        let address = upstream.address().to_string();
        let serve = |check: Value| {
            let place = Place::new(backend);
            let mut active = active("http");
            active.as_object_mut().expect("an object").extend(check.as_object().expect("an object").clone());
            let route = json!({
                "req_path": "/", "type": "reverse_proxy", "upstreams": [&address], "host": "app.example.org",
                "health_check": { "active": active },
            });
            let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
            place.configure_with([routes(HERE, json!([route, metrics]))], |document| document["workers"] = json!(1));
            let service = place.start();
            (place, service)
        };
        let (_place, service) = serve(json!({ "method": "HEAD" }));
        eventually("it is down", || metric(&service, DOWN) == 1);
        let (_place, service) = serve(json!({
            "method": "HEAD", "host": "app.example.org", "headers": { "X-Probe": "1" }, "status": 204,
        }));
        eventually("checks pass", || metric(&service, PASSED) >= 4);
        assert_eq!((metric(&service, DOWN), metric(&service, FAILED)), (0, 0));
        ask(&service);
        // The reason is in the log.
        let (_place, service) = serve(json!({ "path": "/page", "host": "app.example.org", "body": "another page" }));
        let record = service.first.log().wait_for("a warning", |record| record.message() == "upstream down: its checks fail");
        assert_eq!(record.text("reason"), Some("the expected text is not in the first 64 KiB of the body"));
        let (_place, service) = serve(json!({ "path": "/page", "host": "app.example.org", "body": PAGE }));
        eventually("checks pass", || metric(&service, PASSED) >= 4);
        assert_eq!(metric(&service, FAILED), 0);
    }

    fn one_that_cannot_be_reached_is_found_without_a_request(backend) {
        let mut endpoints = [PAGE; 2].map(Endpoint::new);
        let (_place, service) = start(backend, &endpoints, &json!({ "active": active("tcp") }), 1);
        eventually("checks pass", || metric(&service, PASSED) >= 4);
        assert_eq!((metric(&service, UP), metric(&service, DOWN)), (2, 0));
        endpoints[1].kill();
        eventually("it is known to be down", || metric(&service, DOWN) == 1);
        endpoints[1].revive();
        eventually("it is known to be up", || metric(&service, DOWN) == 0);
    }

    fn a_check_without_a_descriptor_decides_nothing(backend) {
        if require_program("a_check_without_a_descriptor_decides_nothing", "prlimit", "util-linux").is_none() {
            return;
        }
        let endpoints = [PAGE; 2].map(Endpoint::new);
        let (_place, service) = start(backend, &endpoints, &json!({ "active": active("tcp") }), 1);
        let mut wire = Wire::to(service.address());
        eventually("checks pass", || metric_over(&mut wire, PASSED) >= 4);
        allow_more_descriptors(service.first.pid(), 0);
        // Time for ten checks of each.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!((metric_over(&mut wire, UP), metric_over(&mut wire, FAILED)), (2, 0));
        allow_more_descriptors(service.first.pid(), 100);
        let passed = metric_over(&mut wire, PASSED);
        eventually("checks pass again", || metric_over(&mut wire, PASSED) >= passed + 2);
    }

    fn one_that_fails_is_left_alone_for_a_while_and_then_has_its_share(backend) {
        let (victim, other) = (Moody::new(), Moody::new());
        let place = Place::new(backend);
        let upstreams = [&victim, &other].map(|one| one.server.address().to_string());
        let passive = json!({ "failures": 3, "backoff": "1s", "slow_start": "0s" });
        let route = json!({
            "req_path": "/", "type": "reverse_proxy", "upstreams": upstreams, "health_check": { "passive": passive },
        });
        place.configure_with([routes(HERE, json!([route]))], |document| document["workers"] = json!(1));
        let service = place.start();
        victim.is_failing.store(true, Ordering::SeqCst);
        let mut since = Instant::now();
        // Nobody notices: each request is asked of the other one, too.
        while victim.connections() < 3 {
            since = Instant::now();
            ask(&service);
        }
        let connections = victim.connections();
        let mut asked = 0;
        while since.elapsed() < Duration::from_millis(700) {
            ask(&service);
            asked += 1;
        }
        let during = victim.connections() - connections;
        // On a machine that was busy elsewhere the second may be over.
        assert!(during == 0 || since.elapsed() >= Duration::from_secs(1), "{during} of {asked} during its back-off");
        victim.is_failing.store(false, Ordering::SeqCst);
        eventually("it is tried again", || {
            ask(&service);
            victim.connections() > connections
        });
        let before = victim.connections();
        (0..20).for_each(|_| ask(&service));
        assert_eq!(victim.connections() - before, 10, "of 20");
    }

    fn one_client_cannot_take_all_out_by_requests_that_fail(backend) {
        // Each ends the connection where it is asked for something bad, and passes its checks.
        let fatal = || Upstream::new(|stream, _| {
            let mut visit = Visit::new(stream);
            while let Some(request) = visit.try_request() {
                if request.line().contains("/bad") {
                    return;
                }
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len()));
            }
        });
        let upstreams = [fatal(), fatal(), fatal()];
        let addresses: Vec<String> = upstreams.iter().map(|upstream| upstream.address().to_string()).collect();
        let checks = json!({ "active": active("http"), "passive": { "failures": 1, "backoff": "1h" } });
        let place = Place::new(backend);
        let route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": addresses, "health_check": checks });
        let metrics = json!({ "req_path": "/metrics", "type": "metrics" });
        place.configure_with([routes(HERE, json!([route, metrics]))], |document| document["workers"] = json!(1));
        let service = place.start();
        let bad = || {
            let mut wire = Wire::to(service.address());
            wire.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n");
            wire.response().status
        };
        eventually("checks pass", || metric(&service, PASSED) >= 6);
        // It is tried at all three, and counts at one.
        let down = || service.count("upstream down: requests fail");
        for number in 1..=3 {
            assert_eq!(bad(), 502);
            eventually("it is logged which one is down", || down() == number);
        }
        assert_eq!(bad(), 502);
        (0..10).for_each(|_| ask(&service));
        assert_eq!(down(), 3);
        for _ in 0..20 {
            assert_eq!(bad(), 502);
            ask(&service);
        }
        assert_eq!(metric(&service, DOWN), 0, "by the checks");
    }

    fn one_bad_answer_between_good_ones_decides_nothing(backend) {
        let endpoints = [PAGE; 1].map(Endpoint::new);
        let (_place, service) = start(backend, &endpoints, &json!({ "active": active("http") }), 1);
        for _ in 0..5 {
            let failed = metric(&service, FAILED);
            endpoints[0].set_unwell(true);
            let since = endpoints[0].checked();
            eventually("an answer", || endpoints[0].checked() > since);
            endpoints[0].set_unwell(false);
            eventually("a verdict", || metric(&service, FAILED) > failed);
            let since = endpoints[0].checked();
            eventually("good answers", || endpoints[0].checked() > since + 2);
            if metric(&service, FAILED) == failed + 1 {
                assert_eq!(service.count("upstream down: its checks fail"), 0);
                return;
            }
            // A second check came before it was well again. Once more.
        }
        panic!("five times two checks came within a moment");
    }

    fn one_that_comes_back_gets_little_at_first(backend) {
        let endpoints = [PAGE; 2].map(Endpoint::new);
        let health_check = json!({ "active": active("http"), "passive": { "slow_start": "10m" } });
        let (_place, service) = start(backend, &endpoints, &health_check, 1);
        endpoints[0].set_unwell(true);
        eventually("it is down", || metric(&service, DOWN) == 1);
        endpoints[0].set_unwell(false);
        eventually("it is up", || metric(&service, DOWN) == 0);
        let share = share(&service, &endpoints[0], 100);
        // A tenth of its weight: one in eleven.
        assert!((1..=15).contains(&share), "{share} of 100");
    }

    fn an_upstream_without_an_address_is_named_in_the_log(backend) {
        let place = Place::new(backend);
        let route = json!({ "req_path": "/", "type": "reverse_proxy", "upstreams": ["nobody.invalid:80"] });
        place.configure([routes(HERE, json!([route]))]);
        let service = place.start();
        let mut wire = Wire::to(service.address());
        wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        // Without a network the name server may not answer at all.
        let status = wire.response().status;
        assert!(matches!(status, 502 | 504), "{status}");
        let record = service.first.log().wait_for("a warning", |record| record.message() == "upstream request failed");
        assert_eq!((record.level(), record.text("upstream")), ("WARN", Some("nobody.invalid:80")));
        assert_eq!(record.number("status"), Some(u64::from(status)));
    }

    fn if_all_are_unwell_requests_are_refused_at_once(backend) {
        let endpoints = [PAGE; 2].map(Endpoint::new);
        let (_place, service) = start(backend, &endpoints, &json!({ "active": active("http") }), 1);
        for endpoint in &endpoints {
            endpoint.set_unwell(true);
        }
        eventually("both are down", || metric(&service, DOWN) == 2);
        let mut wire = Wire::to(service.address());
        wire.send("GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(wire.response().status, 503);
        service.first.log().wait_for("a warning", |record| {
            record.level() == "WARN"
                && record.message() == "upstream request failed"
                && record.text("cause") == Some("no upstream is up")
        });
        assert_eq!(endpoints.iter().map(Endpoint::served).sum::<u64>(), 0);
    }
}
