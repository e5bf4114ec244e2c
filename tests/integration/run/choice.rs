//! Which of several upstreams a request goes to, and by which name it is asked for there.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::place::{Place, Service, routes};
use crate::support::{Backend, Upstream, backends};
use crate::wire::Wire;

/// Answers one request with this, and the `Host` that it had.
fn answer(stream: impl Read + Write, name: &str) {
    let mut stream = BufReader::new(stream);
    let (mut host, mut line) = (String::new(), String::new());
    while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
        if let Some(value) = line.strip_prefix("Host: ") {
            value.trim_end().clone_into(&mut host);
        }
        line.clear();
    }
    let body = format!("{name} {host}");
    let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = stream.get_mut().write_all(answer.as_bytes());
}

fn over_tcp(name: &'static str) -> Upstream {
    Upstream::new(move |stream, _| answer(stream, name))
}

/// Serves until the test program ends.
fn over_unix(path: &Path, name: &'static str) {
    let listener = UnixListener::bind(path).expect("a path in a temporary folder");
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, name)));
}

/// A proxy of one worker before these, configured like this besides.
#[track_caller]
fn start(backend: Backend, upstreams: &[String], mut route: Value) -> (Place, Service) {
    let place = Place::new(backend);
    route["req_path"] = json!("/");
    route["type"] = json!("reverse_proxy");
    route["upstreams"] = json!(upstreams);
    place.configure_with([routes("127.0.0.1", json!([route]))], |document| document["workers"] = json!(1));
    let service = place.start();
    (place, service)
}

/// The answers to so many requests with these field lines.
#[track_caller]
fn answers(service: &Service, count: usize, fields: &str) -> Vec<String> {
    let mut wire = Wire::to(service.address());
    let ask = |_| {
        wire.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        wire.response().text()
    };
    let mut answers: Vec<String> = (0..count).map(ask).collect();
    answers.sort();
    answers
}

backends! {
    fn each_upstream_is_called_by_its_own_name(backend) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("app");
        over_unix(&path, "unix");
        let tcp = over_tcp("tcp");
        let upstreams = [tcp.address().to_string(), format!("unix:{}", path.display())];
        let (_place, service) = start(backend, &upstreams, json!({ "host": "upstream" }));
        assert_eq!(answers(&service, 2, ""), [format!("tcp {}", tcp.address()), "unix localhost".to_owned()]);
    }

    fn requests_without_the_field_that_decides_are_spread(backend) {
        let members = [over_tcp("a"), over_tcp("b")];
        let upstreams = members.each_ref().map(|member| member.address().to_string());
        let balance = json!({ "load_balancing": "header_hash", "hash_header": "X-Key" });
        let (_place, service) = start(backend, &upstreams, balance);
        assert_eq!(answers(&service, 4, ""), ["a h", "a h", "b h", "b h"]);
        let same = answers(&service, 4, "X-Key: 1\r\n");
        assert!(same.iter().all(|answer| *answer == same[0]), "{same:?}");
        let same = answers(&service, 4, "X-Key:\r\n");
        assert!(same.iter().all(|answer| *answer == same[0]), "{same:?}");
    }
}
