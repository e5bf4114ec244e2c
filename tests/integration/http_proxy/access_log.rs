//! The access log of a proxy: each request leaves a line, however its connection ends.

use std::fs;
use std::path::PathBuf;

use crate::http_proxy::gateway::{GET, Gateway};
use crate::origin::Origin;
use crate::support::client::reset;
use crate::support::process::Signal;
use crate::support::{Backend, backends, eventually};

/// A proxy that logs into a file.
fn logging(backend: Backend, origin: &Origin, flags: &[&str]) -> (Gateway, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let words = ["--access-format", "json", "--access-log", log.to_str().expect("text")];
    let gateway = Gateway::new(backend, origin, &[&words, flags].concat());
    (gateway, log, folder)
}

/// The log's only line, once it is there.
#[track_caller]
fn line(log: &PathBuf) -> serde_json::Value {
    let text = || fs::read_to_string(log).unwrap_or_default();
    eventually("a line in the log", || text().ends_with('\n'));
    assert_eq!(text().lines().count(), 1, "{}", text());
    serde_json::from_str(&text()).expect("JSON")
}

backends! {
    fn row_37_a_client_that_leaves_before_an_answer_is_recorded_as_499(backend) {
        let origin = Origin::new();
        let (gateway, log, _folder) = logging(backend, &origin, &[]);
        let wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        reset(wire.stream);
        let line = line(&log);
        assert_eq!((&line["status"], &line["bytes"], &line["target"]), (&499.into(), &0.into(), &"/".into()));
        assert_eq!((&line["termination"], &line["tries"]), (&"CH".into(), &1.into()), "{line}");
        visit.expect_end();
    }

    fn row_37_a_client_that_leaves_in_the_middle_of_an_answer_is_recorded_with_what_it_was_sent(backend) {
        const SIZE: usize = 64 << 20;
        const TAKEN: usize = 1 << 20;
        let origin = Origin::new();
        let (gateway, log, _folder) = logging(backend, &origin, &[]);
        let mut wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        let answering = std::thread::spawn(move || {
            visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
            // Until the proxy has enough.
            let piece = vec![b'x'; 64 << 10];
            while std::io::Write::write_all(&mut visit.stream, &piece).is_ok() {}
        });
        wire.head_only();
        wire.take(TAKEN);
        reset(wire.stream);
        let line = line(&log);
        let bytes = line["bytes"].as_u64().expect("a number");
        assert!(line["status"] == 200 && (TAKEN..SIZE).contains(&(bytes as usize)), "{line}");
        assert_eq!(line["termination"], "CD");
        answering.join().expect("it ends");
    }

    fn row_37_a_client_that_takes_nothing_is_recorded_when_it_is_cut_off(backend) {
        let origin = Origin::new();
        let (gateway, log, _folder) = logging(backend, &origin, &["--send-timeout", "200ms"]);
        let wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        let answering = std::thread::spawn(move || {
            let piece = vec![b'x'; 64 << 10];
            while std::io::Write::write_all(&mut visit.stream, &piece).is_ok() {}
        });
        let line = line(&log);
        assert!(line["status"] == 200 && line["bytes"].as_u64().is_some_and(|bytes| bytes < 100_000_000), "{line}");
        assert_eq!(line["termination"], "cD");
        answering.join().expect("it ends");
        drop(wire);
    }

    fn row_37_a_request_under_way_when_the_server_stops_is_recorded(backend) {
        let origin = Origin::new();
        let (mut gateway, log, _folder) = logging(backend, &origin, &["--drain-timeout", "100ms"]);
        let wire = gateway.send(GET);
        let mut visit = origin.visit();
        visit.request();
        gateway.xps.signal(Signal::Terminate);
        gateway.xps.wait();
        let line = line(&log);
        assert_eq!((&line["status"], &line["termination"]), (&499.into(), &"KH".into()), "{line}");
        drop((wire, visit));
    }
}
