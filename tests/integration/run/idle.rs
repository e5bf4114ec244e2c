//! Idle connections to upstreams: who shares them, and what becomes of them when the configuration changes.

use serde_json::{Value, json};

use crate::origin::{Origin, Visit};
use crate::place::{Place, Service, routes};
use crate::support::{Backend, backends};
use crate::wire::Wire;

/// One worker, and a route to the upstream below each of these paths.
fn configure(place: &Place, paths: &[&str], origin: &Origin) {
    let address = origin.address().to_string();
    // Only the upstream ends them.
    let keepalive = json!({ "idle_timeout": "0s" });
    let route = |path: &&str| json!({ "req_path": path, "type": "reverse_proxy", "upstreams": [address], "keepalive": keepalive });
    let all: Vec<Value> = paths.iter().map(route).collect();
    place.configure_with([routes("127.0.0.1", json!(all))], |document| document["workers"] = json!(1));
}

#[track_caller]
fn start(backend: Backend, paths: &[&str], origin: &Origin) -> (Place, Service) {
    let place = Place::new(backend);
    configure(&place, paths, origin);
    let service = place.start();
    (place, service)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[track_caller]
fn ask(service: &Service, target: &str) -> Wire {
    let mut wire = Wire::to(service.address());
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    wire
}

#[track_caller]
fn serve(visit: &mut Visit, wire: &mut Wire) {
    visit.request();
    visit.send(OK);
    assert_eq!(wire.response().status, 200);
}

backends! {
    fn routes_to_one_address_share_them(backend) {
        let origin = Origin::new();
        let (_place, service) = start(backend, &["/a", "/b"], &origin);
        let mut wire = ask(&service, "/a");
        let mut visit = origin.visit();
        serve(&mut visit, &mut wire);
        serve(&mut visit, &mut ask(&service, "/b"));
        origin.expect_no_visit();
    }

    fn a_reload_keeps_those_to_upstreams_that_stay(backend) {
        let origin = Origin::new();
        let (place, service) = start(backend, &["/a"], &origin);
        let mut wire = ask(&service, "/a");
        let mut visit = origin.visit();
        serve(&mut visit, &mut wire);
        configure(&place, &["/b", "/c"], &origin);
        service.reload();
        serve(&mut visit, &mut ask(&service, "/c"));
        origin.expect_no_visit();
    }

    fn a_reload_closes_those_to_upstreams_that_are_gone(backend) {
        let (old, new) = (Origin::new(), Origin::new());
        let (place, service) = start(backend, &["/"], &old);
        let mut busy_wire = ask(&service, "/");
        let mut busy = old.visit();
        busy.request();
        let mut wire = ask(&service, "/");
        let mut idle = old.visit();
        serve(&mut idle, &mut wire);
        configure(&place, &["/"], &new);
        service.reload();
        idle.expect_end();
        // What is under way is finished, and its connection not kept.
        busy.send(OK);
        assert_eq!(busy_wire.response().status, 200);
        busy.expect_end();
        let mut wire = ask(&service, "/");
        serve(&mut new.visit(), &mut wire);
    }
}
